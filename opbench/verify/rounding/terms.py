"""The terms that a verdict is held against: derived from the definition, or else its measured sensitivity."""

from __future__ import annotations

from collections.abc import Mapping

from opbench.schema import DType, Tensors, Terms
from opbench.verify.bounds import EPS
from opbench.verify.rounding.arithmetic import chance_factor
from opbench.verify.rounding.derive import FALSE_ALARM, derive
from opbench.verify.rounding.simulate import simulate
from opbench.verify.rounding.tracked import Unanalysed
from opbench.verify.sensitivity import SAMPLES, Evaluate, sensitivity


def rounding_terms(
    evaluate: Evaluate,
    tensors: Tensors,
    exact: Tensors,
    dtype: DType,
    counts: Mapping[str, int],
    samples: int = SAMPLES,
) -> tuple[dict[str, Terms], str]:
    """The `Terms` of everything `evaluate(tensors)` returns; and what they were taken from if they are not derived.

    `exact` is its float64 result, `counts` the lengths of sums that a measured sensitivity should know of.
    """
    deep = samples > SAMPLES
    try:
        found = simulate(evaluate, tensors, exact, dtype, samples) if deep else derive(evaluate, tensors, exact, dtype)
    except Unanalysed as reason:
        measured = sensitivity(evaluate, tensors, exact, dtype, counts, samples)
        return measured, f"no bound could be derived: {reason}; held to the measured sensitivity instead"
    terms = {}
    for name, allowed in found.items():
        unit = allowed.deviation / (chance_factor(allowed.bound.numel(), FALSE_ALARM) * EPS[dtype])
        terms[name] = Terms(total=unit, count=1, bound=allowed.bound)
    return terms, ""
