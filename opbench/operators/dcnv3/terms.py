"""How large the rounding errors of a right DCNv3 core may be: the `Terms` of its output and gradients.

The output is a sum of 4P products, and so are the gradients of x and mask; but a core also rounds its locations, by
up to `reach` * eps pixels, and moving a location by d changes a sample by d times the slope of the bilinear surface.
So `coordinates` = sum of reach * slope beside `total` = sum|terms|, both sampled as the definition samples x itself,
where the slope at a pixel is the steepest of its neighbouring cells: it then bounds both sides of a kink.

A whole location rounded in x and in y at once reads a trace of the pixel diagonally across, in whose direction neither
slope need point: the product of both roundings times |mixed second difference| more. An offset that is no finite
number, or a huge one, counts as one far outside.

The gradient of an offset is a difference of samples, and its own slope is the mixed second difference of x. It jumps
where a location is whole, and there both one-sided derivatives are right: `slack` is that jump, granted within KINK
pixels of a whole number. Inputs drawn at a positive spread keep NUDGE away (`dcnv3_core`), so in float32 and
float64 slack exists at spread 0 only; rounding inputs to half precision can put a location on a whole number again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from opbench.operators.dcnv3.definition import dcnv3_definition, window
from opbench.operators.dcnv3.settings import DCNv3Settings
from opbench.schema import Terms

# Pixels. Rounding a location in float32 stays below KINK in images of up to a thousand pixels a side.
KINK = 5e-4
# Slopes and kinks reach two pixels out of the image.
_FRAME = 2
# Pixels, beyond any image: where an offset that is no number puts its sample for the sake of its terms.
_FAR = 1e6
# The product of two roundings of up to 6 * eps * reach, in units of the least coefficient 6 and of eps; locations are
# computed in float32 at least.
_TWICE = 6 * torch.finfo(torch.float32).eps


def dcnv3_terms(
    x: Tensor, offset: Tensor, mask: Tensor, grad_output: Tensor | None, **options: Any
) -> dict[str, Terms]:
    """`Terms` of "output" and, given grad_output (N, Ho, Wo, C), of the gradients "x", "offset" and "mask".

    `options` are those of the definition; all tensors are float64.
    """
    settings = DCNv3Settings(**options)
    group = settings.group
    framed = replace(settings, pad=settings.pad - _FRAME)
    offset = offset.nan_to_num(nan=_FAR).clamp(-_FAR, _FAR)
    image = F.pad(x, (0, 0, _FRAME, _FRAME, _FRAME, _FRAME))
    size = image.abs()
    slope = _steepest(image, 2) + _steepest(image, 1)
    twist = _steepest_mixed(image)
    reach = _reach(x, offset, settings).view(mask.shape)
    points = mask.shape[-1] // group
    corners = 4 * points

    with torch.set_grad_enabled(grad_output is not None):
        fields = (size, slope, twist, mask.abs())
        leaves = [value.detach().clone().requires_grad_(grad_output is not None) for value in fields]
        sums = dcnv3_definition(leaves[0], offset, leaves[3], **framed.options)
        moves = dcnv3_definition(leaves[1], offset, leaves[3] * reach, **framed.options)
        moves = moves + dcnv3_definition(leaves[2], offset, leaves[3] * reach**2 * _TWICE, **framed.options)
    terms = {"output": Terms(sums.detach(), corners, coordinates=moves.detach())}
    if grad_output is None:
        return terms

    grad = grad_output.abs()
    through_size, for_mask = torch.autograd.grad(sums, (leaves[0], leaves[3]), grad)
    through_slope, through_twist, moved_mask = torch.autograd.grad(moves, leaves[1:], grad)
    # A moved location takes weight from one pixel of its cell and gives it to a neighbour.
    moved_x = _three(through_slope, 2) + _three(through_slope, 1) + _three(_three(through_twist, 2), 1)
    inside = (slice(None), slice(_FRAME, -_FRAME), slice(_FRAME, -_FRAME))
    reads = corners * grad_output[..., 0].numel() / max(1, x[..., 0].numel())
    terms["x"] = Terms(through_size[inside], max(corners, int(reads)), coordinates=moved_x[inside])
    depth = 4 * x.shape[-1] // group
    terms["mask"] = Terms(for_mask, depth, coordinates=moved_mask)
    terms["offset"] = _offset_terms(image, offset, mask, grad_output, reach, depth, framed)
    return terms


def _offset_terms(
    image: Tensor, offset: Tensor, mask: Tensor, grad_output: Tensor, reach: Tensor, count: int, framed: DCNv3Settings
) -> Terms:
    """Sums over channels are bounded by the product of norms over a group's channels, so one channel does for all."""
    group = framed.group
    grad = _norm(grad_output, group)
    bend = _norm(_steepest_mixed(image), group)
    totals, moves, slacks = [], [], []
    scale = mask.abs() * framed.offset_scale
    for component, axis in enumerate((2, 1)):
        near, at_kink = _kinks(offset, framed, component)
        neighbours = _norm(_three(image.abs(), axis), group)
        total = _per_point(neighbours, offset, torch.ones_like(mask), grad, framed)
        totals.append(total * scale)
        moves.append(_per_point(bend, offset, reach, grad, framed) * scale)
        slack = torch.zeros_like(mask)
        if near.any():
            jump = _per_point(_second_difference(image, axis), at_kink, torch.ones_like(mask), grad_output, framed)
            slack = torch.where(near, jump.abs() * scale, 0)
        slacks.append(slack)
    total, slack, moved = (torch.stack(parts, -1).view(offset.shape) for parts in (totals, slacks, moves))
    return Terms(total, count, slack, moved)


