"""Where two answers are right: bilinear sampling at a whole coordinate or at the border, where its derivative jumps.

Rounding decides into which cell such a coordinate falls, and whether it counts. So the definition is evaluated again
with everything that is floored or compared with a number moved as far as rounding moves it, first up, then down, and
the change is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from opbench.schema import Tensors

# Standard deviations within which a coordinate may fall into the neighbouring cell.
REACH = 4.0
# An implementation may take some jumps and leave others: where a half type makes them common, some of them at random.
SUBSETS = 8
# No evaluation has just the subset that an implementation takes.
ROOM = 5.0


def other_sides(
    evaluate: Callable[[Tensors], Mapping[str, torch.Tensor]],
    tensors: Tensors,
    exact: Tensors,
    located: Sequence[torch.Tensor],
    subsets: int,
) -> dict[str, torch.Tensor]:
    """How much each element may change when uncertain coordinates fall on their other side; {} without coordinates.

    They go up together, down together, and in `subsets` evaluations up or down each by itself.
    """
    if not located:
        return {}
    slack: dict[str, torch.Tensor] = {}
    for turn in range(2 + subsets):
        with _Moved(located, turn):
            moved = evaluate(tensors)
        for name, value in moved.items():
            change = (value - exact[name]).abs()
            slack[name] = torch.maximum(slack[name], change) if name in slack else change
    return {name: without_cancellation(change) for name, change in slack.items()}


def without_cancellation(change: torch.Tensor) -> torch.Tensor:
    """An element may change by several jumps of both signs, and an implementation may take any subset of them.

    So more than the change is allowed; and where most elements change (a parameter's gradient sums over the whole
    image) the typical change too.
    """
    typical = change.square().mean().sqrt()
    if (change > 0.01 * typical).double().mean() > 0.5:
        change = (change.square() + typical.square()).sqrt()
    return ROOM * change


aten = torch.ops.aten
_JUMPS = frozenset((aten.floor.default, aten.gt.Scalar, aten.ge.Scalar, aten.lt.Scalar, aten.le.Scalar))


def decides(func: Any, args: Sequence[Any]) -> bool:
    """Whether an operation jumps where its operand passes a number."""
    return func in _JUMPS and args[0].is_floating_point()


class _Moved(TorchDispatchMode):
    """Moves what is floored or compared by some of its deviations: near the number it falls on the other side."""

    def __init__(self, located: Sequence[torch.Tensor], turn: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.located = iter(located)
        self.turn = turn
        self.generator = torch.Generator().manual_seed(turn)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if not decides(func, args):
            return func(*args, **(kwargs or {}))
        deviation = next(self.located)
        return func(args[0] + REACH * deviation * self._direction(deviation), *args[1:])

    def _direction(self, like: torch.Tensor) -> torch.Tensor | int:
        if self.turn < 2:
            return 1 - 2 * self.turn
        return (torch.randint(2, like.shape, generator=self.generator) * 2 - 1).to(like)
