"""ONNX's own deformable convolution, `DeformConv`, as what an exporter writes down for DCNv3.

It is the operation that runtimes have a kernel of their own for: ONNX Runtime, and OpenVINO by its
DeformableConvolution. In torch there is none, and the same function is computed in ordinary operations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.jit._trace import is_tracing

from opbench.errors import NeedsOpset
from opbench.operators.external.torchvision import as_dcnv2

# The first opset that has DeformConv.
OPSET = 19


class _DeformConv(torch.autograd.Function):
    """One node of a graph; what it computes in torch is its output's shape alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, *settings: int) -> Tensor:
        return x.new_zeros(x.shape[0], weight.shape[0], *offset.shape[2:])

    @staticmethod
    def symbolic(
        g: Any, x: Any, offset: Any, mask: Any, weight: Any,
        channels: int, kernel_size: int, stride: int, pad: int, dilation: int, group: int,
    ) -> Any:  # fmt: skip
        """The node, with a group of the convolution for each channel. Raises NeedsOpset where a file has none."""
        if g.opset < OPSET:
            raise NeedsOpset("DeformConv", OPSET)
        bias = g.op("prim::Constant")
        bias.setType(torch._C.OptionalType.ofTensor())
        return g.op(
            "DeformConv", x, weight, offset, bias, mask, kernel_shape_i=[kernel_size] * 2, strides_i=[stride] * 2,
            pads_i=[pad] * 4, dilations_i=[dilation] * 2, group_i=channels, offset_group_i=group,
        )  # fmt: skip


def writing() -> bool:
    """Whether torch's exporter is writing an ONNX file now, and by tracing: only then it asks for nodes."""
    return torch.onnx.is_in_onnx_export() and bool(is_tracing())


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
    """x (N, H, W, C): one DeformConv between two transpositions, to be called while `writing`."""
    given = as_dcnv2(x, offset, mask, kernel_size, dilation, group, offset_scale, remove_center)
    settings = (int(x.shape[3]), kernel_size, stride, pad, dilation, group)
    out: Tensor = _DeformConv.apply(*given, *settings)  # type: ignore[no-untyped-call]
    return out.permute(0, 2, 3, 1)
