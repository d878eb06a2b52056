"""CARAFE++'s downsampling (Wang et al. 2020, arXiv 2012.04733): windows added up under weights predicted at a stride.

CARAFEDownsample(channels, scale_factor=2, down_kernel=5, down_group=1, ...)   channels first
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from opbench.constructors import Constructor, Settings
from opbench.operators.carafe_downsample import cost
from opbench.operators.carafe_downsample.cores import CORES
from opbench.operators.carafe_downsample.definition import PAPER, downsampling, reassembly
from opbench.operators.carafe_downsample.module import CARAFEDownsample
from opbench.schema import Dims, Implementation, Operator, Setting, Tensors
from opbench.tasks import DOWNSAMPLE2X

__all__ = ["CORES", "OPERATOR", "OPERATORS", "CARAFEDownsample", "downsampling", "reassembly"]

# The paper's, for downsampling: reassembly kernel, encoder kernel, compressed channels; one group.
SETTINGS: dict[str, Setting] = {"k_down": 5, "k_enc": 3, "c_mid": 16, "g": 1}


def _module(dims: Dims, implementation: Implementation) -> nn.Module:
    return CARAFEDownsample(
        dims["C"],
        cost.SCALE,
        dims["k_down"],
        dims["g"],
        dims["k_enc"],
        dims["c_mid"],
        out_channels=dims["O"],
        implementation=implementation.function or implementation.name,
    )


def _definition(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
    return downsampling(tensors, down_kernel=dims["k_down"], down_group=dims["g"], scale_factor=cost.SCALE)


def _constructed(settings: Settings, tensors: Tensors, training: bool) -> Tensor:
    names = ("down_kernel", "down_group", "scale_factor")
    return downsampling(tensors, **{name: settings[name] for name in names})


def _requires(dims: Dims) -> str | None:
    for name in ("k_down", "k_enc"):
        if dims[name] < 1 or dims[name] % 2 == 0:
            return f"{name}={dims[name]}: expected an odd kernel size such as 3 or 5, it is centred on a pixel"
    if dims["c_mid"] < 1:
        return f"c_mid={dims['c_mid']}: expected at least one compressed channel"
    if dims["g"] < 1 or dims["C"] % dims["g"]:
        return f"C={dims['C']} is not divisible by g={dims['g']}"
    return None


def _in_place(kind: type[nn.Module], site: Any, implementation: object) -> nn.Module:
    """In the place of a convolution of stride 2; the channels may differ."""
    if not site.halves:
        shapes = ", ".join(f"{call.shape_in} -> {call.shape_out}" for call in site.calls)
        raise site.refused(f"carafe-downsample halves height and width, the module there makes {shapes}")
    return kind(site.in_channels, out_channels=site.out_channels, implementation=implementation)


OPERATOR = Operator(
    name="carafe-downsample",
    task=DOWNSAMPLE2X.name,
    title="CARAFE++ downsampling",
    source=f"{PAPER}, downsampling",
    module=_module,
    definition=_definition,
    cost=cost.module_cost,
    implementations=CORES,
    settings=SETTINGS,
    draws={"k_down": (5, 3), "k_enc": (3, 1), "c_mid": (16, 4), "g": (1, 2)},
    requires=_requires,
    counting=cost.COUNTING,
    formulas=cost.FORMULAS,
    preferred=("shift-add", "unfold"),
    classes=(CARAFEDownsample,),
    aliases=("CarafeDown", "CARAFE_Down", "CARAFEPlusDown"),
    constructor=Constructor(
        settings={
            "channels": (4, 1, 6, 8),
            "scale_factor": (2, 1, 3),
            "down_kernel": (5, 1, 3),
            "down_group": (1, 2),
            "encoder_kernel": (3, 1, 5),
            "compressed_channels": (4, 7, 16),
        },
        aliases={
            "s": "scale_factor",
            "k_down": "down_kernel", "downsample_kernel_size": "down_kernel", "k_reassembly": "down_kernel",
            "k_enc": "encoder_kernel", "k_encoder": "encoder_kernel", "encoder_kernel_size": "encoder_kernel",
            "c_mid": "compressed_channels", "m_channels": "compressed_channels", "cm": "compressed_channels",
        },
        definition=_constructed,
        channels="channels",
        groups="down_group",
    ),
    replaces=_in_place,
    layer=cost.layer,
    core_definition=reassembly,
    show="opbench.operators.carafe_downsample.show:drawn",
    relations="opbench.operators.carafe_downsample.relations:RELATIONS",
)  # fmt: skip
OPERATORS = (OPERATOR,)
