"""CARAFE, content-aware reassembly of features (Wang et al. 2019, arXiv 1905.02188): the function and its two modules.

`CARAFE` is the module of the paper and its official package, `YoloCARAFE` the one of the YOLOv8 write-up; the weights
of either load. Both predict a mask from the input and reassemble the input under it with `carafe`, which computes the
same function whatever the implementation. Adding one takes a function with the core's signature,
`(x, mask, *, kernel_size, group_size, scale_factor) -> out`, and an entry in `IMPLEMENTATIONS`.
"""

from opbench.kernels.cpu.carafe import carafe_cpu
from opbench.kernels.triton.carafe import carafe_triton
from opbench.operators.carafe import carafe_core, upsample2x
from opbench.operators.carafe.contraction import compiled
from opbench.operators.carafe.cores import shift_add, unfold
from opbench.operators.carafe.function import carafe
from opbench.operators.carafe.implementations import IMPLEMENTATIONS
from opbench.operators.carafe.module import CARAFE, YoloCARAFE, _ConvBN
from opbench.operators.external.peers import CARAFE_PEERS

TASKS = (carafe_core.TASK,)
OPERATORS = (carafe_core.OPERATOR, upsample2x.MODULE, upsample2x.YOLO_MODULE)

# _ConvBN: models saved whole name it here.
__all__ = [
    "CARAFE",
    "CARAFE_PEERS",
    "IMPLEMENTATIONS",
    "OPERATORS",
    "TASKS",
    "YoloCARAFE",
    "_ConvBN",
    "carafe",
    "carafe_cpu",
    "carafe_triton",
    "compiled",
    "shift_add",
    "unfold",
]
