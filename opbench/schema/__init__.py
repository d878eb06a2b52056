"""The nouns of opbench, one frozen type each. They import nothing else from the project but `opbench.errors`.

`declared` is written by people and holds callables, `suites` is what their suite files say. `planned` and `recorded`
are data: planned, measured and stored in a run document; `trials` are stored in a selfcheck document. All are taken
from here: `from opbench.schema import Case`.

Units are in the names: `seconds`, `bytes`, `macs`. One MAC (multiply-accumulate) is two FLOPs.
Dimensions use the letters of the papers: N batch, C channels, O output channels, H and W input size, s scale factor,
k kernel size, g CARAFE groups, G DCNv3 groups.
"""

from opbench.errors import OpbenchError
from opbench.schema.declared import (
    RUNNING,
    Cost,
    Implementation,
    Inputs,
    MovedBytes,
    Multiple,
    Operator,
    Task,
    Terms,
)
from opbench.schema.planned import (
    DEFAULT_MEMORY_FORMAT,
    DEFAULT_RUNTIME,
    Case,
    Panel,
    Plan,
    Skipped,
    runtime_part,
    spread_part,
)
from opbench.schema.recorded import (
    PAIRED,
    SCHEMA_VERSION,
    Artifact,
    Counted,
    Counts,
    Environment,
    FirstCall,
    Latency,
    Memory,
    Node,
    NodeVisit,
    Outcome,
    Phase,
    ProbedPanel,
    Record,
    Run,
    Settings,
    StopReason,
    Verdict,
    Worst,
    Yardstick,
)
from opbench.schema.share import CoreShare, shares_differ
from opbench.schema.suites import Quantity, Suite, Target, Workload
from opbench.schema.trials import BestProbes, Called, LayoutTrial, Selfcheck, Trial
from opbench.schema.words import DEVICES, DTYPES, MODES, Device, Dims, DType, Filter, Mode, Setting, Tensors

__all__ = [
    "DEFAULT_MEMORY_FORMAT",
    "DEFAULT_RUNTIME",
    "DEVICES",
    "DTYPES",
    "MODES",
    "PAIRED",
    "RUNNING",
    "SCHEMA_VERSION",
    "Artifact",
    "BestProbes",
    "Called",
    "Case",
    "CoreShare",
    "Cost",
    "Counted",
    "Counts",
    "DType",
    "Device",
    "Dims",
    "Environment",
    "Filter",
    "FirstCall",
    "Implementation",
    "Inputs",
    "Latency",
    "LayoutTrial",
    "Memory",
    "Mode",
    "MovedBytes",
    "Multiple",
    "Node",
    "NodeVisit",
    "OpbenchError",
    "Operator",
    "Outcome",
    "Panel",
    "Phase",
    "Plan",
    "ProbedPanel",
    "Quantity",
    "Record",
    "Run",
    "Selfcheck",
    "Setting",
    "Settings",
    "Skipped",
    "StopReason",
    "Suite",
    "Target",
    "Task",
    "Tensors",
    "Terms",
    "Trial",
    "Verdict",
    "Workload",
    "Worst",
    "Yardstick",
    "runtime_part",
    "shares_differ",
    "spread_part",
]
