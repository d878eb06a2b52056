"""The nouns of opbench, one frozen type each. This module imports nothing else from the project.

Declarations (`Task`, `Operator`, `Implementation`, `Workload`, `Suite`) are written by people and hold
callables. Everything from `Case` on is data: it is planned, measured and stored in a run document.

Units are in the names: `seconds`, `bytes`, `macs`. One MAC (multiply-accumulate) is two FLOPs.
Dimensions use the letters of the papers: N batch, C channels, H and W input size, s scale factor,
k kernel size, g CARAFE groups, G DCNv3 groups.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    import torch

# Format history of the run document:
#   1  first version; non-finite floats are the strings "NaN", "Infinity" and "-Infinity"
#      since then, absent in older documents: targets, first_calls, settings.least_rounds, memory.held_bytes,
#      counts.dispatched, settings.replicas, verdict.basis, latency.sm_clock_mhz and latency.temperature_celsius
#   2: an operator's own settings stand in case.settings, where schema 1 had them among the dimensions of every
#      contender of its task. New: case.settings, case.variant, case.runtime, case.memory_format, and
#      settings.operator_settings
SCHEMA_VERSION = 2

Setting = bool | int | float | str
# Of a task, by name; what an operator is called with holds its own settings too.
Dims = Mapping[str, Any]
Tensors = Mapping[str, "torch.Tensor"]
Device = Literal["cpu", "cuda"]
Mode = Literal["inference", "training"]
DType = Literal["float64", "float32", "bfloat16", "float16"]
# What a run can be narrowed to.
Filter = Literal["task", "workload", "operator", "implementation", "dtype", "device", "mode"]

DEVICES: tuple[Device, ...] = ("cpu", "cuda")
MODES: tuple[Mode, ...] = ("inference", "training")
DTYPES: tuple[DType, ...] = ("float64", "float32", "bfloat16", "float16")


class OpbenchError(Exception):
    """What a user can mend: wrong usage or unreadable input. The command line prints it in one line, exit code 2."""


# --- Declarations -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """Closed-form cost of one forward call at given dimensions.

    `macs` counts the multiply-accumulates of convolutions, linear layers, interpolation and the operator's own
    core; normalisation, activations and softmax are elementwise and are reported apart. `macs_training` is the forward
    call's where training computes something else: a detection head decodes boxes only in inference.
    `elements` is the least traffic possible: every input, parameter and output element moved exactly once.
    """

    params: int
    macs: int
    macs_backward: int
    elements: int
    macs_training: int | None = None

    def macs_of(self, mode: Mode) -> int:
        """One call's: training is forward and backward."""
        if mode == "inference":
            return self.macs
        return (self.macs if self.macs_training is None else self.macs_training) + self.macs_backward


@dataclass(frozen=True)
class Implementation:
    """One way to compute an operator's core. `missing()` gives the reason why it can't run here, or None.

    `compiles` says that calls go through a compiler that torch's dispatcher doesn't see into (torch.compile): its
    memory can't be tracked by dispatch, and switching global modes around a call would compile it again.
    """

    name: str
    function: Callable[..., torch.Tensor] | None = None
    devices: tuple[Device, ...] = DEVICES
    dtypes: tuple[DType, ...] = DTYPES
    missing: Callable[[], str | None] = lambda: None
    deterministic_backward: bool = True
    compiles: bool = False
    note: str = ""


@dataclass(frozen=True)
class Terms:
    """What the rounding error of one tensor is measured against, element by element.

    Each element is a sum of `count` terms and `total` is the sum of their absolute values (for a definition that is
    not a plain sum: its first-order sensitivity to rounding). `coordinates` adds what rounding a sampling location
    comes to; locations are computed in float32 at least, whatever the dtype. `slack` is an absolute allowance where
    two answers are both right: the one-sided derivatives of bilinear sampling at a kink. `bound` is the largest
    permitted |error| itself where it was derived from the definition; then the other parts don't make it.
    """

    total: torch.Tensor
    count: int
    slack: torch.Tensor | None = None
    coordinates: torch.Tensor | None = None
    bound: torch.Tensor | None = None


