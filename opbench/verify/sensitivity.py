"""How far rounding alone can move a definition: its sensitivity, measured where no closed form exists.

For a definition that running error analysis has no rule for, or whose error is too large to be passed on by
derivatives (`opbench.verify.rounding`), Monte Carlo arithmetic (Parker 1997) gives an estimate: evaluate it again with
every input, parameter and result of a layer multiplied by (1 + eps u), u uniform in [-1, 1], in float32 for the
narrower types. The root mean square of the deviations over a few evaluations estimates, element by element, the error
of a correct implementation in that precision.

Bilinear sampling needs two things more. A coordinate is added up and perhaps normalised, which rounds it by up to a
few eps of the image's size whatever its own: the evaluations move it by that much. And it has kinks: at a whole
coordinate its derivative jumps, and rounding decides the side. There both answers are right, and what near-whole
coordinates change on their other side is allowed as slack (`opbench.verify.rounding.kinks`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from opbench.schema import Terms
from opbench.verify.bounds import EPS, OWN, TINY, coefficient
from opbench.verify.rounding.kinks import noted, other_sides

SAMPLES = 3  # unless the operator asks for more
# A bound from a few evaluations is itself noisy; counting it as a sum of 64 terms gives c = 18 standard errors.
# Longer sums count as they are: a root mean square times sqrt(n) is of the size of the sum of n absolute terms.
COUNT = 64
# Coordinates this close to a whole number, in units of the largest one, may fall on either side of it: adding one up
# and normalising it takes a few roundings. Half precision needs no more, as coordinates are computed in float32.
KINK = 4 * EPS["float32"]
# How far the evaluations move coordinates, in the same unit. Times c this covers five roundings of the largest one.
JITTER = 0.5 * EPS["float32"]

# A network in a half type rounds a layer's convolution, norm and activation apart, and its kinks jump.
MORE: Mapping[str, float] = {"bfloat16": 5.0, "float16": 5.0}

Tensors = Mapping[str, torch.Tensor]
Evaluate = Callable[[Tensors], dict[str, torch.Tensor]]


def sensitivity(
    evaluate: Evaluate,
    tensors: Tensors,
    exact: Tensors,
    dtype: str,
    counts: Mapping[str, int] | None = None,
    samples: int = SAMPLES,
) -> dict[str, Terms]:
    """The `Terms` of everything `evaluate(tensors)` returns, per unit of eps; `exact` is its float64 result.

    `counts` names tensors whose elements are sums of more than COUNT terms: gradients that sum over an image.

    An element's estimate is pooled with its tensor's root mean square, so that a chance near-zero deviation of the
    few samples cannot convict a right answer.
    """
    precision = torch.float64 if dtype == "float64" else torch.float32
    device = next(iter(tensors.values())).device
    rounded = {name: value.to(precision) for name, value in tensors.items()}
    squares = {name: torch.zeros_like(value) for name, value in exact.items()}
    for sample in range(samples):
        generator = torch.Generator(device).manual_seed(sample)
        perturbed = {name: _perturbed(value, EPS[dtype], generator) for name, value in rounded.items()}
        with _Floors(generator), _Layers(EPS[dtype], generator):
            moved = evaluate(perturbed)
        for name, value in moved.items():
            squares[name] += (value.double() - exact[name]).square() / samples
    slack = other_sides(evaluate, tensors, exact, noted(evaluate, tensors, KINK))
    terms = {}
    for name, square in squares.items():
        pooled = square.mean() if square.numel() else torch.zeros((), dtype=square.dtype)
        count = max(COUNT, (counts or {}).get(name, COUNT))
        deviation = (square + pooled).sqrt()
        bound = (
            coefficient(count) * deviation * MORE.get(dtype, 1.0) + OWN * EPS[dtype] * exact[name].abs() + TINY[dtype]
        )
        if name in slack:
            bound = bound + slack[name]
        terms[name] = Terms(total=deviation / EPS[dtype], count=count, slack=slack.get(name), bound=bound)
    return terms


def _perturbed(value: torch.Tensor, eps: float, generator: torch.Generator) -> torch.Tensor:
    draw = torch.rand(value.shape, generator=generator, dtype=value.dtype, device=value.device)
    return value * (1 + eps * (2 * draw - 1))


_LAYERS = frozenset(
    getattr(torch.ops.aten, name)
    for name in (
        "mm", "bmm", "addmm", "baddbmm", "convolution", "convolution_backward", "native_batch_norm",
        "native_batch_norm_backward", "native_layer_norm", "native_layer_norm_backward", "_softmax",
        "_softmax_backward_data", "silu", "silu_backward", "gelu", "gelu_backward", "sigmoid", "exp", "tanh", "erf",
    )
)  # fmt: skip


class _Layers(TorchDispatchMode):
    """Rounds what each layer gives, forward and backward."""

    def __init__(self, eps: float, generator: torch.Generator) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.eps = eps
        self.generator = generator

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket not in _LAYERS:
            return out
        return tree_map_only(torch.Tensor, lambda value: _perturbed(value, self.eps, self.generator), out)


class _Floors(TorchDispatchMode):
    """Stands in for every `floor` of a definition, where coordinates become cells.

    It raises the cell's corner by up to JITTER of the largest coordinate: as its distance to the coordinate is what
    weighs the corners, that moves the coordinate, and the corner still truncates to the same index.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.generator = generator

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is not torch.ops.aten.floor.default or not out.numel():
            return out
        largest = args[0].abs().amax().clamp(min=1)
        draw = torch.rand(out.shape, generator=self.generator, dtype=out.dtype, device=out.device)
        return out + JITTER * largest * draw
