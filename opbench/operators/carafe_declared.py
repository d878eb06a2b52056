"""CARAFE's declarations: the reassembly alone (task `carafe_core`), and its two modules (task `upsample2x`)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from opbench.operators import carafe_definition
from opbench.operators.carafe import CARAFE, IMPLEMENTATIONS, YoloCARAFE, carafe
from opbench.operators.carafe_counting import FORMULAS, counting
from opbench.operators.linear_terms import multilinear
from opbench.operators.tasks import CARAFE_CORE, UPSAMPLE2X
from opbench.registry import register_operator
from opbench.schema import Cost, Dims, Implementation, Operator, Tensors

PAPER = "Wang et al. 2019, CARAFE: Content-Aware ReAssembly of FEatures, arXiv 1905.02188"
COUNTING = Implementation("counting", counting)


class Reassembly(nn.Module):
    """`carafe` as a module without parameters: x (N, C, H, W), mask (N, g*k*k, s*H, s*W) -> (N, C, s*H, s*W)."""

    def __init__(self, kernel_size: int, group_size: int, scale_factor: int, implementation: Implementation) -> None:
        super().__init__()
        self.settings = {"kernel_size": kernel_size, "group_size": group_size, "scale_factor": scale_factor}
        self.implementation = implementation.function or implementation.name

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """The reassembly of x under mask."""
        return carafe(x, mask, **self.settings, implementation=self.implementation)


# --- The reassembly alone ---------------------------------------------------------------------------------------


def _core_inputs(dims: Dims, spread: float, generator: torch.Generator) -> dict[str, Tensor]:
    N, C, H, W, k, g, s = (dims[name] for name in ("N", "C", "H", "W", "k", "g", "s"))
    x = torch.randn(N, C, H, W, generator=generator, dtype=torch.float64)
    logits = torch.randn(N, g, k * k, s * H, s * W, generator=generator, dtype=torch.float64)
    return {"x": x, "mask": logits.softmax(2).flatten(1, 2)}


def _core_module(dims: Dims, implementation: Implementation) -> nn.Module:
    return Reassembly(dims["k"], dims["g"], dims["s"], implementation)


def _core_definition(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
    return carafe_definition.reassembly(
        tensors["x"], tensors["mask"], kernel_size=dims["k"], group_size=dims["g"], scale_factor=dims["s"]
    )


def _core_counts(dims: Dims) -> dict[str, int]:
    taps, children = dims["k"] ** 2, dims["s"] ** 2
    return {"output": taps, "x": taps * children, "mask": dims["C"] // dims["g"]}


def _core_cost(dims: Dims) -> Cost:
    pixels, C, taps, children = dims["N"] * dims["H"] * dims["W"], dims["C"], dims["k"] ** 2, dims["s"] ** 2
    macs = pixels * children * taps * C
    elements = pixels * ((1 + children) * C + children * taps * dims["g"])
    return Cost(params=0, macs=macs, macs_backward=2 * macs, elements=elements)


def _core_requires(dims: Dims) -> str | None:
    return _unfit(dims, kernels=("k",))


def _unfit(dims: Dims, kernels: tuple[str, ...]) -> str | None:
    """Why CARAFE can't run at these dimensions, or None."""
    small = [f"{name}={value}" for name, value in dims.items() if value < 1]
    if small:
        return f"dimensions must be at least 1, got {', '.join(small)}"
    even = [f"{name}={dims[name]}" for name in kernels if dims[name] % 2 == 0]
    if even:
        return f"kernels are centred on a pixel and must be odd, got {', '.join(even)}"
    if dims["C"] % dims.get("g", 1):
        return f"C={dims['C']} is not divisible by g={dims['g']}"
    return None


register_operator(
    Operator(
        name="carafe",
        task=CARAFE_CORE.name,
        title="CARAFE reassembly",
        source=f"{PAPER}, section 3.2",
        inputs=_core_inputs,
        module=_core_module,
        definition=_core_definition,
        cost=_core_cost,
        implementations=IMPLEMENTATIONS,
        magnitude=multilinear(_core_definition, _core_counts),
        requires=_core_requires,
        counting=COUNTING,
        formulas=FORMULAS,
    )
)


