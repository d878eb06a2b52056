"""SPDConv (arXiv 2208.03641): 2 x 2 blocks of pixels become channels, and a convolution without stride follows."""

from __future__ import annotations

from torch import Tensor, nn

from opbench.operators.spdconv import constructors
from opbench.operators.spdconv.cores import CORES
from opbench.operators.spdconv.definition import space_to_depth, spdconv_definition
from opbench.operators.spdconv.module import SpaceToDepth, SPDConv
from opbench.schema import Cost, Dims, Implementation, Operator, Tensors
from opbench.tasks import DOWNSAMPLE2X, even

__all__ = ["CORES", "OPERATOR", "OPERATORS", "SPDConv", "SpaceToDepth", "space_to_depth", "spdconv_definition"]


def _module(dims: Dims, implementation: Implementation) -> nn.Module:
    assert implementation.function is not None
    block = bool(dims["block"])
    return SPDConv(dims["C"], dims["O"], k=dims["k"], block=block, implementation=implementation.function)


def _definition(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
    return spdconv_definition(tensors, training, block=bool(dims["block"]))


def _cost(dims: Dims) -> Cost:
    """4CO k^2 parameters, each used once for a pixel of the output; the block's norm has 2O more."""
    C, outputs = dims["C"], dims["O"]
    pixels = dims["N"] * (dims["H"] // 2) * (dims["W"] // 2)
    weights = 4 * C * outputs * dims["k"] ** 2
    params, macs = weights + (2 * outputs if dims["block"] else 0), weights * pixels
    return Cost(params=params, macs=macs, macs_backward=2 * macs, elements=(4 * C + outputs) * pixels + params)


def _requires(dims: Dims) -> str | None:
    if dims["k"] < 1 or dims["k"] % 2 == 0:
        return f"k={dims['k']}: expected an odd kernel size such as 1 or 3"
    return even(dims)


OPERATOR = Operator(
    name="spdconv",
    task=DOWNSAMPLE2X.name,
    title="SPDConv: space to depth, then a convolution",
    source="Sunkara and Luo 2022, arXiv 2208.03641; LabSAINT/SPD-Conv",
    module=_module,
    definition=_definition,
    cost=_cost,
    # In a slot batch norm and activation stay around it; `block` is the pasted class, which brings its own.
    settings={"k": 3, "block": False},
    draws={"k": (3, 1, 5), "block": (False, True)},
    requires=_requires,
    implementations=CORES,
    show="opbench.operators.spdconv.show:drawn",
    preferred=("strided", "slices"),
    classes=(SPDConv, SpaceToDepth),
    aliases=("SPD",),
    constructor=constructors.MODULE,
)
OPERATORS = (OPERATOR,)
