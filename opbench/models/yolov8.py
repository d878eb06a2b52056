"""YOLOv8 with CARAFE in its neck and DCNv3 in its backbone, through the `ultralytics` package.

By swap (`yolov8`), and by YAML as the write-ups do it (`register_ultralytics`, `yolov8_yaml`); both build the same
network. Importing this loads no ultralytics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from opbench.models.detectors import DetectorFamily, Scale, architecture, detector
from opbench.models.ultralytics_yaml import Architecture
from opbench.operators.common.choice import Core

# The package's own summary lines (ultralytics/cfg/models/v8/yolov8.yaml).
PUBLISHED_PARAMETERS: dict[Scale, int] = {
    "n": 3_157_200,
    "s": 11_166_560,
    "m": 25_902_640,
    "l": 43_691_520,
    "x": 68_229_648,
}


def _c2f(arguments: Sequence[Any], channels: int, size: Scale) -> tuple[list[Any], int]:
    """Of [channels, shortcut]: its bottlenecks work on half of the channels."""
    return list(arguments), channels // 2


YOLOV8 = DetectorFamily("YOLOv8", "yolov8", "C2f", _c2f, PUBLISHED_PARAMETERS)


def yolov8(
    size: Scale,
    *,
    carafe: bool = False,
    dcnv3: bool = False,
    group: int | None = None,
    implementation: str | Core = "auto",
    nc: int = 80,
) -> nn.Module:
    """ultralytics' DetectionModel of YOLOv8 for images (N, 3, H, W), H and W multiples of 32; `nc` classes.

    Its options and errors are those of `opbench.models.detectors.detector`. dcnv3: in the bottlenecks of the backbone's
    four C2f.
    """
    return detector(YOLOV8, size, carafe=carafe, dcnv3=dcnv3, group=group, implementation=implementation, nc=nc)


def yolov8_yaml(
    size: Scale, *, carafe: bool = False, dcnv3: bool = False, group: int | None = None, nc: int = 80
) -> Architecture:
    """The architecture that `DetectionModel` takes, with the write-ups' lines in it; as `yolov8` builds by swap."""
    return architecture(YOLOV8, size, carafe=carafe, dcnv3=dcnv3, group=group, nc=nc)
