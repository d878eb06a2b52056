"""torchvision's deformable convolution v2, as DCNv2 and, between two transpositions, as DCNv3; and what it moves."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from opbench.operators.common.looking import once
from opbench.schema import MovedBytes

# Images whose columns it writes out at once, at most (`kMaxParallelImgs` of its source).
_IMAGES = 32


def deform_conv2d(
    x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, *, stride: int, pad: int, dilation: int, group: int
) -> Tensor:
    """torchvision.ops.deform_conv2d; `group` follows from the offset's channels."""
    from torchvision.ops import deform_conv2d as operation

    out: Tensor = operation(x, offset, weight, stride=stride, padding=pad, dilation=dilation, mask=mask)
    return out


def dcnv3(
    x: Tensor,
    offset: Tensor,
    mask: Tensor,
    *,
    kernel_size: int,
    stride: int,
    pad: int,
    dilation: int,
    group: int,
    offset_scale: float,
    remove_center: bool,
) -> Tensor:
    """x (N, H, W, C): torchvision.ops.deform_conv2d, deformable convolution v2 with unit weights for each channel."""
    given = as_dcnv2(x, offset, mask, kernel_size, dilation, group, offset_scale, remove_center)
    out = deform_conv2d(*(t.contiguous() for t in given), stride=stride, pad=pad, dilation=dilation, group=group)
    return out.permute(0, 2, 3, 1)


def as_dcnv2(
    x: Tensor,
    offset: Tensor,
    mask: Tensor,
    kernel_size: int,
    dilation: int,
    group: int,
    offset_scale: float,
    remove_center: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x (N, H, W, C), offset and mask of DCNv3 -> x, offset, mask and weight (C, 1, k, k) of the DCNv2 that it is.

    DCNv2's tap in row j and column i lies at (v*stride - pad + j*dilation + y, u*stride - pad + i*dilation + x), taps
    by rows, pairs (y, x), channels first. So an offset o of DCNv3, x outer, becomes half - i*d + (i*d - half + o) a.
    """
    N, C = x.shape[0], x.shape[3]
    _, Ho, Wo, _ = offset.shape
    half = (dilation * (kernel_size - 1)) >> 1
    # Counted, not copied from the host: a CUDA graph that is being captured forbids it.
    steps = torch.arange(kernel_size, dtype=offset.dtype, device=offset.device) * dilation
    grid = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1).view(-1, 2)
    if remove_center:
        grid = torch.cat((grid[: kernel_size**2 // 2], grid[kernel_size**2 // 2 + 1 :]))
    pairs = offset.reshape(N, Ho, Wo, group, -1, 2)
    moved = half - grid + (grid - half + pairs) * offset_scale
    weights = mask.reshape(N, Ho, Wo, group, -1, 1)
    if remove_center:
        moved, weights = (_with_middle(values, kernel_size**2 // 2) for values in (moved, weights))
    # Points x outer -> taps by rows, (x, y) -> (y, x), and channels first.
    moved = moved.unflatten(4, (kernel_size, kernel_size)).transpose(4, 5).flip(-1)
    weights = weights.unflatten(4, (kernel_size, kernel_size)).transpose(4, 5)
    # It floors whatever number it gets: NaN, infinite and far locations go to one harmless place outside.
    moved = torch.where(moved.abs() < 1e6, moved, 1e6)
    unit = torch.ones(C, 1, kernel_size, kernel_size, dtype=x.dtype, device=x.device)
    first = (0, 3, 1, 2)
    return x.permute(first), moved.flatten(3).permute(first), weights.flatten(3).permute(first), unit


def _forward_bytes(arguments: Sequence[Any], outputs: Sequence[Tensor]) -> int:
    """As its source for the CPU has it: columns are zeroed for some images, written for all, and multiplied; the
    product is added to zeros, copied to where the output was zeroed, and the bias added to that.
    """
    x, weight, offset, mask, bias = arguments[:5]
    columns, zeroed, _ = _columns(x, weight, outputs[0])
    copies = sum(2 * t.nbytes for t in (x, weight, offset, mask) if not t.is_contiguous())
    read = sum(t.nbytes for t in (x, weight, offset, mask, bias))
    return int(copies + read + zeroed + 2 * columns + 8 * outputs[0].nbytes)


def _backward_bytes(arguments: Sequence[Any], outputs: Sequence[Tensor]) -> int:
    """As its source for the CPU has it: all gradients begin as zeros. Columns of the output's gradient are zeroed,
    added to, and read for the offsets and for x; those of x are written, and multiplied for the weight.
    """
    grad, x, weight, offset, mask = arguments[:5]
    columns, _, images = _columns(x, weight, grad)
    copies = sum(2 * t.nbytes for t in (grad, x, weight, offset, mask) if not t.is_contiguous())
    to_x, to_weight, to_offset, to_mask, to_bias = outputs
    read = 2 * x.nbytes + weight.nbytes + 3 * (offset.nbytes + mask.nbytes)
    grads = (7 if images > 1 else 5) * grad.nbytes  # several images' channels are brought together first
    made = 3 * (to_x.nbytes + to_weight.nbytes) + 2 * (to_offset.nbytes + to_mask.nbytes) + to_bias.nbytes
    return int(copies + read + grads + made + 7 * columns)


def _columns(x: Tensor, weight: Tensor, out: Tensor) -> tuple[int, int, int]:
    """Bytes of all columns and of those that are held at once, and of how many images those are."""
    batch = x.shape[0]
    images = next(n for n in range(min(batch, _IMAGES), 0, -1) if batch % n == 0)
    one = x.shape[1] * weight.shape[2:].numel() * out.shape[2:].numel() * x.element_size()
    return batch * one, images * one, images


TRAFFIC: Mapping[str, MovedBytes] = {
    "torchvision::deform_conv2d": _forward_bytes,
    "torchvision::_deform_conv2d_backward": _backward_bytes,
}


def _with_middle(values: Tensor, middle: int) -> Tensor:
    """(N, Ho, Wo, G, P, ...) -> P + 1 points, zeros for the middle one: what has mask 0 weighs nothing."""
    return torch.cat((values[..., :middle, :], torch.zeros_like(values[..., :1, :]), values[..., middle:, :]), -2)


@once
def missing() -> str | None:
    """Why torchvision's operator can't run here, or None: its compiled part must fit this torch."""
    if importlib.util.find_spec("torchvision") is None:
        return "torchvision is not installed (pip install torchvision)"
    try:
        ones = torch.ones(1, 1, 3, 3)
        out = deform_conv2d(ones, ones.new_zeros(1, 18, 3, 3), ones[:, :1].expand(1, 9, 3, 3), ones, stride=1, pad=1,
                          dilation=1, group=1)  # fmt: skip
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        return f"torchvision's deform_conv2d doesn't work with torch {torch.__version__}: {error}"
    return None if out[0, 0, 1, 1] == 9 else "torchvision's deform_conv2d returns wrong values"
