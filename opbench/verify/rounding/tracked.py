"""A float64 tensor that knows the variance of its rounding error: what a definition is called with.

Every operation that reaches torch's dispatcher is looked up in RULES, autograd's backward passes included; so a
definition is analysed as it stands, and its gradients with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_any, tree_map_only

from opbench.verify.rounding.arithmetic import Arithmetic, Spread

if TYPE_CHECKING:
    from opbench.verify.rounding.kinks import Uncertain


class Unanalysed(Exception):
    """An operation that there is no rule for."""


@dataclass(frozen=True)
class Sum:
    """What is known of a value that is a sum whose last rounding is still to come.

    `count` terms with `squares`, the sum of their squares, take at most `roundings`, those of products included.
    `joins` is how many sums the definition added together; `peak`, the largest square of a partial sum seen, is the
    value's own square where None. `scattered`: terms were added into memory, which is of the stored type. `layer`: a
    product of matrices or a convolution is among them, whose result a half type stores.
    """

    count: int
    squares: Tensor
    peak: Tensor | None = None
    joins: int = 1
    roundings: int = 1
    scattered: bool = False
    layer: bool = False


class Tracked(Tensor):
    """`value`, and the `spread` of its error (None: exact); `sum_` while it is a sum that is still added to.

    `whole`: a cell's number, whose error is its coordinate's; it is compared as it stands.
    """

    value: Tensor
    spread: Spread | None
    sum_: Sum | None
    whole: bool

    @staticmethod
    def __new__(cls: type[Tracked], value: Tensor, spread: Spread | None = None, sum_: Sum | None = None) -> Tracked:
        """As large as its value."""
        made: Tracked = torch.Tensor._make_wrapper_subclass(
            cls, value.size(), strides=value.stride(), storage_offset=value.storage_offset(), dtype=value.dtype,
            layout=value.layout, device=value.device,
        )  # fmt: skip
        made.value, made.spread, made.sum_, made.whole = value, spread, sum_, False
        return made

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Tracked({self.value})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        rule = RULES.get(func)
        if rule is None:
            rule = RULES.get(func.overloadpacket)
        if rule is not None:
            return rule(func, *args, **kwargs)
        if not tree_any(lambda one: isinstance(one, Tracked) and one.value.is_floating_point(), (args, kwargs)):
            return func(*tree_map_only(Tracked, lambda t: t.value, args), **kwargs)
        parts = func.decompose(*args, **kwargs)
        if parts is NotImplemented:
            raise Unanalysed(f"there is no rule for {func}")
        return parts


Rule = Callable[..., Any]
# Filled by the modules beside this one, by the operation (all its overloads, unless one has its own).
RULES: dict[Any, Rule] = {}


def rule(*operations: Any) -> Callable[[Rule], Rule]:
    """Registers a function as what these operations do: called with the operation and its arguments."""

    def register(function: Rule) -> Rule:
        for operation in operations:
            RULES[operation] = function
        return function

    return register


class Analysis:
    """One analysis: the arithmetic whose roundings it counts, and the coordinates that it met.

    `located` holds, for each operation that jumps (`kinks.JUMPS`) in the order of the calls, what elements of its
    operand may fall on either side. With a `generator` roundings are drawn instead: each value is off by a random
    error as soon as its spread is known. `averages`: how often it takes the mean of many elements.
    """

    def __init__(self, arithmetic: Arithmetic, generator: torch.Generator | None = None) -> None:
        self.arithmetic = arithmetic
        self.generator = generator
        self.located: list[Uncertain] = []
        self.averages = 0

    @property
    def backward(self) -> bool:
        """Whether autograd is differentiating just now."""
        return bool(torch._C._current_graph_task_id() != -1)


_ANALYSIS: ContextVar[Analysis] = ContextVar("analysis")


@contextmanager
def analysing(arithmetic: Arithmetic, generator: torch.Generator | None = None) -> Iterator[Analysis]:
    """What is called inside counts the roundings of this arithmetic, or with a generator draws them."""
    analysis = Analysis(arithmetic, generator)
    token = _ANALYSIS.set(analysis)
    try:
        yield analysis
    finally:
        _ANALYSIS.reset(token)


def current() -> Analysis:
    """The analysis in progress."""
    return _ANALYSIS.get()


@contextmanager
def fused() -> Iterator[None]:
    """What is computed inside stays in the type that sums are kept in: nothing is stored between."""
    analysis = current()
    before = analysis.arithmetic
    analysis.arithmetic = replace(before, stored=before.summed)
    try:
        yield
    finally:
        analysis.arithmetic = before


def arithmetic() -> Arithmetic:
    """The arithmetic in force."""
    return current().arithmetic


def plain(value: Any) -> Any:
    """The value alone of a tracked tensor; anything else as it is."""
    return value.value if isinstance(value, Tracked) else value
