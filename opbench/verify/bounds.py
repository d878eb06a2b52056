"""Error bounds: |error| <= c * eps(dtype) * sum|terms| + slack, element by element.

A sum of n terms computed with unit roundoff u = eps/2 in any order is off by at most n u sum|terms| (Higham, Accuracy
and Stability of Numerical Algorithms, 2nd ed., 3.1), and, as roundings behave like independent random variables, by
lambda sqrt(n) u sum|terms| with probability at least 1 - 2 exp(-lambda^2 / 2) per element (Higham and Mary 2019,
A new approach to probabilistic rounding error analysis). With lambda = 4 this gives c = 2 sqrt(n); 2 eps more cover the
roundings of the inputs to each product and of the result. A shortcut through a narrower type is off by thousands of
eps and does not fit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from opbench.schema import Terms, Verdict, Worst

LAMBDA = 4.0
EPS: Mapping[str, float] = {
    "float64": 2.0**-52,
    "float32": 2.0**-23,
    "bfloat16": 2.0**-7,
    "float16": 2.0**-10,
}
# The last rounding, to the stored type, is off by half an eps of the value at most.
OWN = 1.25
# Below the smallest normal number results are rounded absolutely, by at most one subnormal step (or flushed to zero).
TINY: Mapping[str, float] = {
    "float64": 2.0**-1022,
    "float32": 2.0**-126,
    "bfloat16": 2.0**-126,
    "float16": 2.0**-14,
}


def coefficient(count: int) -> float:
    """The c of the bound for a sum of `count` terms."""
    return LAMBDA / 2 * math.sqrt(count) + 2


def unit(terms: Terms, dtype: str) -> torch.Tensor:
    """What one eps of relative rounding of every term comes to, per element."""
    scale = EPS[dtype] * terms.total
    if terms.coordinates is not None:
        scale = scale + min(EPS[dtype], EPS["float32"]) * terms.coordinates
    return scale


def allowed(terms: Terms, dtype: str) -> torch.Tensor:
    """The largest permitted |error| per element."""
    if terms.bound is not None:
        return terms.bound
    bound = coefficient(terms.count) * unit(terms, dtype) + terms.count * TINY[dtype] * 2.0**-10
    return bound if terms.slack is None else bound + terms.slack


def judge(
    got: Mapping[str, object],
    expected: Mapping[str, torch.Tensor],
    terms: Mapping[str, Terms],
    dtype: str,
    basis: str = "",
) -> Verdict:
    """Judges every expected tensor ("output" first, then gradients by name) against its bound.

    Missing (None), wrongly shaped, wrongly typed, non-finite where the definition is finite, or all-zero tensors are
    incorrect by name. All tensors are float64 on one device except those in `got`, which are brought there.
    """
    worst: Worst | None = None
    worst_ratio = -1.0
    judged = 0
    reason = ""
    max_error = rms_error = 0.0
    for name, reference in expected.items():
        value = got.get(name)
        fault = _fault(name, value, reference, dtype)
        if fault or not isinstance(value, torch.Tensor):
            return Verdict(
                correct=False,
                worst_ratio=math.inf,
                worst=None,
                max_error=math.inf,
                rms_error=math.inf,
                judged=judged,
                sampled=False,
                reason=fault,
                basis=basis,
            )
        if reference.numel() == 0:
            continue
        exact = value.detach().to(reference.device, torch.float64)
        error = (exact - reference).abs()
        bound = allowed(terms[name], dtype)
        ratio = torch.where(error == 0, 0.0, error / bound)
        # NaN compares false with everything: what is not provably within the bound counts as infinitely far out.
        ratio = torch.where(torch.isfinite(exact) & ~torch.isnan(ratio), ratio, torch.inf)
        flat = int(ratio.argmax())
        top = float(ratio.flatten()[flat])
        judged += reference.numel()
        if name == "output":
            # Elements without any term (all taps outside the image) are exactly zero on both sides or already worst.
            scaled = torch.where(error == 0, 0.0, error / unit(terms[name], dtype))
            max_error = float(scaled.max())
            rms_error = float(scaled.square().mean().sqrt())
        if top > worst_ratio:
            worst_ratio = top
            index = tuple(int(i) for i in torch.unravel_index(torch.tensor(flat), reference.shape))
            worst = Worst(
                tensor=name,
                index=index,
                expected=float(reference[index]),
                got=float(exact[index]),
                bound=float(bound[index]),
            )
    correct = worst_ratio <= 1.0
    if not correct and worst is not None:
        reason = (
            f"{worst.tensor}{list(worst.index)}: expected {worst.expected:.9g}, got {worst.got:.9g}, "
            f"off by {abs(worst.got - worst.expected):.3g} where rounding explains {worst.bound:.3g}"
        )
        reason += f" ({basis})" if basis else ""
    return Verdict(
        correct=correct,
        worst_ratio=max(worst_ratio, 0.0),
        worst=worst,
        max_error=max_error,
        rms_error=rms_error,
        judged=judged,
        sampled=False,
        reason=reason,
        basis=basis,
    )


def _fault(name: str, value: object, reference: torch.Tensor, dtype: str) -> str:
    if value is None:
        return f"{name}: expected a tensor of shape {tuple(reference.shape)}, got None"
    if not isinstance(value, torch.Tensor):
        return f"{name}: expected a tensor of shape {tuple(reference.shape)}, got {type(value).__name__}"
    if value.shape != reference.shape:
        return f"{name}: expected shape {tuple(reference.shape)}, got {tuple(value.shape)}"
    if str(value.dtype) != f"torch.{dtype}":
        return f"{name}: expected dtype {dtype}, got {str(value.dtype).removeprefix('torch.')}"
    if value.numel() and reference.any() and not value.detach().any():
        return f"{name}: all zero where the definition is not"
    return ""
