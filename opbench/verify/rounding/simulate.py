"""How far a right implementation of a whole network may be from its definition: roundings drawn at random, a few times.

Through many layers the analysis of `derive` fails twice. It takes errors for independent that are not (a mean over few
pixels gives all of them the same), and it passes them on to first order, where a half type moves a network by more.
So each operation's own rounding error is drawn, of the variance that the same rules give it, and carried through what
follows by evaluating it: correlations, saturation and jumps come out as they are. Parker 1997, Monte Carlo Arithmetic,
does so for the last digit of single operations; here a sum's error is drawn as a whole.

The deviations' mean square over a few evaluations estimates the variance of each element. Estimates from so few are
noisy, so the mean over the element's channel is added: an element is allowed lambda standard deviations, lambda as
`arithmetic.chance_factor` states it for the chance of a false alarm, of an estimate that is too small by more than
CONFIDENCE in fewer tensors than that.
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

CONFIDENCE = 2.0
# In float64 the definition rounds as much as what it judges; what a half type stores between operations is free.
ROOM: Mapping[str, float] = {"float64": 2**0.5, "float16": 1.6, "bfloat16": 1.6}
# The largest of thousands of normal deviations is about this many standard deviations; where it is more, a channel's
# deviations are rare and large, as where a sample falls on an edge, and the largest says what is to be expected.
TAIL = 4.0


def simulate(
    evaluate: Callable[[Tensors], Mapping[str, Tensor]],
    tensors: Tensors,
    exact: Tensors,
    dtype: DType,
    samples: int,
) -> dict[str, Allowed]:
    """What rounding explains for everything that `evaluate(tensors)` returns; `exact` is its float64 result.

    Raises Unanalysed where an operation has no rule or a value overflows, with the reason.
    """
    arithmetic = Arithmetic.of(dtype)
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
    room = ROOM.get(dtype, 1.0) * CONFIDENCE
    for name, value in exact.items():
        if not bool((torch.isfinite(squares[name]) & torch.isfinite(value)).all()):
            raise Unanalysed(f"{name}: rounding is unbounded on the way to it")
        pooled = torch.maximum(squares[name].mean(), largest[name].amax() / TAIL**2) if value.numel() else 0.0
        deviation = (squares[name] + pooled).sqrt() * chance_factor(value.numel(), FALSE_ALARM)
        bound = (deviation + value.abs() * (OWN * EPS[dtype])) * room + 2 * arithmetic.floor
        found[name] = Allowed(bound, deviation)
    return found