def _per_point(field: Tensor, offset: Tensor, weight: Tensor, grad: Tensor, framed: DCNv3Settings) -> Tensor:
    """<grad, sample of the field> of every point, times its weight: the definition's gradient of a mask."""
    with torch.enable_grad():
        ones = torch.ones_like(weight).requires_grad_()
        sampled = dcnv3_definition(field, offset, ones * weight, **framed.options)
    return torch.autograd.grad(sampled, ones, grad)[0]


def _reach(x: Tensor, offset: Tensor, settings: DCNv3Settings) -> Tensor:
    """How many eps a location may be rounded by, in pixels, given that a bound has c >= 6: (N, Ho, Wo, G, P).

    Adding a location up and normalising it takes five roundings, each of at most eps/2 of the padded size or of what
    is added to the place of the output pixel.
    """
    steps, pairs = _steps_and_pairs(offset, settings)
    moved: Tensor = (steps.abs() + pairs.abs()) * abs(settings.offset_scale)
    padded: int = max(x.shape[1:3]) + 2 * settings.pad
    reach: Tensor = 0.5 * (moved.amax(-1) + padded)
    return reach


def _kinks(offset: Tensor, settings: DCNv3Settings, component: int) -> tuple[Tensor, Tensor]:
    """Which locations are within KINK of a whole number in x (component 0) or y, and offsets that put those on it.

    The first is (N, Ho, Wo, G*P), the second shaped as `offset`.
    """
    steps, pairs = _steps_and_pairs(offset, settings)
    scale = settings.offset_scale
    # The rest of a location is whole.
    moved = (steps + pairs) * scale
    near = (moved - moved.round()).abs() <= KINK
    near[..., 1 - component] = False
    there = torch.where(near, moved.round() / (scale or 1.0) - steps, pairs)
    return near[..., component].flatten(3, 4), there.view(offset.shape)


def _steps_and_pairs(offset: Tensor, settings: DCNv3Settings) -> tuple[Tensor, Tensor]:
    """The points' steps from the centre (P, 2) and the offset pairs (N, Ho, Wo, G, P, 2), in x and y."""
    points = list(window(settings.kernel_size, settings.remove_center))
    steps = torch.tensor(points, dtype=offset.dtype, device=offset.device) * settings.dilation - settings.half
    pairs = offset.view(*offset.shape[:3], settings.group, len(points), 2)
    return steps, pairs


def _norm(values: Tensor, group: int) -> Tensor:
    """(N, H, W, C) -> (N, H, W, G): Euclidean norm over the channels of each group."""
    norm: Tensor = torch.linalg.vector_norm(values.unflatten(-1, (group, -1)), dim=-1)
    return norm


def _difference(image: Tensor, axis: int) -> Tensor:
    """The step from each pixel to the next, with one more at either end: size + 1 along the axis (1 is y, 2 is x)."""
    pads = {2: (0, 0, 1, 1), 1: (0, 0, 0, 0, 1, 1)}
    return F.pad(image, pads[axis]).diff(dim=axis)


def _steepest(image: Tensor, axis: int) -> Tensor:
    steps = _difference(image, axis).abs()
    size = image.shape[axis]
    return torch.maximum(steps.narrow(axis, 0, size), steps.narrow(axis, 1, size))


def _steepest_mixed(image: Tensor) -> Tensor:
    mixed = _difference(_difference(image, 1), 2).abs()
    _, height, width, _ = image.shape
    return torch.stack([mixed[:, i : i + height, j : j + width] for i in (0, 1) for j in (0, 1)]).amax(0)


def _second_difference(image: Tensor, axis: int) -> Tensor:
    return _difference(image, axis).diff(dim=axis)


def _three(image: Tensor, axis: int) -> Tensor:
    """Each pixel and its two neighbours along the axis, added up."""
    size = image.shape[axis]
    padded = F.pad(image, {2: (0, 0, 1, 1), 1: (0, 0, 0, 0, 1, 1)}[axis])
    return padded.narrow(axis, 0, size) + padded.narrow(axis, 1, size) + padded.narrow(axis, 2, size)
