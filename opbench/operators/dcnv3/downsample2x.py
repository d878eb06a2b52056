"""DCNv3 and the YOLO block at stride 2, as they compete in the task `downsample2x`: dimensions N C H W G O."""

from __future__ import annotations

from collections import OrderedDict
from math import prod

import torch
from torch import Tensor, nn

from opbench.operators.common.definitions import convolution
from opbench.operators.dcnv3.conv3x3 import SAMPLING, prepare_block, prepare_dcnv3
from opbench.operators.dcnv3.cost import core_macs
from opbench.operators.dcnv3.module import ChannelsFirstDCNv3, DCNV3_YoLo
from opbench.operators.dcnv3.module_definition import dcnv3_module_definition, yolo_block_definition
from opbench.schema import Cost, Dims, Implementation, Operator, Tensors
from opbench.tasks import DOWNSAMPLE2X, halved


def _requires(dims: Dims) -> str | None:
    if dims["O"] % dims["G"] == 0:
        return None
    return f"O={dims['O']} is not a multiple of G={dims['G']} groups"


def _module(dims: Dims, implementation: Implementation) -> nn.Module:
    """DCNv3 keeps its channels: where the place changes them a 1x1 convolution comes first, as in the YOLO block."""
    assert implementation.function is not None
    C, outputs = dims["C"], dims["O"]
    layers = OrderedDict[str, nn.Module]()
    if outputs != C:
        layers["project"] = nn.Conv2d(C, outputs, 1, bias=False)
    layers["dcnv3"] = ChannelsFirstDCNv3(outputs, stride=2, group=dims["G"], implementation=implementation.function)
    return nn.Sequential(layers)


def _definition(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
    x = tensors["x"]
    if "project.weight" in tensors:
        x = convolution(x, tensors["project.weight"])
    out = dcnv3_module_definition(x.permute(0, 2, 3, 1), tensors, "dcnv3.", stride=2, group=dims["G"])
    return out.permute(0, 3, 1, 2)


def _prepare(module: nn.Module, dims: Dims, spread: float, generator: torch.Generator, x: Tensor) -> None:
    assert isinstance(module, nn.Sequential)
    *before, layer = module
    assert isinstance(layer, ChannelsFirstDCNv3)
    with torch.no_grad():
        for one in before:
            x = one(x)
    prepare_dcnv3(layer, x.permute(0, 2, 3, 1), spread, generator)


def _block(dims: Dims, implementation: Implementation) -> nn.Module:
    assert implementation.function is not None
    return DCNV3_YoLo(dims["C"], dims["O"], k=3, s=2, g=dims["G"], implementation=implementation.function)


def _block_definition(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
    return yolo_block_definition(tensors["x"], tensors, training, group=dims["G"], stride=2)


def _cost_of(dims: Dims, projected: int, norms: int) -> Cost:
    """With O channels: 2O^2 + 5O + 9O + 27G(O + 1) parameters, `projected` more of a 1x1 convolution, `norms` of norms.

    Before the stride stand `projected` and O^2 MACs a pixel, behind it O^2 + 9O + 27GO of layers and 36O of the core.
    """
    channels, G, before = dims["O"], dims["G"], prod(dims[axis] for axis in "NHW")
    after = dims["N"] * prod(halved(dims))
    params = 2 * channels**2 + 14 * channels + 27 * G * (channels + 1) + projected + norms
    macs = (projected + channels**2) * before + (channels**2 + 9 * channels + 27 * G * channels) * after
    macs += core_macs(channels, 9, after)
    elements = dims["C"] * before + channels * after + params
    return Cost(params=params, macs=macs, macs_backward=2 * macs, elements=elements)


def _cost(dims: Dims) -> Cost:
    return _cost_of(dims, dims["C"] * dims["O"] if dims["C"] != dims["O"] else 0, 0)


def _block_cost(dims: Dims) -> Cost:
    return _cost_of(dims, dims["C"] * dims["O"], 4 * dims["O"])


MODULE = Operator(
    name="dcnv3",
    task=DOWNSAMPLE2X.name,
    title="DCNv3 at stride 2",
    source="InternImage, arXiv 2211.05778, section 3.1, with offsets of the output's size",
    module=_module,
    definition=_definition,
    cost=_cost,
    prepare=_prepare,
    requires=_requires,
    **SAMPLING,
)
BLOCK = Operator(
    name="yolo-dcnv3",
    task=DOWNSAMPLE2X.name,
    title="DCNv3 at stride 2 in the YOLOv8 write-up's block",
    source="the YOLO community's DCNV3_YoLo with s=2, padded 'same'",
    module=_block,
    definition=_block_definition,
    cost=_block_cost,
    prepare=prepare_block,
    requires=_requires,
    **SAMPLING,
)
