"""What people declare in code: tasks, operators, their implementations and costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

from opbench.schema.words import (
    DEVICES,
    DTYPES,
    MEMORY_FORMATS,
    Device,
    Dims,
    DType,
    MemoryFormat,
    Mode,
    Setting,
    Tensors,
)

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Cost:
    """Closed-form cost of one forward call at given dimensions.

    `macs` counts the multiply-accumulates of convolutions, linear layers, interpolation and the operator's own
    core; normalisation, activations and softmax are elementwise and are reported apart. `macs_training` is the forward
    call's where training computes something else: a detection head decodes boxes only in inference.
    `elements` is the least traffic possible: every input, parameter and output element moved exactly once.
    `derived=False` says that the MACs were counted, so that they are no evidence against a counter.
    """

    params: int
    macs: int
    macs_backward: int
    elements: int
    macs_training: int | None = None
    derived: bool = True

    def macs_of(self, mode: Mode) -> int:
        """One call's: training is forward and backward."""
        if mode == "inference":
            return self.macs
        return (self.macs if self.macs_training is None else self.macs_training) + self.macs_backward


# moved_bytes(arguments, outputs) -> bytes of one call of an operation: its arguments in order, the tensors it returned
MovedBytes = Callable[[Sequence[Any], "Sequence[torch.Tensor]"], int]


@dataclass(frozen=True)
class Implementation:
    """One way to compute an operator's core. `missing()` gives the reason why it can't run here, or None.

    `compiles` says that calls go through a compiler that torch's dispatcher doesn't see into (torch.compile): its
    memory can't be tracked by dispatch, and switching global modes around a call would compile it again.

    `dispatched` says whether each operation that moves bytes passes torch's dispatcher, so that they can be counted;
    left out, those of an implementation do that doesn't compile. An operation that moves more than its inputs and
    outputs once has its bytes in `traffic`, by its qualified name ("opbench::carafe_cpu_backward").

    `unexportable` is the reason why no exporter can write it down for another runtime, "" where they can. `exported`
    says that it is written for that: it competes in panels of other runtimes, and in torch's where it is asked for.

    `package` is the installed package whose operator it is: it competes wherever its operator does, unless a suite
    leaves it out.
    """

    name: str
    function: Callable[..., torch.Tensor] | None = None
    devices: tuple[Device, ...] = DEVICES
    dtypes: tuple[DType, ...] = DTYPES
    missing: Callable[[], str | None] = lambda: None
    deterministic_backward: bool = True
    compiles: bool = False
    note: str = ""
    dispatched: bool | None = None
    unexportable: str = ""
    exported: bool = False
    package: str = ""
    # No part of what an implementation is compared by: a mapping can't be hashed.
    traffic: Mapping[str, MovedBytes] = field(default_factory=dict, hash=False, compare=False)

    @property
    def obstacle_to_export(self) -> str:
        """Why no exporter can write it down, or ""."""
        return self.unexportable or ("it is compiled for torch" if self.compiles else "")

    @property
    def seen(self) -> bool:
        """Whether torch's dispatcher sees what it moves."""
        return not self.compiles if self.dispatched is None else self.dispatched


class ImplementationOptions(TypedDict, total=False):
    """What `register_implementation` takes beside names: the fields of `Implementation`, by the same names."""

    devices: tuple[Device, ...]
    dtypes: tuple[DType, ...]
    missing: Callable[[], str | None]
    deterministic_backward: bool
    compiles: bool
    note: str
    dispatched: bool | None
    unexportable: str
    exported: bool
    package: str
    traffic: Mapping[str, MovedBytes]


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
class Multiple:
    """The default of a dimension that follows another: `by` times the dimension `of`."""

    of: str
    by: int

    def __str__(self) -> str:
        return f"{self.by}{self.of}"


@dataclass(frozen=True)
class Task:
    """A slot in a network that contenders compete for.

    `dims` are the dimensions a workload must name, `defaults` those it may: a number, or a multiple of another
    dimension; `baseline` is a contender. `inputs` are
    those of every operator of the task that declares none of its own, and counters know its `formulas` in each. In a
    `deformable` task every contender is timed at each stated offset spread; in another one those operators are that
    say they are deformable. `memory_formats` are those that its inputs can have: an input (N, H, W, C) has one.
    """

    name: str
    title: str
    baseline: str
    dims: tuple[str, ...]
    defaults: Mapping[str, int | Multiple] = field(default_factory=dict)
    deformable: bool = False
    inputs: Inputs | None = None
    formulas: Mapping[str, Callable[[Sequence[Any]], int]] = field(default_factory=dict)
    memory_formats: tuple[MemoryFormat, ...] = MEMORY_FORMATS

    def given(self, dims: Mapping[str, int]) -> dict[str, int]:
        """Dimensions as they are named, then the defaults of those that aren't."""
        found = dict(dims)
        for name, default in self.defaults.items():
            if name not in found:
                found[name] = default.by * found[default.of] if isinstance(default, Multiple) else default
        return found


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
                                           ultralytics' YAML by their names
    aliases                             -> other names that such a line has in write-ups and forks; case, underscores
                                           and the endings _YOLO, _UP, Pack, 2d make no difference. They go before names
                                           of classes, and mean the first of `classes`
    replaces(kind, site, implementation) -> a module of one of these classes for a place in a network
                                           (`opbench.models.sites.Site`); left out: `module` at the place's size
    layer(module, shape in, shape out)  -> parameters and MACs of a module of these classes at any of its arguments
    learnt(module, tensors)             -> figures that training changes, of what the module hands its core, by name
    draws                               -> the values of settings that `opbench check` tries, the plainest first
    core                                -> the public function whose signature every core has
    core_definition                     -> what a core of its classes computes, with a core's signature, in any dtype:
                                           what whole networks of them are held to
    relations                           -> what `opbench check` holds it to besides (`opbench.relations.Relation`), the
                                           core's where `core` is given, else its module's: "package.module:NAME" of a
                                           tuple, or a function that returns one; loaded by that command alone
    constructor                         -> how the first of its classes is constructed at any of its own arguments
                                           (`opbench.constructors.Constructor`), for `opbench check`; left out, modules
                                           are judged at the slot's dimensions and the operator's settings
    anatomy                             -> how its core is recognised inside anybody's module
                                           (`opbench.anatomy.Anatomy`): "package.module:NAME"; loaded by `opbench check`
    subject                             -> the paper's name of what opbench is asked about: pages open on such
                                           operators, tables and charts accent them; left out: a rival among others
    show                                -> the function `(shot, image) -> Drawing` behind `opbench show`
                                           (`opbench.drawings`), or where it is; loaded by that command alone

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
    aliases: tuple[str, ...] = ()
    replaces: Callable[..., torch.nn.Module] | None = None
    layer: Callable[..., tuple[int, int]] | None = None
    learnt: Callable[..., Mapping[str, float]] | None = None
    draws: Mapping[str, tuple[Setting, ...]] = field(default_factory=dict)
    core: Callable[..., torch.Tensor] | None = None
    core_definition: Callable[..., torch.Tensor] | None = None
    relations: str | Callable[[], tuple[Any, ...]] = ""
    constructor: Any = None
    anatomy: str = ""
    subject: str = ""
    show: str | Callable[..., Any] = ""

    def given(self, dims: Dims) -> dict[str, Any]:
        """Dimensions with the operator's settings: those among them, else the defaults."""
        return {**self.settings, **dims}
