"""ultralytics' detectors as contenders: a family as it is, CARAFE in its neck, DCNv3 in its backbone, and both.

What comes out is one tensor: in inference boxes and scores (N, 84, anchors), decoded; in training what the loss reads,
box distributions and class logits (N, 144, anchors). Where ultralytics is not installed they are skipped, and the plan
says so.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from opbench.models.closed_form import Formulas, Shape
from opbench.models.detectors import DetectorFamily, Scale, detector, forget_anchors
from opbench.models.networks import image, image_of_32, no_such_size, plain, register_network
from opbench.models.ultralytics_package import import_ultralytics
from opbench.operators.carafe import IMPLEMENTATIONS
from opbench.operators.common.choice import Core
from opbench.operators.dcnv3.cores import CORES
from opbench.registry import register_task
from opbench.schema import Dims, Implementation, Task

# (width, depth) in percent: the size of a family that has these multiples, the one that is meant by default first
Sizes = Mapping[tuple[int, int], Scale]


class Detector(nn.Module):
    """ultralytics' DetectionModel with one tensor out: x (N, 3, H, W) -> (N, 84 or 144, anchors)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Decoded predictions, or in training what the loss reads, joined (a copy that is timed with it)."""
        out: Any = self.model(x)
        if self.training:
            return torch.cat((out["boxes"], out["scores"]), 1)
        decoded: Tensor = out[0]
        return decoded


def _attention(layer: Any, x: Shape, out: Shape) -> tuple[int, int]:
    """Its convolutions, all of the image's size; and in each head keys by queries, and values by what comes of it."""
    batch, pixels = x[0], prod(x[2:])
    convolved = sum(part.weight.numel() for part in layer.modules() if isinstance(part, nn.Conv2d)) * pixels
    multiplied = layer.num_heads * (layer.key_dim + layer.head_dim) * pixels**2
    return sum(value.numel() for value in layer.parameters()), batch * (convolved + multiplied)


def _layers() -> Formulas:
    """Of ultralytics' layers, the one that multiplies what no layer of torch's inside it holds."""
    return {import_ultralytics("ultralytics.nn.modules.block").Attention: _attention}


@dataclass(frozen=True)
class Cores:
    """Both cores as one: called as CARAFE's or as DCNv3's, it is the one whose settings it is given."""

    carafe: Core
    dcnv3: Core

    def __call__(self, *tensors: Tensor, **settings: Any) -> Tensor:
        """(x, mask, *, scale_factor, ...) or (x, offset, mask, *, group, ...)."""
        return (self.carafe if "scale_factor" in settings else self.dcnv3)(*tensors, **settings)


def _both(names: Mapping[str, tuple[str, str]]) -> Mapping[str, Implementation]:
    """Pairs of cores by the name of the pair: it runs where both of them do."""
    return {name: _pair(name, IMPLEMENTATIONS[carafe], CORES[dcnv3]) for name, (carafe, dcnv3) in names.items()}


def _pair(name: str, carafe: Implementation, dcnv3: Implementation) -> Implementation:
    assert carafe.function is not None
    assert dcnv3.function is not None
    return Implementation(
        name,
        Cores(carafe.function, dcnv3.function),
        devices=tuple(device for device in carafe.devices if device in dcnv3.devices),
        dtypes=tuple(dtype for dtype in carafe.dtypes if dtype in dcnv3.dtypes),
        missing=lambda: carafe.missing() or dcnv3.missing(),
        deterministic_backward=carafe.deterministic_backward and dcnv3.deterministic_backward,
        compiles=carafe.compiles or dcnv3.compiles,
        note=f"carafe[{carafe.name}] and dcnv3[{dcnv3.name}]",
        dispatched=carafe.seen and dcnv3.seen,
        traffic={**carafe.traffic, **dcnv3.traffic},
    )


# "write-up" computes as the write-ups and the official Python core do, "eager" as the best of torch's operations.
_PAIRS = {
    "write-up": ("unfold", "grid-sample"),
    "eager": ("shift-add", "gather"),
    "cpu": ("cpu", "cpu"),
    "triton": ("triton", "triton"),
}


def register_detectors(family: DetectorFamily, sizes: Sizes) -> None:
    """Declares the task of a family, whose dimensions are N, H, W, width and depth, and four operators of it."""
    width, depth = next(iter(sizes))
    task = register_task(
        Task(
            name=f"{family.name}_model",
            title=f"{family.title} detector: (N, 3, H, W) -> boxes and class scores at every anchor",
            baseline=f"{family.name}[torch]",
            dims=("N", "H", "W"),
            defaults={"width": width, "depth": depth},
            deformable=True,
        )
    )

    def requires(dims: Dims) -> str | None:
        if reason := no_such_size(f"no {family.title} has", dims, sizes):
            return reason
        if importlib.util.find_spec("ultralytics") is None:
            return "ultralytics is not installed (pip install 'opbench[ultralytics]'; it is AGPL-3.0)"
        return image_of_32(dims)

    def register(
        ending: str,
        where: str,
        implementations: Mapping[str, Implementation],
        *,
        carafe: bool = False,
        dcnv3: bool = False,
    ) -> None:
        def network(dims: Dims, core: Core | str) -> nn.Module:
            size = sizes[dims["width"], dims["depth"]]
            return Detector(detector(family, size, carafe=carafe, dcnv3=dcnv3, implementation=core))

        register_network(
            task=task.name,
            name=f"{family.name}{ending}",
            title=f"{family.title}{where}",
            source=f"ultralytics {family.name}.yaml",
            network=network,
            inputs=image,
            implementations=implementations,
            requires=requires,
            forget=forget_anchors,
            layers=_layers,
            subject=" and ".join(name for name, given in (("CARAFE", carafe), ("DCNv3", dcnv3)) if given),
        )

    register("", "", plain())
    register("-carafe", ", CARAFE in the neck", IMPLEMENTATIONS, carafe=True)
    register("-dcnv3", ", DCNv3 in the backbone", CORES, dcnv3=True)
    both = ", CARAFE in the neck and DCNv3 in the backbone"
    register("-carafe-dcnv3", both, _both(_PAIRS), carafe=True, dcnv3=True)
