"""HWD, Haar wavelet downsampling (Xu et al. 2023): of every 2 x 2 block its sum and differences, then a convolution.

HWD(in_ch, out_ch, *, k=1)   channels first, with batch norm and ReLU
"""

from __future__ import annotations

from torch import Tensor, nn

from opbench.constructors import Constructor, Settings
from opbench.operators.hwd.cores import CORES
from opbench.operators.hwd.definition import haar, hwd_definition
from opbench.operators.hwd.module import HWD
from opbench.schema import Cost, Dims, Implementation, Operator, Tensors
from opbench.tasks import DOWNSAMPLE2X, halved

__all__ = ["CORES", "HWD", "OPERATOR", "OPERATORS", "haar", "hwd_definition"]


def _module(dims: Dims, implementation: Implementation) -> nn.Module:
    chosen = implementation.function or implementation.name
    return HWD(dims["C"], dims["O"], k=dims["k"], block=bool(dims["block"]), implementation=chosen)


def _definition(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
    return hwd_definition(tensors, training, block=bool(dims["block"]))


def _constructed(settings: Settings, tensors: Tensors, training: bool) -> Tensor:
    return hwd_definition(tensors, training, block=settings["block"])


def _cost(dims: Dims) -> Cost:
    """4CO k^2 weights, each used once for a pixel of the output; the block's biases and norm are 3O more."""
    C, outputs = dims["C"], dims["O"]
    height, width = halved(dims)
    pixels = dims["N"] * height * width
    weights = 4 * C * outputs * dims["k"] ** 2
    params, macs = weights + (3 * outputs if dims["block"] else 0), weights * pixels
    elements = dims["N"] * C * dims["H"] * dims["W"] + outputs * pixels + params
    return Cost(params=params, macs=macs, macs_backward=2 * macs, elements=elements)


def _requires(dims: Dims) -> str | None:
    if dims["k"] < 1 or dims["k"] % 2 == 0:
        return f"k={dims['k']}: expected an odd kernel size such as 1 or 3"
    return None


OPERATOR = Operator(
    name="hwd",
    task=DOWNSAMPLE2X.name,
    title="HWD: Haar wavelet transform, then a convolution",
    source="Xu et al. 2023, doi 10.1016/j.patcog.2023.109819; apple1986/HWD",
    module=_module,
    definition=_definition,
    cost=_cost,
    # In a slot batch norm and activation stay around it; `block` is the published class, which brings its own.
    settings={"k": 1, "block": False},
    draws={"k": (1, 3), "block": (False, True)},
    requires=_requires,
    implementations=CORES,
    show="opbench.operators.hwd.show:drawn",
    preferred=("folded", "bands"),
    classes=(HWD,),
    aliases=("Down_wt",),
    constructor=Constructor(
        settings={"in_ch": (4, 1, 6, 8), "out_ch": (4, 8, 6), "k": (1, 3), "block": (True, False)},
        definition=_constructed,
        channels="out_ch",
        inputs="in_ch",
    ),
)
OPERATORS = (OPERATOR,)
