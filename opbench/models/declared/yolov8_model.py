"""YOLOv8 as a detector: dimensions N H W of the image, and the size's own multiples in percent, width and depth.

    n width 25 depth 33 | s 50, 33 | m 75, 67 | l 100, 100 | x 125, 100   (ultralytics yolov8.yaml, "scales")

Contenders: the network as it is, CARAFE in its neck, DCNv3 in its backbone, and both, as `opbench.models.yolov8`
builds them. What comes out is one tensor: in inference boxes and scores (N, 84, anchors), decoded; in training what
the loss reads, box distributions and class logits (N, 144, anchors). Where ultralytics is not installed they are
skipped, and the plan says so.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from opbench.models.networks import image, image_of_32, plain, register_network
from opbench.models.yolov8 import Scale, yolov8
from opbench.operators.carafe import IMPLEMENTATIONS
from opbench.operators.common.choice import Core
from opbench.operators.dcnv3.cores import CORES
from opbench.registry import register_task
from opbench.schema import Dims, Implementation, Task

TASK = register_task(
    Task(
        name="yolov8_model",
        title="YOLOv8 detector: (N, 3, H, W) -> boxes and class scores at every anchor",
        baseline="yolov8[torch]",
        dims=("N", "H", "W"),
        defaults={"width": 25, "depth": 33},
        deformable=True,
    )
)
# (width, depth) in percent
SIZES: Mapping[tuple[int, int], Scale] = {
    (25, 33): "n",
    (50, 33): "s",
    (75, 67): "m",
    (100, 100): "l",
    (125, 100): "x",
}
SOURCE = "ultralytics yolov8.yaml"


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


def _forget_anchors(network: nn.Module) -> None:
    """The head computes its anchors once for a size and keeps them, whatever their dtype and device."""
    assert isinstance(network, Detector)
    model: Any = network.model
    model.model[-1].shape = None


def _requires(dims: Dims) -> str | None:
    if (dims["width"], dims["depth"]) not in SIZES:
        known = ", ".join(f"{width} and {depth} ({size})" for (width, depth), size in SIZES.items())
        return f"no YOLOv8 has width={dims['width']} and depth={dims['depth']} (known: {known})"
    if importlib.util.find_spec("ultralytics") is None:
        return "ultralytics is not installed (pip install 'opbench[ultralytics]')"
    return image_of_32(dims)


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


def _register(
    name: str, title: str, implementations: Mapping[str, Implementation], *, carafe: bool = False, dcnv3: bool = False
) -> None:
    def network(dims: Dims, core: Core | str) -> nn.Module:
        size = SIZES[dims["width"], dims["depth"]]
        return Detector(yolov8(size, carafe=carafe, dcnv3=dcnv3, implementation=core))

    register_network(
        task=TASK.name,
        name=name,
        title=title,
        source=SOURCE,
        network=network,
        inputs=image,
        implementations=implementations,
        requires=_requires,
        forget=_forget_anchors,
    )


_register("yolov8", "YOLOv8", plain())
_register("yolov8-carafe", "YOLOv8, CARAFE in the neck", IMPLEMENTATIONS, carafe=True)
_register("yolov8-dcnv3", "YOLOv8, DCNv3 in the backbone", CORES, dcnv3=True)
_register(
    "yolov8-carafe-dcnv3",
    "YOLOv8, CARAFE in the neck and DCNv3 in the backbone",
    # "write-up" computes as the write-ups and the official Python core do, "eager" as the best of torch's operations.
    _both(
        {
            "write-up": ("unfold", "grid-sample"),
            "eager": ("shift-add", "gather"),
            "cpu": ("cpu", "cpu"),
            "triton": ("triton", "triton"),
        }
    ),
    carafe=True,
    dcnv3=True,
)