# inputs(dims, spread, generator) -> float64 tensors by name, in call order
Inputs = Callable[[Dims, float, "torch.Generator"], dict[str, "torch.Tensor"]]


@dataclass(frozen=True)
class Task:
    """A slot in a network that contenders compete for.

    `dims` are the dimensions a workload must name, `defaults` those it may; `baseline` is a contender. `inputs` are
    those of every operator of the task that declares none of its own, and counters know its `formulas` in each. In a
    `deformable` task every contender is timed at each stated offset spread; in another one those operators are that
    say they are deformable.
    """

    name: str
    title: str
    baseline: str
    dims: tuple[str, ...]
    defaults: Mapping[str, int] = field(default_factory=dict)
    deformable: bool = False
    inputs: Inputs | None = None
    formulas: Mapping[str, Callable[[Sequence[Any]], int]] = field(default_factory=dict)


# The buffers that every norm updates as it trains.
RUNNING = ("running_mean", "running_var")


@dataclass(frozen=True, kw_only=True)
class Operator:
    """A mathematical function that competes in a task.

    `name`, `task`, `module`, `definition` and `cost` must be given; the rest has a default that works.

    Everything an operator computes with has a name: its inputs (`x`, `mask`, `offset`) and, for modules, the
    parameters and buffers under their state-dict names. `definition` maps these names to the output in whatever
    dtype they come in (float64 for the verdict), written from the paper and independent of every implementation.

    `dims` are the task's dimensions and the operator's own `settings`, by name. Those are given with their defaults,
    have names of their own, and belong to a case's identity where they are not the defaults: another operator of the
    task stays comparable with older runs. `deformable` says that its samples are displaced.

    inputs(dims, spread, generator)     -> float64 input tensors on the CPU, in call order; `spread` is the standard
                                           deviation of the sampling offsets in pixels, ignored by rigid operators.
                                           Left out: those of the task
    module(dims, implementation)        -> the torch.nn.Module that is measured; called with the inputs in order
    definition(dims, tensors, training) -> the output. It is evaluated on meta tensors too, so it may not read values
                                           (`.item()`) or let shapes depend on them; and a sample's cell is found by
                                           `torch.floor`, whose kinks the verdict knows. `build` refuses others
    magnitude(dims, tensors, grad_output) -> the `Terms` of "output" and, given grad_output, of the gradient of each
                                           named tensor: the unit that accuracy is reported in, where the definition
                                           is a plain sum. Bounds are derived from the definition itself
    samples                             -> how many evaluations estimate the definition's sensitivity to rounding
                                           where no bound can be derived; more than the default ask for bounds from
                                           drawn roundings instead of derived ones, as a whole network does
    prepare(module, dims, spread, generator, x) sets what the generic parameter draw can't: the offset branch
    drawn                               -> the buffers that are drawn like parameters, by the end of their names; all
                                           others are constants of the module, and stay as it made them
    requires(dims)                      -> why the operator can't run at these dimensions, or None

    What the rest of opbench does with an operator it asks of these, and does without where they are left out:

    preferred                           -> the implementations that "auto" takes, the first that runs on the device
    classes                             -> the module classes it stands for, which hold their core as `implementation`:
                                           counted as such in a network, their offsets spread, and parsed in
                                           ultralytics' YAML by the name of the first
    replaces(kind, site, implementation) -> a module of one of these classes for a place in a network
                                           (`opbench.models.sites.Site`); left out: `module` at the place's size
    layer(module, shape in, shape out)  -> parameters and MACs of a module of these classes at any of its arguments
    learnt(module, tensors)             -> figures that training changes, of what the module hands its core, by name
    draws                               -> the values of settings that `opbench check` tries, the plainest first
    core                                -> the public function whose signature every core has
    relations                           -> "package.module:NAME" of what `opbench check` holds a core to besides
    show                                -> the function `(shot, image) -> SVG text` behind `opbench show`, or where it
                                           is; loaded by that command alone

    Counters see a core only if it is one dispatched operation. `counting` is such an implementation (a
    `torch.library` operation that allocates its output and computes nothing); `formulas` maps the qualified names of
    these operations ("opbench::carafe_core", and its backward) to MACs, given the call's arguments in order with
    each tensor replaced by its shape.
    """

    name: str
    task: str
    module: Callable[[Dims, Implementation], torch.nn.Module]
    definition: Callable[[Dims, Tensors, bool], torch.Tensor]
    cost: Callable[[Dims], Cost]
    title: str = ""
    source: str = ""
    inputs: Inputs | None = None
    implementations: Mapping[str, Implementation] = field(default_factory=lambda: {"torch": Implementation("torch")})
    settings: Mapping[str, Setting] = field(default_factory=dict)
    deformable: bool = False
    drawn: tuple[str, ...] = RUNNING
    magnitude: Callable[[Dims, Tensors, torch.Tensor | None], dict[str, Terms]] | None = None
    samples: int = 3
    prepare: Callable[[torch.nn.Module, Dims, float, torch.Generator, torch.Tensor], None] | None = None
    requires: Callable[[Dims], str | None] = lambda dims: None
    counting: Implementation | None = None
    formulas: Mapping[str, Callable[[Sequence[Any]], int]] = field(default_factory=dict)
    preferred: tuple[str, ...] = ()
    classes: tuple[type, ...] = ()
    replaces: Callable[..., torch.nn.Module] | None = None
    layer: Callable[..., tuple[int, int]] | None = None
    learnt: Callable[..., Mapping[str, float]] | None = None
    draws: Mapping[str, tuple[Setting, ...]] = field(default_factory=dict)
    core: Callable[..., torch.Tensor] | None = None
    relations: str = ""
    show: str | Callable[..., str] = ""

    def given(self, dims: Dims) -> dict[str, Any]:
        """Dimensions with the operator's settings: those among them, else the defaults."""
        return {**self.settings, **dims}


