"""Weighted bilinear sampling by index: what the `gather` and `compiled` cores of DCNv2 and DCNv3 share.

x (N, H, W, C) is read as rows of C/G channels, one row a pixel and group. Every sampling point owns the 2x2 cell of
rows around its location, so one row number and four weights describe it, and the whole operator is a product with a
sparse matrix whose lines all have 4P entries: `torch.nn.functional.embedding_bag` computes exactly that without
writing the samples down. The gradient with respect to x is the product with the transpose, again as bags after a
stable sort of the row numbers: no atomics, the same bits every time, on any device.

A frame of two zero pixels around x makes the outside ordinary: a location that doesn't count is clamped to where its
whole cell lies in the frame, so neither forward nor backward tests corners, and nothing is ever read out of bounds.

A mask is multiplied with the zeros of the frame too: NaN or infinite there, it makes its output NaN. Clearing it would
cost the eager steps a fifth of their time, so the cores say so instead.

Locations are computed in float32, or float64 for float64 inputs, and so are all sums.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from opbench.kernels.formulas import window_samples
from opbench.kernels.geometry import Geometry
from opbench.kernels.twice import asked_again, first_derivative
from opbench.operators.common.exporting import recording

FRAME = 2
# Largest row number (N * (H + 4) * (W + 4) * G) that 32-bit indices reach; beyond it they are 64-bit.
INT32_ROWS = 2**31 - 1


@dataclass(frozen=True)
class Steps:
    """The three steps of sampling that can be computed in more than one way.

    cells(offset, mask, geometry, height, width) -> row number of each point's cell, its four weights
    accumulate(rows, cell, weights, corners)     -> sum over each bag of the weighted rows
    gradients(rows, cell, grad, corners, offset, mask, geometry, height, width) -> gradients of offset and mask
    """

    cells: Callable[..., tuple[Tensor, tuple[Tensor, ...]]]
    accumulate: Callable[..., Tensor]
    gradients: Callable[..., tuple[Tensor, Tensor]]


def sample(
    x: Tensor, offset: Tensor, mask: Tensor, geometry: Geometry, steps: Callable[..., Steps], *, reduce: bool = True
) -> Tensor:
    """x (N, H, W, C), offset (N, Ho, Wo, G*P*2), mask (N, Ho, Wo, G*P) -> masked samples, differentiable in all three.

    `reduce` sums over the points of each group: (N, Ho, Wo, C); otherwise (N, Ho, Wo, G, P, C/G). `steps` gives the
    `Steps` for (x, offset, geometry, reduce).
    """
    if recording():
        # No bags, no loop over the image, and no size that is known only here: the graph keeps batch and size free.
        return window_samples(x, offset, mask, geometry, reduce)
    tensors = (x.contiguous(), offset.contiguous(), mask.contiguous())
    out: Tensor = _Sample.apply(*tensors, geometry, steps, reduce)  # type: ignore[no-untyped-call]
    return out


def eager(x: Tensor, offset: Tensor, geometry: Geometry, reduce: bool) -> Steps:
    """Every step as ordinary torch operations."""
    return Steps(cells, bags, gradients)


class _Sample(torch.autograd.Function):
    """Keeps only its inputs for backward: locations, row numbers and weights are cheaper to compute again."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, offset: Tensor, mask: Tensor, geometry: Geometry, steps: Callable[..., Steps], reduce: bool
    ) -> Tensor:
        ctx.save_for_backward(x, offset, mask)
        ctx.geometry, ctx.reduce = geometry, reduce
        # Compiled steps are kept apart by whether a tensor wants gradients; here none does.
        x, offset, mask = x.detach(), offset.detach(), mask.detach()
        _, height, width, channels = x.shape
        lead = offset.shape[:3]
        shape = (*lead, channels) if reduce else (*lead, geometry.group, geometry.points, channels // geometry.group)
        ctx.steps = chosen = steps(x, offset, geometry, reduce)
        if 0 in shape:
            return x.new_zeros(shape)
        cell, weights = chosen.cells(offset, mask, geometry, height, width)
        bag = geometry.points if reduce else 1
        out = chosen.accumulate(
            _rows(x, geometry.group), cell.view(-1, bag), [w.view(-1, bag) for w in weights], _corners(width, geometry)
        )
        return out.view(shape).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        geometry: Geometry = ctx.geometry
        if asked_again():
            formula = partial(window_samples, geometry=geometry, reduce=ctx.reduce)
            again = first_derivative(formula, grad, ctx.saved_tensors, ctx.needs_input_grad[:3])
            return *again, None, None, None
        x, offset, mask = (saved.detach() for saved in ctx.saved_tensors)
        grad_x = grad_offset = grad_mask = None
        if grad.numel() == 0:
            return torch.zeros_like(x), torch.zeros_like(offset), torch.zeros_like(mask), None, None, None
        _, height, width, channels = x.shape
        bag = geometry.points if ctx.reduce else 1
        corners = _corners(width, geometry)
        grad = grad.reshape(-1, channels // geometry.group).to(_compute_dtype(x))
        cell, weights = ctx.steps.cells(offset, mask, geometry, height, width)
        cell = cell.view(-1, bag)
        if ctx.needs_input_grad[0]:
            grad_x = _transposed_bags(x, cell, [w.view(-1, bag) for w in weights], corners, grad).to(x.dtype)
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            rows = _rows(x, geometry.group)
            grad_offset, grad_mask = ctx.steps.gradients(
                rows, cell, grad, corners, offset, mask, geometry, height, width
            )
        return grad_x, grad_offset, grad_mask, None, None, None


def cells(
    offset: Tensor, mask: Tensor, geometry: Geometry, height: int, width: int
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The row number of each point's upper left corner, and its four weights with the mask folded in."""
    x, y = _clamped(offset, geometry, height, width)
    column, line = x.floor(), y.floor()
    x, y = x - column, y - line
    batch, group, points = offset.shape[0], geometry.group, geometry.points
    framed = (height + 2 * FRAME) * (width + 2 * FRAME)
    index = torch.int32 if batch * framed * group <= INT32_ROWS else torch.int64
    image = torch.arange(batch, device=offset.device, dtype=index).view(batch, 1, 1, 1) * (framed * group)
    first = image + torch.arange(group, device=offset.device, dtype=index).repeat_interleave(points)
    first = first + ((width + 2 * FRAME) * FRAME + FRAME) * group
    cell = torch.add(first, column.to(index), alpha=group)
    cell = torch.add(cell, line.to(index), alpha=(width + 2 * FRAME) * group)
    lower = mask.to(x.dtype) * y
    upper = mask - lower
    upper_right, lower_right = upper * x, lower * x
    return cell, (upper - upper_right, upper_right, lower - lower_right, lower_right)


def bags(rows: Tensor, cell: Tensor, weights: list[Tensor], corners: tuple[int, ...]) -> Tensor:
    """rows (R, C/G), cell and weights (B, points) -> sum over points and corners, (B, C/G)."""
    out = None
    for weight, corner in zip(weights, corners, strict=True):
        part = F.embedding_bag(cell, rows[corner:], per_sample_weights=weight, mode="sum")
        out = part if out is None else out.add_(part)
    assert out is not None
    return out


def gradients(
    rows: Tensor,
    cell: Tensor,
    grad: Tensor,
    corners: tuple[int, ...],
    offset: Tensor,
    mask: Tensor,
    geometry: Geometry,
    height: int,
    width: int,
) -> tuple[Tensor, Tensor]:
    """Gradients of offset and mask: both are made of the four products <grad, corner row> of each point."""
    if torch.compiler.is_compiling():
        # No autograd inside a graph; and there the gathered rows are fused away.
        parts = [(rows[corner:][cell.long()] * grad.unsqueeze(1)).sum(-1).view(mask.shape) for corner in corners]
        return combine(parts, offset, mask, geometry, height, width)
    ones = torch.ones(cell.shape, dtype=rows.dtype, device=rows.device).requires_grad_()
    products = []
    for corner in corners:
        # The gradient of a bag's weights is this product, row by row and without gathering the rows.
        with torch.enable_grad():
            bag = F.embedding_bag(cell, rows[corner:], per_sample_weights=ones, mode="sum")
        products.append(torch.autograd.grad(bag, ones, grad)[0].view(mask.shape))
    return combine(products, offset, mask, geometry, height, width)


def combine(
    products: list[Tensor], offset: Tensor, mask: Tensor, geometry: Geometry, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """The chain rule from the corner products to offset and mask; points that don't count get zero."""
    location_x, location_y = _clamped(offset, geometry, height, width)
    x, y = location_x - location_x.floor(), location_y - location_y.floor()
    upper_left, upper_right, lower_left, lower_right = products
    left, right = upper_left + (lower_left - upper_left) * y, upper_right + (lower_right - upper_right) * y
    upper, lower = upper_left + (upper_right - upper_left) * x, lower_left + (lower_right - lower_left) * x
    grad_mask = left + (right - left) * x
    scaled = mask.to(x.dtype) * geometry.offset_scale
    # At a location of exactly -1 the cell holds a pixel, but the sample doesn't count.
    counts = (location_x > -1) & (location_x < width) & (location_y > -1) & (location_y < height)
    grad_x = torch.where(counts, (right - left) * scaled, 0)
    grad_y = torch.where(counts, (lower - upper) * scaled, 0)
    return geometry.pair(grad_x, grad_y).view(offset.shape).to(offset.dtype), grad_mask.to(mask.dtype)


def _clamped(offset: Tensor, geometry: Geometry, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The locations; those outside, infinite or NaN are moved to where their whole cell lies in the frame."""
    x, y = geometry.locations(offset.to(_compute_dtype(offset)))
    # NaN is not above anything.
    x, y = torch.where(x > -FRAME, x, -FRAME), torch.where(y > -FRAME, y, -FRAME)
    return x.clamp_(max=width), y.clamp_(max=height)


def _transposed_bags(x: Tensor, cell: Tensor, weights: list[Tensor], corners: tuple[int, ...], grad: Tensor) -> Tensor:
    """The gradient of x: every row sums the output gradients of the points whose cell holds it."""
    batch, height, width, channels = x.shape
    framed = grad.new_zeros(batch, height + 2 * FRAME, width + 2 * FRAME, channels)
    rows = framed.view(-1, grad.shape[1])
    ends = len(rows) - corners[-1]
    keys, order = torch.sort(cell.view(-1), stable=True)
    starts = torch.searchsorted(keys, torch.arange(ends, device=x.device, dtype=keys.dtype))
    source = order // cell.shape[1]
    for weight, corner in zip(weights, corners, strict=True):
        rows[corner : corner + ends] += F.embedding_bag(
            source, grad, starts, per_sample_weights=weight.reshape(-1)[order], mode="sum"
        )
    return framed[:, FRAME:-FRAME, FRAME:-FRAME].contiguous()


def _rows(x: Tensor, group: int) -> Tensor:
    framed = F.pad(x.to(_compute_dtype(x)), (0, 0, FRAME, FRAME, FRAME, FRAME))
    # Padding keeps whatever order of axes it reads into the strides of a one-pixel axis.
    return framed.reshape(-1, x.shape[-1] // group)


def _corners(width: int, geometry: Geometry) -> tuple[int, ...]:
    """Row numbers of the other corners of a cell, relative to its upper left one."""
    right, below = geometry.group, (width + 2 * FRAME) * geometry.group
    return 0, right, below, below + right


def _compute_dtype(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32
