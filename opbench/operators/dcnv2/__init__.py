"""DCNv2 (Deformable ConvNets v2, arXiv 1811.11168): a convolution whose taps are displaced and weighted per pixel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from opbench.operators.common.definitions import convolution
from opbench.operators.dcnv2.cores import CORES
from opbench.operators.dcnv2.cost import COUNTING, FORMULAS, module_cost
from opbench.operators.dcnv2.definition import dcnv2_definition
from opbench.operators.dcnv2.module import DCNv2
from opbench.schema import Dims, Implementation, Operator, Tensors
from opbench.tasks import CONV3X3, groups_divide, offset_figures, spread_offsets

__all__ = ["CORES", "OPERATOR", "OPERATORS", "DCNv2", "dcnv2_definition"]


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


OPERATOR = Operator(
    name="dcnv2",
    task=CONV3X3.name,
    title="DCNv2, G offset groups",
    source="Deformable ConvNets v2, arXiv 1811.11168, equation 2",
    module=_module,
    definition=_definition,
    cost=module_cost,
    implementations=CORES,
    prepare=_prepare,
    requires=groups_divide,
    counting=COUNTING,
    formulas=FORMULAS,
    preferred=CORES.automatic,
    deformable=True,
    classes=(DCNv2,),
    aliases=("DCN",),
    core_definition=dcnv2_definition,
    anatomy="opbench.operators.dcnv2.anatomy:ANATOMY",
    learnt=lambda module, tensors: offset_figures(tensors[1].movedim(1, -1).flatten(0, 2)),
)
OPERATORS = (OPERATOR,)
