"""The terms that a verdict is held against: derived from the definition, or else its measured sensitivity."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from opbench.schema import DType, Tensors, Terms
from opbench.verify.bounds import EPS
from opbench.verify.rounding.arithmetic import chance_factor
from opbench.verify.rounding.derive import FALSE_ALARM, derive
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
    try:
        derived = derive(evaluate, tensors, exact, dtype)
    except Unanalysed as reason:
        measured = sensitivity(evaluate, tensors, exact, dtype, counts, samples)
        return measured, f"no bound could be derived: {reason}; held to the measured sensitivity instead"
    # Errors of a deep network over few pixels have more in common than the derivation knows: what asks for many samples
    # is held to the larger of both.
    measured = sensitivity(evaluate, tensors, exact, dtype, counts, samples) if samples > SAMPLES else {}
    terms = {}
    for name, found in derived.items():
        bound = found.bound
        if (other := measured.get(name)) is not None and other.bound is not None:
            bound = torch.maximum(bound, other.bound)
        unit = found.deviation / (chance_factor(found.bound.numel(), FALSE_ALARM) * EPS[dtype])
        terms[name] = Terms(total=unit, count=1, bound=bound)
    return terms, ""
