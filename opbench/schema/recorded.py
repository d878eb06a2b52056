"""What was found: verdicts, counts, memory, latencies, and the run that holds a record of every case."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from opbench.schema.planned import Case, Panel, Skipped
from opbench.schema.share import CoreShare
from opbench.schema.suites import Target
from opbench.schema.words import Device, DType, Setting

# Format history of the run document:
#   1  first version; non-finite floats are the strings "NaN", "Infinity" and "-Infinity"
#      since then, absent in older documents: targets, first_calls, settings.least_rounds, memory.held_bytes,
#      counts.dispatched, settings.replicas, verdict.basis, latency.sm_clock_mhz and latency.temperature_celsius
#   2: an operator's own settings stand in case.settings, where schema 1 had them among the dimensions of every
#      contender of its task. New: case.settings, case.variant, case.runtime, case.memory_format, and
#      settings.operator_settings; absent in older documents of schema 2: latency.waited, latency.left_out,
#      latency.phase, yardstick.fits_bytes, settings.share_cpu, probes, counts.traffic_bytes, record.artifact,
#      environment.share, case.across_runtimes, target.runtime, target.across_runtimes and nodes
SCHEMA_VERSION = 2

Outcome = Literal[
    "ok",
    "incorrect",
    "miscounted",
    "implausible",
    "raised",
    "out-of-memory",
    "crashed",
    "timed-out",
    "unsupported",
    "throttled",
    "disturbed",
]
StopReason = Literal["precision", "plateau", "budget", "throttled", "disturbed"]
# Of the machine while a figure was taken, by the probes beside it; "" where none were.
Phase = Literal["", "clear", "shared"]


# gc=False of what a run has a hundred thousand of: it can't be part of a cycle, and looking for one takes longer than
# reading the document.
class Worst(msgspec.Struct, frozen=True, gc=False):
    """The element closest to, or furthest beyond, its error bound."""

    tensor: str
    index: tuple[int, ...]
    expected: float
    got: float
    bound: float


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """Whether an output (and, in training mode, every gradient) meets the error bound against the definition.

    `worst_ratio` is the largest |error| / bound: correct means at most 1. `max_error` and `rms_error` are in units
    of eps * sum|terms| of the output. `judged` counts elements; `sampled` says that not all of them were judged.
    `basis` is what the bound was taken from where it could not be derived from the definition, and why.
    """

    correct: bool
    worst_ratio: float
    worst: Worst | None
    max_error: float
    rms_error: float
    judged: int
    sampled: bool
    reason: str = ""
    basis: str = ""


class Counted(msgspec.Struct, frozen=True, gc=False):
    """What one counter saw: MACs, and operations it has no formula for, with how often they ran."""

    macs: int | None
    unaccounted: dict[str, int] = {}
    note: str = ""


class Counts(msgspec.Struct, frozen=True, gc=False):
    """Parameters, MACs three ways and least traffic of one call; training counts forward and backward.

    `min_bytes` is the forward call's alone, in either mode: what a backward pass must move depends on what was kept.
    `dispatched` counts what the measured implementation sends through torch's dispatcher, by name. None: not recorded,
    or compiled code, which the dispatcher doesn't see. `traffic_bytes` are what these operations read and write
    (`opbench.measure.traffic`), in training those of forward and backward; None: not recorded, or out of its sight.
    """

    params: int
    macs: int
    min_bytes: int
    torch: Counted
    fvcore: Counted
    stock_torch: Counted
    stock_fvcore: Counted
    dispatched: dict[str, int] | None = None
    traffic_bytes: int | None = None


class Memory(msgspec.Struct, frozen=True, gc=False):
    """Peak bytes above inputs and parameters, and bytes kept for backward. None: not measured, `note` says why.

    `held_bytes` are those of the inputs, parameters and buffers themselves.
    """

    method: str
    peak_bytes: int | None
    saved_bytes: int | None
    predicted: bool = False
    note: str = ""
    held_bytes: int | None = None


class Latency(msgspec.Struct, frozen=True, gc=False):
    """Raw samples of one timing method: `samples_seconds[process][round]`, seconds per call.

    A sample is a block of `calls_per_sample` calls. Round r of a process pairs with round r of every contender of
    the panel in that process: ratios are taken within a round. A sample that is NaN was discarded: the GPU throttled
    or the clock jumped; a process without samples could not time this contender. `first_call_seconds` holds compile
    and autotune, in the first process. With several processes `stop` is the least satisfied one's. On CUDA the SM
    clock and the temperature after each sample are kept, laid out like the samples; on the CPU `waited`: the share of
    each block's time, in thousandths, that its threads were ready to run and had no core. Figures are of the rounds of
    one `phase` of the machine in which neither this contender nor its baseline waited: `left_out[process]` names all
    others, which are kept as they were measured.
    """

    method: str
    calls_per_sample: int
    samples_seconds: tuple[tuple[float, ...], ...]
    first_call_seconds: float
    stop: StopReason
    sm_clock_mhz: tuple[tuple[float, ...], ...] = ()
    temperature_celsius: tuple[tuple[float, ...], ...] = ()
    waited: tuple[tuple[int, ...], ...] = ()
    left_out: tuple[tuple[int, ...], ...] = ()
    phase: Phase = ""

    @property
    def used_seconds(self) -> tuple[tuple[float, ...], ...]:
        """The samples that figures are of: NaN in the place of those that are left out."""
        if not self.left_out:
            return self.samples_seconds
        gone = map(frozenset, self.left_out)
        return tuple(
            tuple(math.nan if at in out else sample for at, sample in enumerate(samples))
            for samples, out in zip(self.samples_seconds, gone, strict=True)
        )


class Artifact(msgspec.Struct, frozen=True, gc=False):
    """What a runtime executes in a module's place: who wrote it, its bytes, operations, and seconds to load it."""

    exporter: str
    bytes: int
    nodes: int
    load_seconds: float