class Workload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Named dimensions of a task, with the source they come from; `settings` are operators' own, by operator."""

    task: str
    name: str
    source: str
    dims: dict[str, int]
    contenders: tuple[str, ...] = ()
    dtypes: tuple[DType, ...] = ()
    devices: tuple[Device, ...] = ()
    modes: tuple[Mode, ...] = ()
    spreads: tuple[float, ...] = ()
    settings: dict[str, dict[str, Setting]] = {}


Quantity = Literal["speed-up", "roofline", "memory", "first-call-cold", "first-call-cached"]


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a contender is meant to reach on a workload: `at_least` or `at_most`.

    speed-up: latency of `against` (else of the baseline) over the contender's. roofline: latency over the least time
    that the machine's yardsticks allow. memory: inputs, parameters and peak over the closed form's least bytes.
    first-call-*: seconds of the first call in a fresh process, nothing compiled yet, or from the compiler's cache.
    """

    quantity: Quantity
    task: str
    workload: str
    contender: str
    against: str = ""
    mode: Mode = "inference"
    dtype: DType = "float32"
    device: Device = "cpu"
    at_least: float | None = None
    at_most: float | None = None


class Suite(msgspec.Struct, frozen=True):
    """A named list of workloads: what one run measures, how precisely unless told otherwise, and what is hoped for.

    `least_rounds` are measured however long they take: an interval needs a few, even of a very slow baseline.
    """

    name: str
    title: str
    workloads: tuple[Workload, ...]
    precision: float = 0.01
    budget_seconds: float = 6.0
    least_rounds: int = 1
    targets: tuple[Target, ...] = ()


# --- Planned ----------------------------------------------------------------------------------------------------


DEFAULT_RUNTIME = "torch"
DEFAULT_MEMORY_FORMAT = "contiguous"


def spread_part(spread: float) -> str:
    """An offset spread as it stands in a case's id."""
    return f"spread={spread:g}px"


