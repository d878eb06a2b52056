"""Errors that many elements share: that of a sampling place, and that of a mean over many.

The analysis passes variances on, and takes for independent what it adds up. Some errors are one error in many places:

- a sample's corners, and every channel that is sampled there, are off by the error of one place, each with its slope;
- all pixels of a channel are off by the errors of the mean and the variance that they are normalised by.

A sum over such elements adds their slopes up, signs and all. Over many sums that is the same variance on average; in
one of them the slopes may agree, as where a depthwise convolution's gradient adds up neighbours, and a bound by the
average is too tight there.

So the slopes are taken from the definition: it is evaluated with every shared number moved by its own deviation times a
sign. With the rows of a Hadamard matrix for the signs, the mean square of the changes is the sum of the squares of the
single changes: exactly where an element depends on fewer shared numbers than there are rows, and as an estimate beyond.
At a cell's border the slope of a sample jumps, and a place within rounding of it is off by the steeper one: the same is
done once more with such places in their other cell, and the larger of both counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from opbench.schema import Tensors
from opbench.verify.rounding.arithmetic import MANY, Arithmetic
from opbench.verify.rounding.kinks import Uncertain, deciding
from opbench.verify.rounding.tracked import Analysis, Unanalysed

aten = torch.ops.aten
# Rows of signs, which is evaluations of the definition.
ROWS = 16
# Tensors of shared numbers beyond which none stands out in an answer that depends on all of them: of many layers they
# are as many independent errors, and evaluating them so often would take longer than all else.
LAYERS = 64
# Shared numbers are moved by this share of their size at least: less would drown in float64's own roundings.
STEP = 2.0**-30
# Half of the most that a place may be moved by without another cell for its corner.
FURTHEST = 0.45
# What is made of a sum before many elements meet it: it is divided, its root taken, multiplied with a weight.
ROUNDINGS = 4.0


def shared(
    evaluate: Callable[[Tensors], Mapping[str, Tensor]], tensors: Tensors, exact: Tensors, analysis: Analysis
) -> dict[str, Tensor]:
    """The variance that shared errors give each element of what `evaluate` returns; {} where none can stand out."""
    located = analysis.located
    if not 0 < analysis.averages + sum(one.deviation is not None for one in located) <= LAYERS:
        return {}
    arithmetic = analysis.arithmetic
    scale = max(1.0, STEP / arithmetic.summed)
    signs = _Signs()
    found: dict[str, Tensor] = {}
    either = any(one.deviation is not None and one.places.numel() for one in located)
    for other_side in (False, True) if either else (False,):
        mean = {name: torch.zeros_like(value) for name, value in exact.items()}
        square = {name: torch.zeros_like(value) for name, value in exact.items()}
        for row in range(ROWS):
            with _Moving(located, arithmetic, signs, row, scale, other_side):
                answers = evaluate(tensors)
            for name, value in exact.items():
                change = (answers[name] - value) / scale
                mean[name] += change / ROWS
                square[name] += change.square() / ROWS
        for name in exact:
            variance = (square[name] - mean[name].square()).clamp(min=0)
            found[name] = torch.maximum(found[name], variance) if other_side else variance
    return found


class _Signs:
    """For each moved tensor, by its number, the signs of its elements in a row of the design.

    Elements have a column each of a Hadamard matrix, or its negative. Tensors of one shape take different columns one
    after another at the same element, as the coordinates of one pixel's samples do.
    """

    def __init__(self) -> None:
        hadamard = torch.ones(1, 1, dtype=torch.float64)
        while len(hadamard) < ROWS:
            hadamard = torch.cat((torch.cat((hadamard, hadamard), 1), torch.cat((hadamard, -hadamard), 1)))
        self.hadamard = hadamard
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}

    def of(self, number: int, like: Tensor, row: int) -> Tensor:
        """As large as the tensor."""
        if number not in self._kept:
            count = like.numel()
            first = torch.randint(ROWS - 1, (count,), generator=torch.Generator().manual_seed(0))
            flips = torch.randint(2, (count,), generator=torch.Generator().manual_seed(1 + number))
            # The first column, whose signs are all one, would be no change.
            self._kept[number] = (1 + (first + number) % (ROWS - 1), 2.0 * flips - 1)
        columns, flips = self._kept[number]
        if len(columns) != like.numel():
            raise Unanalysed("the definition computes other shapes when it is called again")
        return (self.hadamard[row, columns] * flips).to(like.device).view(like.shape)


class _Moving(TorchDispatchMode):
    """Moves what many share, while nothing falls on another side than it is told to."""

    def __init__(
        self, located: Sequence[Uncertain], arithmetic: Arithmetic, signs: _Signs, row: int, scale: float, other: bool
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.entries = iter(located)
        self.arithmetic, self.signs, self.row, self.scale, self.other = arithmetic, signs, row, scale, other
        self.number = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        at = deciding(func, args)
        if at is not None:
            return self._decided(func, at, args, kwargs or {})
        out = func(*args, **(kwargs or {}))
        # What normalises is a mean, while a sum may be a result; backward, what comes back to a mean is added up.
        averaged = (aten.mean, aten.sum) if torch._C._current_graph_task_id() != -1 else (aten.mean,)
        if func.overloadpacket in averaged and out.is_floating_point():
            return self._reduced(func, args, kwargs or {}, out)
        return out

    def _decided(self, func: Any, at: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        entry, operand = next(self.entries, None), args[at]
        if entry is None or entry.of != operand.shape:
            raise Unanalysed(f"{func} is called otherwise than in the analysis")
        if entry.places.numel():
            values = entry.moved if self.other else entry.values
            operand = operand.flatten().index_put((entry.places,), values).view_as(operand)
        out = func(*args[:at], operand, *args[at + 1 :], **kwargs)
        if entry.deviation is None:
            return out
        # A corner is raised, by none or twice its step: below a whole number it would be another corner's.
        step = (entry.deviation * self.scale).clamp(max=FURTHEST)
        return out + step * (1 + self._signs(out))

    def _reduced(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> Tensor:
        operand = args[0]
        count = operand.numel() // max(1, out.numel())
        if count <= MANY:
            return out
        size = count if func.overloadpacket is aten.mean else 1
        squares = func(operand.square(), *args[1:], **kwargs) * size
        variance = self.arithmetic.summing(count, (out * size).square(), squares).mean / size**2
        variance = variance + self.arithmetic.storing(out.square(), ROUNDINGS).mean
        return out + variance.sqrt() * self.scale * self._signs(out)

    def _signs(self, like: Tensor) -> Tensor:
        self.number += 1
        return self.signs.of(self.number, like, self.row)
