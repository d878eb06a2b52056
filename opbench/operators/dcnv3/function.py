"""`dcnv3`: the checked entry to every core of DCNv3."""

from __future__ import annotations

import torch
from torch import Tensor

from opbench.operators.common.choice import Core
from opbench.operators.dcnv3.cores import CORES
from opbench.operators.dcnv3.settings import DCNv3Settings


def dcnv3(
    x: Tensor,
    offset: Tensor,
    mask: Tensor,
    *,
    kernel_size: int,
    stride: int = 1,
    pad: int,
    dilation: int = 1,
    group: int,
    offset_scale: float = 1.0,
    remove_center: bool = False,
    implementation: str | Core = "auto",
) -> Tensor:
    """x (N, H, W, C), offset (N, Ho, Wo, G*P*2), mask (N, Ho, Wo, G*P) -> (N, Ho, Wo, C): DCNv3's sampling, without
    its projections and without softmax.

    Every output pixel sums P = kernel_size**2 (one less with `remove_center`) bilinear samples per group, weighted by
    the mask. Point p = ix * kernel_size + iy (x is the outer axis) of an output pixel in column u lies at
    x = u*stride - pad + half + (ix*dilation - half + offset_x) * offset_scale, half = dilation*(kernel_size - 1) // 2,
    and likewise in y; an offset pair is (x, y). Pixels outside x are zero, and a sample counts when
    -1 < location < size in both axes: any other contributes nothing and gets no gradient, whatever its mask holds, and
    so do NaN and infinite offsets (cores that leak a NaN mask there say so in their note). Ho and Wo are those of a
    convolution: (H + 2*pad - dilation*(kernel_size - 1) - 1) // stride + 1.

    `implementation` is a name from `CORES`, "auto" or a callable with the core's signature.
    All three tensors share dtype (float64, float32, bfloat16 or float16) and device. Raises TypeError and ValueError
    before any work. Source: InternImage, arXiv 2211.05778, equation 2 and its published operator.

    >>> import torch
    >>> x, offset, mask = torch.ones(1, 5, 5, 8), torch.zeros(1, 5, 5, 36), torch.full((1, 5, 5, 18), 1 / 9)
    >>> dcnv3(x, offset, mask, kernel_size=3, pad=1, group=2)[0, :3, :3, 0]
    tensor([[0.4444, 0.6667, 0.6667],
            [0.6667, 1.0000, 1.0000],
            [0.6667, 1.0000, 1.0000]])
    """
    settings = DCNv3Settings(
        kernel_size=kernel_size,
        stride=stride,
        pad=pad,
        dilation=dilation,
        group=group,
        offset_scale=offset_scale,
        remove_center=remove_center,
    )
    settings.check()
    _check_tensors(x, offset, mask)
    batch, height, width, channels = x.shape
    if channels % group:
        raise ValueError(
            f"x: expected channels last and divisible into {group} groups, got {channels} channels "
            f"in shape {tuple(x.shape)} (N, H, W, C); choose a group that divides them"
        )
    out_height, out_width = settings.output_size(height), settings.output_size(width)
    if out_height < 1 or out_width < 1:
        raise ValueError(
            f"x: {height} x {width} pixels padded by {pad} are smaller than the window of "
            f"{dilation * (kernel_size - 1) + 1} pixels (kernel_size {kernel_size}, dilation {dilation}); pad more"
        )
    said = f"kernel_size {kernel_size}, stride {stride}, pad {pad}, dilation {dilation}, group {group}"
    if remove_center:
        said += ", remove_center"
    for name, tensor, last, axes in (
        ("offset", offset, group * settings.points * 2, "(N, Ho, Wo, G*P*2)"),
        ("mask", mask, group * settings.points, "(N, Ho, Wo, G*P)"),
    ):
        expected = (batch, out_height, out_width, last)
        if tuple(tensor.shape) != expected:
            raise ValueError(
                f"{name}: expected shape {expected} = {axes} for x {tuple(x.shape)} with {said}, "
                f"got {tuple(tensor.shape)}; predict it at the output's size, or change pad or stride to match it"
            )
    core = CORES.choose(implementation, x.device.type)
    return core(x, offset, mask, **settings.options)


def _check_tensors(x: Tensor, offset: Tensor, mask: Tensor) -> None:
    tensors = {"x": x, "offset": offset, "mask": mask}
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name}: expected a torch.Tensor, got {type(tensor).__name__}")
        if tensor.ndim != 4:
            raise ValueError(f"{name}: expected 4 axes, channels last (N, H, W, C), got shape {tuple(tensor.shape)}")
    if x.dtype not in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        raise TypeError(f"x: expected float64, float32, bfloat16 or float16, got {x.dtype}")
    for name in ("offset", "mask"):
        if tensors[name].dtype != x.dtype:
            raise TypeError(f"{name}: expected x's dtype {x.dtype}, got {tensors[name].dtype}; convert it with .to(x)")
        if tensors[name].device != x.device:
            raise ValueError(f"{name}: expected x's device {x.device}, got {tensors[name].device}; move it with .to(x)")