# gc=False: it can't be part of a cycle, and histories hold hundreds of thousands.
class Case(msgspec.Struct, frozen=True, gc=False):
    """One contender on one workload in one dtype, device and mode; `id` is stable across runs and machines.

    `settings` are all of the operator's own. `variant` is what tells the contender from the same one as it is by
    default: settings that were asked for, and its own offset spread in a task that has none ("spread=2px").
    """

    task: str
    workload: str
    operator: str
    implementation: str
    dims: dict[str, int]
    dtype: DType
    device: Device
    mode: Mode
    spread: float | None = None
    seed: int = 0
    settings: dict[str, Setting] = {}
    variant: tuple[str, ...] = ()
    runtime: str = DEFAULT_RUNTIME
    memory_format: str = DEFAULT_MEMORY_FORMAT

    @property
    def contender(self) -> str:
        """`operator[implementation]` and its variant: `carafe[shift-add]`, `dysample[cpu]/spread=2px`."""
        return "/".join((f"{self.operator}[{self.implementation}]", *self.variant))

    @property
    def panel_id(self) -> str:
        """What the case shares with everything it is measured against."""
        parts = [self.task, self.workload, self.dtype, self.device, self.mode]
        if self.runtime != DEFAULT_RUNTIME:
            parts.append(self.runtime)
        if self.memory_format != DEFAULT_MEMORY_FORMAT:
            parts.append(self.memory_format)
        if self.spread is not None and spread_part(self.spread) not in self.variant:
            parts.append(spread_part(self.spread))
        if self.seed:
            parts.append(f"seed={self.seed}")
        return "/".join(parts)

    @property
    def id(self) -> str:
        """The one stable name of the case."""
        return f"{self.panel_id}/{self.contender}"


class Panel(msgspec.Struct, frozen=True):
    """All cases that differ only in contender: measured together, interleaved, in one process. Baseline first."""

    id: str
    source: str
    baseline: str
    cases: tuple[Case, ...]

    @property
    def sizes(self) -> dict[str, Setting]:
        """The dimensions of its cases, and the operators' own settings that no two of them have differently."""
        found: dict[str, Setting] = dict(self.cases[0].dims)
        named = [item for case in self.cases for item in case.settings.items()]
        values: dict[str, set[Setting]] = {}
        for name, value in named:
            values.setdefault(name, set()).add(value)
        return {**found, **{name: value for name, value in named if len(values[name]) == 1}}


class Skipped(msgspec.Struct, frozen=True):
    """A case that was planned away, and why."""

    case: str
    reason: str

    @property
    def contender(self) -> str:
        """The contender, its variant included: from the last part of the id that names an implementation."""
        parts = self.case.split("/")
        named = max((place for place, part in enumerate(parts) if part.endswith("]")), default=len(parts) - 1)
        return "/".join(parts[named:])

    @property
    def panel(self) -> str:
        """The id of the panel."""
        return self.case[: -len(self.contender)].rstrip("/")


class Plan(msgspec.Struct, frozen=True):
    """Which cases a run will measure, and which it can't."""

    suite: str
    panels: tuple[Panel, ...]
    skipped: tuple[Skipped, ...]
    targets: tuple[Target, ...] = ()


# --- Measured ---------------------------------------------------------------------------------------------------

Outcome = Literal["ok", "incorrect", "raised", "out-of-memory", "crashed", "timed-out", "unsupported", "throttled"]
StopReason = Literal["precision", "plateau", "budget", "throttled"]


class Worst(msgspec.Struct, frozen=True):
    """The element closest to, or furthest beyond, its error bound."""

    tensor: str
    index: tuple[int, ...]
    expected: float
    got: float
    bound: float


class Verdict(msgspec.Struct, frozen=True):
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


class Counted(msgspec.Struct, frozen=True):
    """What one counter saw: MACs, and operations it has no formula for, with how often they ran."""

    macs: int | None
    unaccounted: dict[str, int] = {}
    note: str = ""


class Counts(msgspec.Struct, frozen=True):
    """Parameters, MACs three ways and least traffic of one call; training counts forward and backward.

    `min_bytes` is the forward call's alone, in either mode: what a backward pass must move depends on what was kept.
    `dispatched` counts what the measured implementation sends through torch's dispatcher, by name. None: not recorded,
    or compiled code, which the dispatcher doesn't see.
    """

    params: int
    macs: int
    min_bytes: int
    torch: Counted
    fvcore: Counted
    stock_torch: Counted
    stock_fvcore: Counted
    dispatched: dict[str, int] | None = None


