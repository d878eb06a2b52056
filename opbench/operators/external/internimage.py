"""InternImage's compiled extension, the package `DCNv3`."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any

import torch
from torch import Tensor


class _Extension(torch.autograd.Function):
    """The extension's pair of functions; its arguments are the same for both up to the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, offset: Tensor, mask: Tensor, settings: tuple[Any, ...], last: Any) -> Tensor:
        ctx.save_for_backward(x, offset, mask)
        ctx.settings, ctx.last = settings, last
        extension = importlib.import_module("DCNv3")
        out: Tensor = extension.dcnv3_forward(x, offset, mask, *settings, *last)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        extension = importlib.import_module("DCNv3")
        found = extension.dcnv3_backward(*ctx.saved_tensors, *ctx.settings, gradients[0].contiguous(), *ctx.last)
        return (*found, None, None)


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
    """x (N, H, W, C): InternImage's compiled extension `DCNv3`, which has our core's layout. CUDA.

    Version 1.0 knows no remove_center.
    """
    both = (kernel_size, kernel_size, stride, stride, pad, pad, dilation, dilation)
    settings = (*both, group, x.shape[-1] // group, float(offset_scale))
    images_at_once = max(1, x.shape[0])
    last: tuple[Any, ...] = (images_at_once, bool(remove_center))
    if importlib.metadata.version("DCNv3").startswith("1.0"):
        if remove_center:
            raise ValueError("remove_center: version 1.0 of the DCNv3 extension does not know it; install 1.1")
        last = last[:1]
    out: Tensor = _Extension.apply(x.contiguous(), offset.contiguous(), mask.contiguous(), settings, last)  # type: ignore[no-untyped-call]
    return out
