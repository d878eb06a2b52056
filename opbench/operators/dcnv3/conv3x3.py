"""DCNv3's module and the YOLO block as they compete in the task `conv3x3`: dimensions N C H W G, channels first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from opbench.operators.dcnv3 import constructors
from opbench.operators.dcnv3.cores import CORES
from opbench.operators.dcnv3.cost import COUNTING, FORMULAS, block_cost, layer, module_cost
from opbench.operators.dcnv3.definition import dcnv3_definition
from opbench.operators.dcnv3.layer import in_place
from opbench.operators.dcnv3.module import ChannelsFirstDCNv3, DCNv3, DCNV3_YoLo
from opbench.operators.dcnv3.module_definition import dcnv3_module_definition, yolo_block_definition
from opbench.schema import Cost, Dims, Implementation, Operator, Tensors
from opbench.tasks import CONV3X3, groups, groups_divide, offset_figures, spread_offsets


def prepare_dcnv3(block: DCNv3, x: Tensor, spread: float, generator: torch.Generator) -> None:
    """Draws offset and mask layers so that on `x` (N, H, W, C), what the block receives, offsets spread as asked."""
    with torch.no_grad():
        features = block.features(x)
        spread_offsets(block.offset, slice(None), features, spread / block.offset_scale, generator)
        block.mask.weight.normal_(std=block.channels**-0.5, generator=generator)
        block.mask.bias.normal_(std=0.5, generator=generator)


def _prepare_module(module: nn.Module, dims: Dims, spread: float, generator: torch.Generator, x: Tensor) -> None:
    assert isinstance(module, DCNv3)
    prepare_dcnv3(module, x.permute(0, 2, 3, 1), spread, generator)


def prepare_block(module: nn.Module, dims: Dims, spread: float, generator: torch.Generator, x: Tensor) -> None:
    """The same for the YOLO block, whose own convolution comes first."""
    assert isinstance(module, DCNV3_YoLo)
    with torch.no_grad():
        hidden = module.conv(x)
    prepare_dcnv3(module.dcnv3, hidden.permute(0, 2, 3, 1), spread, generator)


def _module(dims: Dims, implementation: Implementation) -> nn.Module:
    assert implementation.function is not None
    return ChannelsFirstDCNv3(dims["C"], group=dims["G"], implementation=implementation.function)


def _block(dims: Dims, implementation: Implementation) -> nn.Module:
    assert implementation.function is not None
    return DCNV3_YoLo(dims["C"], dims["C"], k=3, g=dims["G"], implementation=implementation.function)


def _module_definition(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
    out = dcnv3_module_definition(tensors["x"].permute(0, 2, 3, 1), tensors, group=dims["G"])
    return out.permute(0, 3, 1, 2)


def _block_definition(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
    return yolo_block_definition(tensors["x"], tensors, training, group=dims["G"])


def _block_in_place(kind: type[nn.Module], site: Any, implementation: object) -> nn.Module:
    """In the place of an nn.Conv2d or of a block around one; the channels may differ."""
    kernel_size, dilation = site.window()
    ouc = site.out_channels
    return kind(site.in_channels, ouc, k=kernel_size, g=groups(ouc), d=dilation, implementation=implementation)


def _learnt(module: nn.Module, tensors: Sequence[Tensor]) -> dict[str, float]:
    """Of the offsets (N, H, W, G*P*2), in units of the layer's offset_scale."""
    return offset_figures(float(module.offset_scale) * tensors[1].flatten(0, 2))  # type: ignore[arg-type]


# What every operator around DCNv3's core declares.
SAMPLING: Mapping[str, Any] = {
    "implementations": CORES,
    "counting": COUNTING,
    "formulas": FORMULAS,
    "preferred": CORES.automatic,
    "deformable": True,
    "subject": "DCNv3",
    "core_definition": dcnv3_definition,
}


def _operator(
    name: str,
    title: str,
    source: str,
    module: Callable[[Dims, Implementation], nn.Module],
    definition: Callable[[Dims, Tensors, bool], Tensor],
    cost: Callable[[Dims], Cost],
    prepare: Callable[[nn.Module, Dims, float, torch.Generator, Tensor], None],
    **declared: Any,
) -> Operator:
    return Operator(
        name=name,
        task=CONV3X3.name,
        title=title,
        source=source,
        module=module,
        definition=definition,
        cost=cost,
        prepare=prepare,
        requires=groups_divide,
        anatomy="opbench.operators.dcnv3.anatomy:ANATOMY",
        **SAMPLING,
        **declared,
    )


MODULE = _operator(
    "dcnv3",
    "DCNv3",
    "InternImage, arXiv 2211.05778, section 3.1",
    _module,
    _module_definition,
    module_cost,
    _prepare_module,
    classes=(DCNv3,),
    constructor=constructors.MODULE,
    replaces=in_place(DCNv3, ChannelsFirstDCNv3, ", or use DCNV3_YoLo"),
    layer=layer,
    learnt=_learnt,
    show="opbench.operators.dcnv3.show:drawn",
)
BLOCK = _operator(
    "yolo-dcnv3",
    "DCNv3 in the YOLOv8 write-up's block",
    "the YOLO community's DCNV3_YoLo, padded 'same'",
    _block,
    _block_definition,
    block_cost,
    prepare_block,
    classes=(DCNV3_YoLo,),
    aliases=("DCNv3",),
    constructor=constructors.BLOCK,
    replaces=_block_in_place,
)
