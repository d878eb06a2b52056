"""DCNv2 (Deformable ConvNets v2, arXiv 1811.11168): a convolution whose taps are displaced and weighted per pixel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from opbench.operators.choice import Core, choose
from opbench.operators.conv3x3_task import groups_divide, spread_offsets
from opbench.operators.dcnv2_cores import CORES, FALLBACK, PREFERRED
from opbench.operators.dcnv2_counting import COUNTING, FORMULAS, core_macs
from opbench.operators.dcnv3_definition import again_in_backward, as_rows, bilinear
from opbench.operators.definitions import convolution
from opbench.registry import register_operator
from opbench.schema import Cost, Dims, Implementation, Operator, Tensors

__all__ = ["CORES", "DCNv2"]


class DCNv2(nn.Module):
    """x (N, C, H, W) -> (N, O, Ho, Wo): modulated deformable convolution, without bias.

    A convolution of the same geometry (`conv_offset`, with bias) predicts, for each of G groups of input channels and
    K = k*k points in rows, 2K offsets (y, x) and K mask logits; the mask is their sigmoid. It starts at zero, so that
    a fresh module is half a convolution. Channels of its output: all offsets first, then all logits, as in the
    packs of mmcv and Detectron2. `implementation` is a name from `CORES`, "auto" or a callable.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        pad: int = 1,
        dilation: int = 1,
        group: int = 1,
        *,
        implementation: str | Core = "auto",
    ) -> None:
        super().__init__()
        if in_channels % group:
            raise ValueError(f"in_channels: expected a multiple of group, got {in_channels} channels, {group} groups")
        self.settings = {"stride": stride, "pad": pad, "dilation": dilation, "group": group}
        self.points = group * kernel_size**2
        self.implementation = implementation
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        self.conv_offset = nn.Conv2d(in_channels, 3 * self.points, kernel_size, stride, pad, dilation)
        bound = (in_channels * kernel_size**2) ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.zeros_(self.conv_offset.weight)
        assert self.conv_offset.bias is not None
        nn.init.zeros_(self.conv_offset.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W) -> (N, O, Ho, Wo). Raises ValueError for another number of channels or axes."""
        if x.ndim != 4 or x.shape[1] != self.weight.shape[1]:
            raise ValueError(f"x: expected (N, {self.weight.shape[1]}, H, W), got shape {tuple(x.shape)}")
        offset, logits = self.conv_offset(x).split((2 * self.points, self.points), 1)
        core = choose(self.implementation, CORES, x.device.type, PREFERRED, FALLBACK)
        return core(x, offset, logits.sigmoid(), self.weight, **self.settings)


def dcnv2_definition(
    x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, *, stride: int, pad: int, dilation: int, group: int
) -> Tensor:
    """x (N, C, H, W), offset (N, 2*G*K, Ho, Wo), mask (N, G*K, Ho, Wo), weight (O, C, k, k) -> (N, O, Ho, Wo).

    Equation 2 of the paper. Tap (i, j) = point i*k + j of an output pixel in row v lies at
    y = v*stride - pad + i*dilation + offset_y, and likewise in x; sampled as DCNv3's definition does.
    """
    batch, _, height, width = x.shape
    outputs, _, k, _ = weight.shape
    out_height, out_width = offset.shape[2:]
    rows = as_rows(x.permute(0, 2, 3, 1), group)
    pairs = offset.permute(0, 2, 3, 1).reshape(batch, out_height, out_width, group, k * k, 2)
    masks = mask.permute(0, 2, 3, 1).reshape(batch, out_height, out_width, group, k * k)
    corner_y = (torch.arange(out_height, device=x.device) * stride - pad).to(x.dtype).view(-1, 1, 1)
    corner_x = (torch.arange(out_width, device=x.device) * stride - pad).to(x.dtype).view(-1, 1)

    def tap(i: int, j: int, rows: Tensor, pairs: Tensor, masks: Tensor, weight: Tensor) -> Tensor:
        p = i * k + j
        at_y = corner_y + i * dilation + pairs[..., p, 0]
        at_x = corner_x + j * dilation + pairs[..., p, 1]
        return bilinear(rows, height, width, at_x, at_y, masks[..., p]).flatten(3) @ weight[:, :, i, j].T

    out = torch.zeros(batch, out_height, out_width, outputs, dtype=x.dtype, device=x.device)
    for i in range(k):
        for j in range(k):
            out = out + again_in_backward(tap, i, j, rows, pairs, masks, weight)
    return out.permute(0, 3, 1, 2)


def _definition(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
    x, points = tensors["x"], 9 * dims["G"]
    predicted = convolution(x, tensors["conv_offset.weight"], tensors["conv_offset.bias"])
    offset, mask = predicted[:, : 2 * points], torch.sigmoid(predicted[:, 2 * points :])
    return dcnv2_definition(x, offset, mask, tensors["weight"], stride=1, pad=1, dilation=1, group=dims["G"])


def _module(dims: Dims, implementation: Implementation) -> nn.Module:
    assert implementation.function is not None
    return DCNv2(dims["C"], dims["C"], group=dims["G"], implementation=implementation.function)


def _prepare(module: nn.Module, dims: Dims, spread: float, generator: torch.Generator, x: Tensor) -> None:
    assert isinstance(module, DCNv2)
    layer, offsets = module.conv_offset, 2 * module.points
    assert layer.bias is not None
    spread_offsets(layer, slice(offsets), x, spread, generator)
    with torch.no_grad():
        layer.weight[offsets:].normal_(std=(9 * dims["C"]) ** -0.5, generator=generator)
        layer.bias[offsets:].normal_(std=0.5, generator=generator)


def _cost(dims: Dims) -> Cost:
    """Parameters 9C^2 + 27G(9C + 1); MACs per pixel 9C^2 + 36C of the core and 243GC of the offset convolution."""
    C, G, pixels = dims["C"], dims["G"], dims["N"] * dims["H"] * dims["W"]
    params = 9 * C * C + 27 * G * (9 * C + 1)
    macs = core_macs(C, C, 9, pixels) + 27 * G * 9 * C * pixels
    return Cost(params=params, macs=macs, macs_backward=2 * macs, elements=2 * C * pixels + params)


OPERATOR = register_operator(
    Operator(
        name="dcnv2",
        task="conv3x3",
        title="DCNv2, G offset groups",
        source="Deformable ConvNets v2, arXiv 1811.11168, equation 2",
        module=_module,
        definition=_definition,
        cost=_cost,
        implementations=CORES,
        prepare=_prepare,
        requires=groups_divide,
        counting=COUNTING,
        formulas=FORMULAS,
    )
)
