"""How far a right implementation of a whole network may be from its definition: roundings drawn at random, a few times.

Through many layers the analysis of `derive` fails twice. It takes errors for independent that are not (a mean over few
pixels gives all of them the same), and it passes them on to first order, where a half type moves a network by more.
So each operation's own rounding error is drawn, of the variance that the same rules give it, and carried through what
follows by evaluating it: correlations, saturation and jumps come out as they are. Parker 1997, Monte Carlo Arithmetic,
does so for the last digit of single operations; here a sum's error is drawn as a whole.

The deviations' mean square over a few evaluations estimates the variance of each element. Estimates from so few are
noisy, so what its tensor (of an output, its channel) shows is added, and an element is allowed lambda standard
deviations, lambda as `arithmetic.chance_factor` states it for the chance of a false alarm. Deviations of a network are
no normal ones: a few pixels move a hundred times as far as the others. The factors below are therefore measured, not
derived: with them right networks stay within half of their bounds over `tests/bounds/sweep.py`, whose table says how
far each is from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from opbench.schema import DType, Tensors
from opbench.verify.bounds import EPS, OWN
from opbench.verify.rounding.arithmetic import Arithmetic, chance_factor
from opbench.verify.rounding.derive import FALSE_ALARM, Allowed
from opbench.verify.rounding.sums import settled
from opbench.verify.rounding.tracked import Tracked, Unanalysed, analysing

# An estimate's own uncertainty.
CONFIDENCE = 1.5
# An output alone is drawn three times as often, so that less of it is chance. Measured with sums that lie below their
# model (`arithmetic`), in float32 most of all: in half types it is the stored values' roundings that count.
OUTPUT_ALONE: Mapping[str, float] = {"float64": 2**0.5 * CONFIDENCE, "float32": 0.9, "float16": 1.05, "bfloat16": 1.3}
# In float64 the definition rounds as much as what it judges.
EXACT: Mapping[str, float] = {"float64": 2**0.5, "float32": 1.3, "float16": 1.1, "bfloat16": 1.1}
# Gradients: what is stored between operations, and in which order they are added up, is freer than forward.
GRADIENT: Mapping[str, float] = {"float64": 2**0.5, "float32": 1.33, "float16": 2.6, "bfloat16": 2.6}
# The largest of thousands of normal deviations is about this many standard deviations; where it is more, a channel's
# deviations are rare and large, as where a sample falls on an edge, and the largest says what is to be expected.
TAIL = 4.0
# Boxes are in pixels and scores are not, so an output's channels are kept apart; but a channel whose few drawn errors
# were small by chance is allowed this part of what the others show.
ELSEWHERE = 8.0
ALONE = 3


def simulate(
    evaluate: Callable[[Tensors], Mapping[str, Tensor]],
    tensors: Tensors,
    exact: Tensors,
    dtype: DType,
    samples: int,
) -> dict[str, Allowed]:
    """What rounding explains for everything that `evaluate(tensors)` returns; `exact` is its float64 result.

    `samples` evaluations are drawn, three times as many where there are no gradients to be taken: an output alone has
    few of the rare and large deviations to learn from.

    Raises Unanalysed where an operation has no rule or a value overflows, with the reason.
    """
    arithmetic = Arithmetic.of(dtype)
    alone = len(exact) == 1
    samples = ALONE * samples if alone else samples
    squares = {name: torch.zeros_like(value) for name, value in exact.items()}
    largest = {name: torch.zeros_like(value) for name, value in exact.items()}
    for sample in range(samples):
        device = next(iter(tensors.values())).device
        with analysing(arithmetic, torch.Generator(device).manual_seed(sample)):
            answers = evaluate({name: Tracked(value.detach()) for name, value in tensors.items()})
            for name, value in exact.items():
                answer: Any = answers[name].detach()
                moved = settled(answer)[0] if isinstance(answer, Tracked) else answer
                square = (moved - value).square()
                squares[name] += square / samples
                largest[name] = torch.maximum(largest[name], square)
    found = {}
    for name, value in exact.items():
        room = OUTPUT_ALONE[dtype] if alone else CONFIDENCE * (EXACT if name == "output" else GRADIENT)[dtype]
        if not bool((torch.isfinite(squares[name]) & torch.isfinite(value)).all()):
            raise Unanalysed(f"{name}: rounding is unbounded on the way to it")
        pooled = _pooled(squares[name], largest[name], name == "output" and value.ndim > 2)
        deviation = (squares[name] + pooled).sqrt() * chance_factor(value.numel(), FALSE_ALARM)
        bound = (deviation + value.abs() * (OWN * EPS[dtype])) * room + 2 * arithmetic.floor
        found[name] = Allowed(bound, deviation)
    return found


def _pooled(square: Tensor, largest: Tensor, by_channel: bool) -> Tensor:
    """What is added to an element's own mean square: its tensor's; of an output (N, C, ...) its channel's."""
    if not square.numel():
        return square
    of_tensor = torch.maximum(square.mean(), largest.amax() / TAIL**2)
    if not by_channel:
        return of_tensor
    axes = [axis for axis in range(square.ndim) if axis != 1]
    of_channel = torch.maximum(square.mean(axes, keepdim=True), largest.amax(axes, keepdim=True) / TAIL**2)
    return torch.maximum(of_channel, of_tensor / ELSEWHERE**2)