class Record(msgspec.Struct, frozen=True, gc=False):
    """One case's outcome: a full measurement or a named failure with its message."""

    case: Case
    outcome: Outcome
    message: str = ""
    verdict: Verdict | None = None
    final_verdict: Verdict | None = None
    counts: Counts | None = None
    memory: Memory | None = None
    latencies: tuple[Latency, ...] = ()
    notes: tuple[str, ...] = ()
    artifact: Artifact | None = None


class Yardstick(msgspec.Struct, frozen=True, gc=False):
    """A limit of the machine, measured in the same run.

    copy: beyond the caches. copy-cached: within them, the limit of what moves up to `fits_bytes`. matmul: the fastest
    matrix product of the dtype, by whatever route.
    """

    name: Literal["copy", "copy-cached", "matmul"]
    device: Device
    dtype: DType
    unit: Literal["bytes/second", "macs/second"]
    samples: tuple[float, ...]
    fits_bytes: int | None = None


class ProbedPanel(msgspec.Struct, frozen=True, gc=False):
    """The probes beside a panel in one process, round by round, in nanoseconds (see `opbench.measure.probes`).

    0 where the cores never ran together.
    """

    panel: str
    process: int
    integers: tuple[int, ...]
    copy: tuple[int, ...]
    product: tuple[int, ...]


class FirstCall(msgspec.Struct, frozen=True, gc=False):
    """Seconds of a case's first call, each in a process of its own: nothing compiled yet, and from the caches."""

    case: str
    cold_seconds: tuple[float, ...]
    cached_seconds: tuple[float, ...]
    note: str = ""


# Two runs whose environments carry the same text under this detail were measured in turns: their rounds pair up.
PAIRED = "paired run"


class Environment(msgspec.Struct, frozen=True):
    """Where a run was taken. Free-form sections keep whatever the platform reports.

    `share` of the cores is part of what makes two runs comparable; None: not recorded.
    """

    machine: str
    cpu: str
    cores: int
    threads: int
    memory_bytes: int
    gpu: str | None
    python: str
    platform: str
    commit: str | None
    dirty: bool | None
    versions: dict[str, str]
    details: dict[str, str] = {}
    share: CoreShare | None = None


class Settings(msgspec.Struct, frozen=True):
    """What was asked for. `precision`: relative half-width of a ratio's 95 % interval.

    `share_cpu`: other processes may have had the cores, and no round is left out for it. `replicas` is the number of
    visits of each panel, each in a fresh process; the budget is the panel's, over all of them (in documents of
    earlier versions with several replicas, of each process).
    """

    suite: str
    precision: float
    budget_seconds: float
    seed: int = 0
    filters: dict[str, tuple[str, ...]] = {}
    extensions: tuple[str, ...] = ()
    least_rounds: int = 1
    replicas: int = 1
    operator_settings: dict[str, dict[str, Setting]] = {}
    share_cpu: bool = False


class NodeVisit(msgspec.Struct, frozen=True, gc=False):
    """A panel's visit by a process, and the seconds that it took with all that was lost on the way."""

    panel: str
    process: int
    wall_seconds: float


class Node(msgspec.Struct, frozen=True):
    """A machine of a fleet: what it is, what it can do, and which visits of which panels were measured on it."""

    name: str
    environment: Environment
    yardsticks: tuple[Yardstick, ...]
    visits: tuple[NodeVisit, ...]


class Run(msgspec.Struct, frozen=True):
    """One run document: environment, settings and records. `called_seconds` was spent in measured or verified calls.

    Of a run over a fleet `nodes` are its machines, none of which differs from `environment` in what times depend on;
    `wall_seconds` are those of all of them together, and a yardstick has the samples of each.
    """

    schema_version: int
    settings: Settings
    environment: Environment
    command: str
    started: str
    wall_seconds: float
    called_seconds: float
    panels: tuple[Panel, ...]
    records: tuple[Record, ...]
    skipped: tuple[Skipped, ...]
    yardsticks: tuple[Yardstick, ...] = ()
    targets: tuple[Target, ...] = ()
    first_calls: tuple[FirstCall, ...] = ()
    probes: tuple[ProbedPanel, ...] = ()
    nodes: tuple[Node, ...] = ()
