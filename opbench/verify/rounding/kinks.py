"""Where two answers are right: a derivative that jumps, and a value so near the jump that rounding decides its side.

Bilinear sampling has such kinks at whole coordinates and at the border, a rectifier at zero. The analysis notes every
element of what is floored or compared with a number whose own rounding, taken `REACH` standard deviations wide, reaches
the other side. Only these can jump, and an implementation takes any subset of their jumps.

Where they are few, the definition is evaluated again with each by itself on its other side. To first order, which is
that two jumps don't change each other, a subset's change is the sum of its members', so the sum of the absolute changes
bounds every subset. Where they are many that would be as many evaluations. Then `SUBSETS` evaluations take subsets, no
two jumps on the other side in the same ones of them, and the largest change is allowed with `ROOM`. All of them at once
would not do: two jumps in one sum may cancel, while an implementation takes one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from opbench.schema import Tensors
from opbench.verify.rounding.tracked import Tracked, Unanalysed

# Standard deviations within which a value may fall on the other side.
REACH = 4.0
# Jumps up to which each is taken by itself, and the evaluations of subsets where there are more.
SUBSETS = 8
# Of what every jump was taken for: an implementation that takes one jump then is at half of its bound.
ALONE = 2.0
# No evaluation has just the subset that an implementation takes.
ROOM = 5.0

aten = torch.ops.aten
# What jumps where its operand passes a number, and which of the arguments that operand is.
JUMPS: Mapping[Any, int] = {
    aten.floor.default: 0,
    aten.gt.Scalar: 0,
    aten.ge.Scalar: 0,
    aten.lt.Scalar: 0,
    aten.le.Scalar: 0,
    aten.sgn.default: 0,
    aten.sign.default: 0,
    aten.threshold_backward.default: 1,
    aten.leaky_relu_backward.default: 1,
    aten.hardtanh_backward.default: 1,
}


def deciding(func: Any, args: Sequence[Any]) -> int | None:
    """Which argument decides in an operation that jumps; None for others, and for what compares whole numbers."""
    at = JUMPS.get(func)
    return at if at is not None and args[at].is_floating_point() else None


@dataclass(frozen=True)
class Uncertain:
    """Elements of one operand, by their place in it: their values, and values on the other side; `of` is its shape.

    `deviation`, of every element of a coordinate that is floored, is the standard one of its error.
    """

    places: Tensor
    values: Tensor
    moved: Tensor
    of: torch.Size
    deviation: Tensor | None = None

    @classmethod
    def among(
        cls,
        decide: Callable[[Tensor], Tensor],
        operand: Tensor,
        deviation: Tensor,
        typical: Tensor | None = None,
    ) -> Uncertain:
        """Those that `decide` tells from the same value a few deviations up or down; `typical` is without tails."""
        reach = REACH * deviation
        here = decide(operand)
        up, down = decide(operand + reach) != here, decide(operand - reach) != here
        places = (up | down).flatten().nonzero().squeeze(1)
        values, by = operand.flatten()[places], reach.expand_as(operand).flatten()[places]
        # Of few digits a value may reach two whole numbers: half of such go either way.
        rises = up.flatten()[places] & (~down.flatten()[places] | (places % 2 == 0))
        moved = torch.where(rises, values + by, values - by)
        return cls(places, values, moved, operand.shape, typical)

    @classmethod
    def none(cls, operand: Tensor) -> Uncertain:
        """Of an operand that is known exactly."""
        empty = operand.new_empty(0)
        return cls(empty.long(), empty, empty, operand.shape)


class Constants(TorchDispatchMode):
    """During an analysis, notes what is decided by numbers that no tensor of the case comes into: it never jumps."""

    def __init__(self, located: list[Uncertain]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.located = located

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        at = deciding(func, args)
        if at is not None and not any(isinstance(one, Tracked) for one in args):
            self.located.append(Uncertain.none(args[at]))
        return func(*args, **(kwargs or {}))


class _Noting(TorchDispatchMode):
    def __init__(self, share: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.share = share
        self.located: list[Uncertain] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        at = deciding(func, args)
        if at is not None:
            x = args[at]
            floored = func is aten.floor.default and x.numel()
            reach = (self.share / REACH * x.abs().amax().clamp(min=1)).expand_as(x) if floored else None
            self.located.append(Uncertain.none(x) if reach is None else Uncertain.among(func, x, reach))
        return func(*args, **(kwargs or {}))


def noted(evaluate: Callable[[Tensors], object], tensors: Tensors, share: float) -> list[Uncertain]:
    """Coordinates that this share of the largest one takes across a whole number: all of them without an analysis.

    Nothing else is noted. What is compared may be whole numbers, cells or zeros, which are known exactly.
    """
    noting = _Noting(share)
    with noting:
        evaluate(tensors)
    return noting.located


def other_sides(
    evaluate: Callable[[Tensors], Mapping[str, Tensor]],
    tensors: Tensors,
    exact: Tensors,
    located: Sequence[Uncertain],
) -> dict[str, Tensor]:
    """How much each element may change when uncertain values fall on their other side; {} where there are none.

    `located` has an entry for each operation of `JUMPS`, in the order of their calls.
    """
    numbers, jumps = _numbered(located)
    if not jumps:
        return {}

    def changes(codes: Tensor, turns: int) -> Iterator[dict[str, Tensor]]:
        for turn in range(turns):
            chosen = (codes >> turn & 1).bool()
            with _Moved(located, [chosen[of] for of in numbers]):
                moved = evaluate(tensors)
            yield {name: (moved[name] - value).abs() for name, value in exact.items()}

    device = numbers[0].device
    if jumps <= SUBSETS:
        alone = changes(1 << torch.arange(jumps, device=device), jumps)
        return {name: ALONE * total for name, total in _folded(alone, torch.add).items()}
    order = torch.randperm(jumps, generator=torch.Generator().manual_seed(0)).to(device)
    together = changes(1 + order % (2**SUBSETS - 1), SUBSETS)
    return {name: _without_cancellation(most) for name, most in _folded(together, torch.maximum).items()}


def _folded(changes: Iterator[dict[str, Tensor]], operation: Callable[[Tensor, Tensor], Tensor]) -> dict[str, Tensor]:
    found = next(changes)
    for change in changes:
        found = {name: operation(found[name], value) for name, value in change.items()}
    return found


def _without_cancellation(change: Tensor) -> Tensor:
    """The largest change of some subsets, made to hold for all.

    Where most elements change (a parameter's gradient sums over the whole image) the typical change is allowed too.
    """
    typical = change.square().mean().sqrt()
    if (change > 0.01 * typical).double().mean() > 0.5:
        change = (change.square() + typical.square()).sqrt()
    return ROOM * change


def _numbered(located: Sequence[Uncertain]) -> tuple[list[Tensor], int]:
    """The number of each uncertain element's jump, entry by entry, and how many jumps there are.

    A value that is floored, compared and in the backward pass computed again is one jump: it has the same bits at the
    same place.
    """
    if not located:
        return [], 0
    # Two odd numbers, so that neither part of the key is lost.
    keys = [one.values.view(torch.int64) * 0x9E3779B1 + one.places * 0x85EBCA77 for one in located]
    _, numbers = torch.unique(torch.cat(keys), return_inverse=True)
    found = list(numbers.split([len(key) for key in keys]))
    return found, int(numbers.max()) + 1 if numbers.numel() else 0


class _Moved(TorchDispatchMode):
    """Gives what decides the chosen elements as they are on their other side."""

    def __init__(self, located: Sequence[Uncertain], chosen: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.entries = iter(zip(located, chosen, strict=True))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        at = deciding(func, args)
        if at is None:
            return func(*args, **(kwargs or {}))
        entry, chosen = next(self.entries, (None, None))
        if entry is None or chosen is None or entry.of != args[at].shape:
            raise Unanalysed(f"{func} is called otherwise than in the analysis")
        if not bool(chosen.any()):
            return func(*args, **(kwargs or {}))
        operand = args[at].flatten().index_put((entry.places[chosen],), entry.moved[chosen]).view_as(args[at])
        return func(*args[:at], operand, *args[at + 1 :], **(kwargs or {}))
