"""How far a right implementation may be from a definition, element by element."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from opbench.schema import DType, Tensors
from opbench.verify.bounds import EPS, OWN
from opbench.verify.rounding import elementwise, layers, moves, products  # noqa: F401 - each registers its rules
from opbench.verify.rounding.arithmetic import Arithmetic, chance_factor
from opbench.verify.rounding.kinks import Constants, other_sides
from opbench.verify.rounding.shared import shared
from opbench.verify.rounding.sums import finished
from opbench.verify.rounding.tracked import Tracked, Unanalysed, analysing

Evaluate = Callable[[Tensors], Mapping[str, Tensor]]

# The chance that the bound convicts a right implementation, per tensor.
FALSE_ALARM = 1e-6
# In float64 the definition rounds as much as what it judges. In half types a product may be stored or not, and errors
# of some hundredths are no longer passed on by slopes alone.
ROOM: Mapping[str, float] = {"float64": 2**0.5, "float16": 1.2, "bfloat16": 1.2}
# A gradient that cancels entirely, as that of a bias before a norm, is left with the errors that its terms share
# through means, which the analysis takes for independent ones.
COMMON = 1.6
# Deviations, as a share of the answer's size, up to which an error is passed on by derivatives alone.
FIRST_ORDER = 0.2


@dataclass(frozen=True)
class Allowed:
    """The largest |error| of a right implementation, and the part of it that is a standard deviation times lambda."""

    bound: Tensor
    deviation: Tensor


def derive(evaluate: Evaluate, tensors: Tensors, exact: Tensors, dtype: DType) -> dict[str, Allowed]:
    """What rounding explains for everything that `evaluate(tensors)` returns; `exact` is its float64 result.

    Raises Unanalysed where no bound can be derived, with the reason.
    """
    arithmetic = Arithmetic.of(dtype)
    with analysing(arithmetic) as analysis, Constants(analysis.located):
        answers = evaluate({name: Tracked(value.detach()) for name, value in tensors.items()})
        deviations = {}
        for name, value in exact.items():
            answer: Any = answers[name].detach()
            if not isinstance(answer, Tracked):
                answer = Tracked(answer)
            factor = chance_factor(value.numel(), FALSE_ALARM)
            deviations[name] = _meaningful(name, answer, value, finished(answer, factor), factor)
    room = ROOM.get(dtype, 1.0)
    cancelled = {
        name: value.numel() and float(value.abs().median()) < float(deviations[name].median())
        for name, value in exact.items()
    }
    for name, variance in shared(evaluate, tensors, exact, analysis).items():
        # The analysis has of it what independent errors would do: that much is allowed twice.
        factor = chance_factor(exact[name].numel(), FALSE_ALARM)
        deviations[name] = (deviations[name].square() + factor**2 * variance).sqrt()
    slack = other_sides(evaluate, tensors, exact, analysis.located)
    found = {}
    for name, value in exact.items():
        share = room * COMMON if cancelled[name] else room
        bound = (deviations[name] + value.abs() * (OWN * EPS[dtype])) * share + 2 * arithmetic.floor
        if name in slack:
            # A jump's own size is rounded as its neighbours are: by this share of it.
            relative = float(deviations[name].square().mean().sqrt() / value.square().mean().sqrt().clamp(min=1e-300))
            bound = bound + slack[name] * (1 + min(1.0, relative))
        found[name] = Allowed(bound, deviations[name])
    return found


def _meaningful(name: str, answer: Tracked, exact: Tensor, deviation: Tensor, factor: float) -> Tensor:
    """The deviation, unless it can't be one of this answer."""
    if not exact.numel():
        return deviation
    if not bool((torch.isfinite(deviation) & torch.isfinite(exact)).all()):
        raise Unanalysed(f"{name}: rounding is unbounded on the way to it")
    size = exact.square().mean().sqrt()
    # In-place writing through an alias that the analysis lost would show here.
    if not bool(((answer.value - exact).abs() <= 1e-6 * size + deviation).all()):
        raise Unanalysed(f"{name}: the analysis computed another value than the definition")
    if name == "output" and float(deviation.median()) > FIRST_ORDER * factor * float(size) > 0:
        share = float(deviation.median()) / factor / float(size)
        raise Unanalysed(f"{name}: to first order rounding alone moves it by {share:.0%} of its size")
    return deviation
