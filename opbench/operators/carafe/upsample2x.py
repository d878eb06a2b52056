"""CARAFE's two modules as they compete in the task `upsample2x`: dimensions N C H W, settings k_up k_enc c_mid g."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from opbench.operators.carafe import constructors, cost, definition
from opbench.operators.carafe.cost import COUNTING, FORMULAS, SCALE
from opbench.operators.carafe.definition import PAPER
from opbench.operators.carafe.fitting import unfit
from opbench.operators.carafe.implementations import IMPLEMENTATIONS
from opbench.operators.carafe.module import CARAFE, YoloCARAFE
from opbench.schema import Dims, Implementation, Operator, Tensors
from opbench.tasks import UPSAMPLE2X

# The paper's: reassembly kernel, encoder kernel, compressed channels, groups. The write-up's has one group.
SETTINGS: Mapping[str, int] = {"k_up": 5, "k_enc": 3, "c_mid": 64, "g": 1}
YOLO_SETTINGS: Mapping[str, int] = {name: value for name, value in SETTINGS.items() if name != "g"}


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
    return definition.carafe_module(tensors, up_kernel=dims["k_up"], up_group=dims["g"], scale_factor=SCALE)


def _paper_requires(dims: Dims) -> str | None:
    return unfit(dims, kernels=("k_up", "k_enc"))


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
    return definition.yolo_carafe_module(tensors, k_up=dims["k_up"], scale=SCALE, training=training)


def _yolo_requires(dims: Dims) -> str | None:
    if dims.get("g", 1) != 1:
        return f"the write-up's module has one group, got g={dims['g']}"
    return unfit(dims, kernels=("k_up", "k_enc"))


def _paper_in_place(kind: type[nn.Module], site: Any, implementation: object) -> nn.Module:
    return kind(site.channels, scale_factor=site.upsampling(), implementation=implementation)


def _yolo_in_place(kind: type[nn.Module], site: Any, implementation: object) -> nn.Module:
    return kind(site.channels, scale=site.upsampling(), implementation=implementation)


def _entropy(module: nn.Module, tensors: Sequence[Tensor]) -> dict[str, float]:
    """The mask of the core (N, g*k*k, 2H, 2W), of one group."""
    kernels = tensors[1].double()
    bits = -(kernels * kernels.clamp(min=1e-300).log2()).sum(1)
    return {"kernel entropy": bits.mean().item()}


MODULE = Operator(
    name="carafe",
    task=UPSAMPLE2X.name,
    title="CARAFE (paper)",
    source=f"{PAPER}; module of its official package",
    show="opbench.operators.carafe.show:drawn",
    subject="CARAFE",
    settings=SETTINGS,
    preferred=IMPLEMENTATIONS.automatic,
    classes=(CARAFE,),
    aliases=("CARAFEPack",),
    constructor=constructors.PAPER,
    replaces=_paper_in_place,
    layer=cost.paper_layer,
    learnt=_entropy,
    core_definition=definition.reassembly,
    anatomy="opbench.operators.carafe.anatomy:ANATOMY",
    module=_paper_module,
    definition=_paper_definition,
    cost=cost.paper_cost,
    implementations=IMPLEMENTATIONS,
    requires=_paper_requires,
    counting=COUNTING,
    formulas=FORMULAS,
)

YOLO_MODULE = Operator(
    name="yolo-carafe",
    task=UPSAMPLE2X.name,
    title="CARAFE (YOLOv8 write-up)",
    source="the CARAFE module published for YOLOv8 in place of nn.Upsample",
    subject="CARAFE",
    settings=YOLO_SETTINGS,
    preferred=IMPLEMENTATIONS.automatic,
    classes=(YoloCARAFE,),
    aliases=("CARAFE",),
    constructor=constructors.YOLO,
    replaces=_yolo_in_place,
    layer=cost.yolo_layer,
    learnt=_entropy,
    core_definition=definition.reassembly,
    anatomy="opbench.operators.carafe.anatomy:ANATOMY",
    module=_yolo_module,
    definition=_yolo_definition,
    cost=cost.yolo_cost,
    implementations=IMPLEMENTATIONS,
    requires=_yolo_requires,
    counting=COUNTING,
    formulas=FORMULAS,
)