class Memory(msgspec.Struct, frozen=True):
    """Peak bytes above inputs and parameters, and bytes kept for backward. None: not measured, `note` says why.

    `held_bytes` are those of the inputs, parameters and buffers themselves.
    """

    method: str
    peak_bytes: int | None
    saved_bytes: int | None
    predicted: bool = False
    note: str = ""
    held_bytes: int | None = None


class Latency(msgspec.Struct, frozen=True):
    """Raw samples of one timing method: `samples_seconds[process][round]`, seconds per call.

    A sample is a block of `calls_per_sample` calls. Round r of a process pairs with round r of every contender of
    the panel in that process: ratios are taken within a round. A sample that is NaN was discarded: the GPU throttled
    or the clock jumped; a process without samples could not time this contender. `first_call_seconds` holds compile
    and autotune, in the first process. With several processes `stop` is the least satisfied one's. On CUDA the SM
    clock and the temperature after each sample are kept, laid out like the samples.
    """

    method: str
    calls_per_sample: int
    samples_seconds: tuple[tuple[float, ...], ...]
    first_call_seconds: float
    stop: StopReason
    sm_clock_mhz: tuple[tuple[float, ...], ...] = ()
    temperature_celsius: tuple[tuple[float, ...], ...] = ()


class Record(msgspec.Struct, frozen=True):
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


class Yardstick(msgspec.Struct, frozen=True):
    """A limit of the machine, measured in the same run: a large copy or a large matrix product."""

    name: Literal["copy", "matmul"]
    device: Device
    dtype: DType
    unit: Literal["bytes/second", "macs/second"]
    samples: tuple[float, ...]


class FirstCall(msgspec.Struct, frozen=True):
    """Seconds of a case's first call, each in a process of its own: nothing compiled yet, and from the caches."""

    case: str
    cold_seconds: tuple[float, ...]
    cached_seconds: tuple[float, ...]
    note: str = ""


# Two runs whose environments carry the same text under this detail were measured in turns: their rounds pair up.
PAIRED = "paired run"


class Environment(msgspec.Struct, frozen=True):
    """Where a run was taken. Free-form sections keep whatever the platform reports."""

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


class Settings(msgspec.Struct, frozen=True):
    """What was asked for. `precision`: relative half-width of a ratio's 95 % interval.

    The budget is per panel and process. `replicas` is the number of fresh processes that each panel is measured in.
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


class Run(msgspec.Struct, frozen=True):
    """One run document: environment, settings and records. `called_seconds` was spent in measured or verified calls."""

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


# --- Selfcheck --------------------------------------------------------------------------------------------------


class Called(msgspec.Struct, frozen=True):
    """What one rival method made of a pair: `seconds` of measuring, second / first, and its verdict."""

    method: str
    seconds: float
    ratio: float
    verdict: Literal["regressed", "improved", "same", "undecided"]


class Trial(msgspec.Struct, frozen=True):
    """Two contenders timed in turns, the second slower by the planted share `effect` (0: the very same work).

    Raw samples in nanoseconds per block, round by round. A block in which the kernel gave the core to somebody else was
    taken again up to three times, `retaken` in all; `interrupted` names the rounds that stayed so. `loaded`: another
    process kept one core busy meanwhile. Trials of the same `contender` and different `process` are replicas. An
    `effect` of None pairs two contenders of different work, for how far the same ratio moves from process to process.
    """

    contender: str
    effect: float | None
    loaded: bool
    process: int
    first_nanoseconds: tuple[int, ...]
    second_nanoseconds: tuple[int, ...]
    interrupted: tuple[int, ...]
    retaken: int
    seconds: float
    stop: StopReason
    rivals: tuple[Called, ...] = ()


class Selfcheck(msgspec.Struct, frozen=True):
    """What a machine can tell apart: trials of identical and of slowed-down code, and where they were taken."""

    schema_version: int
    environment: Environment
    command: str
    started: str
    wall_seconds: float
    precision: float
    budget_seconds: float
    trials: tuple[Trial, ...]
