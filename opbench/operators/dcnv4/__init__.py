"""DCNv4, deformable convolution v4 (arXiv 2401.06197): DCNv3's sampling with unbounded masks, in one packed tensor.

dcnv4(x, offset_mask, *, kernel_size, stride=1, pad, dilation=1, group, offset_scale=1.0, remove_center=False)
DCNv4(channels=64, kernel_size=3, stride=1, pad=1, dilation=1, group=4, ...)   channels last
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from opbench.kernels.dcnv4_packed import pack, unpack
from opbench.operators.dcnv3.layer import in_place
from opbench.operators.dcnv4 import constructors
from opbench.operators.dcnv4.cores import CORES
from opbench.operators.dcnv4.cost import COUNTING, FORMULAS, layer, module_cost
from opbench.operators.dcnv4.definition import dcnv4_definition, dcnv4_module_definition
from opbench.operators.dcnv4.function import dcnv4
from opbench.operators.dcnv4.module import ChannelsFirstDCNv4, DCNv4
from opbench.schema import Dims, Implementation, Operator, Tensors
from opbench.tasks import CONV3X3, groups_divide, offset_figures, spread_offsets

__all__ = ["CORES", "OPERATOR", "OPERATORS", "DCNv4", "dcnv4", "dcnv4_definition", "pack", "unpack"]


def _module(dims: Dims, implementation: Implementation) -> nn.Module:
    assert implementation.function is not None
    return ChannelsFirstDCNv4(dims["C"], group=dims["G"], implementation=implementation.function)


def _definition(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
    x = tensors["x"].permute(0, 2, 3, 1)
    out = dcnv4_module_definition(x, tensors, group=dims["G"], kernel_size=3, pad=1, dilation=1)
    return out.permute(0, 3, 1, 2)


def prepare_dcnv4(block: DCNv4, x: Tensor, spread: float, generator: torch.Generator) -> None:
    """Draws the offset and mask layer so that on `x` (N, H, W, C) offsets spread as asked and masks are about 1/P.

    The layer's rows are taken apart by what they predict and put together again.
    """
    points, layer = block.settings.points, block.offset_mask
    numbers = torch.arange(3 * block.group * points).view(block.group, 3 * points)
    offsets, masks = numbers[:, : 2 * points].flatten(), numbers[:, 2 * points :].flatten()
    with torch.no_grad():
        features = block.features(x)
        alone = nn.Linear(block.channels, len(offsets)).to(layer.weight)
        spread_offsets(alone, slice(None), features, spread / block.offset_scale, generator)
        layer.weight.zero_()
        layer.bias.zero_()
        layer.weight[offsets], layer.bias[offsets] = alone.weight, alone.bias
        drawn = torch.empty(len(masks), block.channels, dtype=layer.weight.dtype)
        layer.weight[masks] = drawn.normal_(std=block.channels**-0.5 / points, generator=generator)
        layer.bias[masks] = 1 / points


def _prepare(module: nn.Module, dims: Dims, spread: float, generator: torch.Generator, x: Tensor) -> None:
    assert isinstance(module, DCNv4)
    prepare_dcnv4(module, x.permute(0, 2, 3, 1), spread, generator)


def _learnt(module: nn.Module, tensors: Sequence[Tensor]) -> dict[str, float]:
    """Of the offsets within (N, H, W, M), in units of the layer's offset_scale."""
    assert isinstance(module, DCNv4)
    offset, _ = unpack(tensors[1], module.group, module.settings.points)
    return offset_figures(float(module.offset_scale) * offset.flatten(0, 2))


OPERATOR = Operator(
    name="dcnv4",
    task=CONV3X3.name,
    title="DCNv4",
    source="DCNv4, arXiv 2401.06197, section 3",
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
    classes=(DCNv4,),
    replaces=in_place(DCNv4, ChannelsFirstDCNv4),
    layer=layer,
    learnt=_learnt,
    core_definition=dcnv4_definition,
    constructor=constructors.MODULE,
    anatomy="opbench.operators.dcnv4.anatomy:ANATOMY",
    show="opbench.operators.dcnv4.show:drawn",
    relations="opbench.operators.dcnv4.relations:RELATIONS",
)
OPERATORS = (OPERATOR,)