# --- The modules, at scale factor 2 -----------------------------------------------------------------------------

SCALE = 2


# The paper's: reassembly kernel, encoder kernel, compressed channels, groups. The write-up's has one group.
SETTINGS: Mapping[str, int] = {"k_up": 5, "k_enc": 3, "c_mid": 64, "g": 1}
YOLO_SETTINGS: Mapping[str, int] = {name: value for name, value in SETTINGS.items() if name != "g"}


def _module_cost(dims: Dims, extra_params: int) -> Cost:
    """Both modules multiply alike; `extra_params` are the biases of one, the normalisations of the other."""
    pixels, C, c_mid = dims["N"] * dims["H"] * dims["W"], dims["C"], dims["c_mid"]
    taps = SCALE**2 * dims["k_up"] ** 2
    weights = C * c_mid + dims["k_enc"] ** 2 * c_mid * taps * dims.get("g", 1)
    macs = pixels * (weights + taps * C)
    params = weights + extra_params
    elements = pixels * (1 + SCALE**2) * C + params
    return Cost(params=params, macs=macs, macs_backward=2 * macs, elements=elements)


def _encoded(dims: Dims) -> int:
    return int(SCALE**2 * dims["k_up"] ** 2 * dims.get("g", 1))


def _paper_module(dims: Dims, implementation: Implementation) -> nn.Module:
    return CARAFE(
        dims["C"],
        SCALE,
        dims["k_up"],
        dims["g"],
        dims["k_enc"],
        compressed_channels=dims["c_mid"],
        implementation=implementation.function or implementation.name,
    )


def _paper_definition(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
    return carafe_definition.carafe_module(tensors, up_kernel=dims["k_up"], up_group=dims["g"], scale_factor=SCALE)


def _paper_cost(dims: Dims) -> Cost:
    return _module_cost(dims, extra_params=dims["c_mid"] + _encoded(dims))


def _paper_requires(dims: Dims) -> str | None:
    return _unfit(dims, kernels=("k_up", "k_enc"))


def _yolo_module(dims: Dims, implementation: Implementation) -> nn.Module:
    return YoloCARAFE(
        dims["C"],
        dims["k_enc"],
        dims["k_up"],
        dims["c_mid"],
        SCALE,
        implementation=implementation.function or implementation.name,
    )


def _yolo_definition(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
    return carafe_definition.yolo_carafe_module(tensors, k_up=dims["k_up"], scale=SCALE, training=training)


def _yolo_cost(dims: Dims) -> Cost:
    return _module_cost(dims, extra_params=2 * (dims["c_mid"] + _encoded(dims)))


def _yolo_requires(dims: Dims) -> str | None:
    if dims.get("g", 1) != 1:
        return f"the write-up's module has one group, got g={dims['g']}"
    return _unfit(dims, kernels=("k_up", "k_enc"))


register_operator(
    Operator(
        name="carafe",
        task=UPSAMPLE2X.name,
        title="CARAFE (paper)",
        source=f"{PAPER}; module of its official package",
        settings=SETTINGS,
        module=_paper_module,
        definition=_paper_definition,
        cost=_paper_cost,
        implementations=IMPLEMENTATIONS,
        requires=_paper_requires,
        counting=COUNTING,
        formulas=FORMULAS,
    )
)
register_operator(
    Operator(
        name="yolo-carafe",
        task=UPSAMPLE2X.name,
        title="CARAFE (YOLOv8 write-up)",
        source="the CARAFE module published for YOLOv8 in place of nn.Upsample",
        settings=YOLO_SETTINGS,
        module=_yolo_module,
        definition=_yolo_definition,
        cost=_yolo_cost,
        implementations=IMPLEMENTATIONS,
        requires=_yolo_requires,
        counting=COUNTING,
        formulas=FORMULAS,
    )
)
