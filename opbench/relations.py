"""What an operator promises beside its definition: a relation, the space its examples are drawn from, a broken promise.

Plain data, so that an operator's own files can return them without importing the rooms that use them. `opbench check`
tries relations (`opbench.conformance`, which has the comparisons and strategies to write one with).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from opbench.schema import DType

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy

Options = Mapping[str, Any]
# What it makes of a target to break a relation: it computes another function, or the function but not everywhere.
Tier = Literal["wrong", "fragile"]
Core = Callable[..., "torch.Tensor"]


@dataclass(frozen=True)
class Example:
    """One call of a core: `core(**tensors, **options)`."""

    tensors: Mapping[str, torch.Tensor]
    options: Options

    def replace(self, options: Options | None = None, /, **tensors: torch.Tensor) -> Example:
        """The same call with some tensors or options exchanged."""
        return Example({**self.tensors, **tensors}, {**self.options, **(options or {})})

    def filled(self, values: Mapping[str, float]) -> Example:
        """The same call where each of these tensors holds one value, everywhere."""
        held = {name: self.tensors[name] for name in values}
        return self.replace(**{name: tensor.new_full(tensor.shape, values[name]) for name, tensor in held.items()})


@dataclass(frozen=True)
class Space:
    """Where examples are drawn from: the implementation's dtype and device, and options the caller has fixed."""

    dtype: DType = "float32"
    device: str = "cpu"
    fixed: Options = field(default_factory=dict)


class Violation(AssertionError):
    """A relation does not hold: what the relation says and what was got, on which example.

    `cause` is a sentence about what makes it fragile and not wrong, whatever the relation; "" where nothing does.
    """

    def __init__(self, message: str, example: Example, cause: str = "") -> None:
        super().__init__(message)
        self.example = example
        self.cause = cause


def product_of(sizes: Mapping[str, Any]) -> int:
    """The product of all sizes, of which one below 1 counts as 1."""
    return prod(max(1, int(value)) for value in sizes.values())


@dataclass(frozen=True)
class Sizes:
    """The dimensions and options of a core's calls, and how a call of given sizes is made.

    `rungs` are the values that each is tried at, ascending: alone, and two at a time. `completed(asked)` gives every
    one of them in the smallest ordinary call in which those in `asked` have these values (or the next that fit the
    others, such as a number of channels that the groups divide); None where there is no such call. `call(sizes, space,
    seed)` makes it, of ordinary finite values. `areas` name dimensions whose product is tried at large values too:
    the elements that a kernel numbers together. `work(sizes)` is roughly how much a call has, for the cheapest to come
    first: the product of all sizes unless told.
    """

    rungs: Mapping[str, tuple[Any, ...]]
    completed: Callable[[Mapping[str, Any]], Mapping[str, Any] | None]
    call: Callable[[Mapping[str, Any], Space, int], Example]
    areas: tuple[tuple[str, str], ...] = ()
    work: Callable[[Mapping[str, Any]], int] = product_of


@dataclass(frozen=True)
class Relation:
    """One statement of mathematics that every right implementation meets.

    `statement` says it in a sentence: what a person reads when it fails. `check(core, example)` calls the core, usually
    more than once on related inputs, compares, and raises `Violation`; *exact* is bit for bit, *bounded* within the
    error bound. `draws(space)` makes the examples it speaks of; left out, they are the calls of the operator's module
    that `opbench check` draws anyway. With `sizes`, `opbench check` walks through those instead of drawing.
    `without_gradients` is what remains of a check that `needs_gradients` where nobody asks for any; None: nothing.
    Who breaks it is `tier`: *fragile* where it speaks of calls that are not ordinary (an empty batch, NaN, infinity).
    `of_use` speaks of what else is done with a module: that it takes plain calls excuses nothing it raises there.
    """

    name: str
    kind: Literal["exact", "bounded"]
    statement: str
    check: Callable[[Core, Example], None]
    draws: Callable[[Space], SearchStrategy[Example]] | None = None
    needs_gradients: bool = False
    sizes: Sizes | None = None
    without_gradients: Callable[[Core, Example], None] | None = None
    tier: Tier = "wrong"
    of_use: bool = False
