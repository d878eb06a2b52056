"""YOLOv8 with CARAFE in its neck and DCNv3 in its backbone, through the `ultralytics` package.

By swap (`yolov8`), and by YAML as the write-ups do it (`register_ultralytics`, `yolov8_yaml`); both build the same
network. The write-ups put CARAFE in the place of the neck's two `nn.Upsample`, and `DCNV3_YoLo` in the place of the
second 3x3 convolution (with its norm and activation) of every bottleneck of a C2f. Importing this loads no ultralytics.
"""

from __future__ import annotations

import copy
from typing import Any, Literal, get_args

from torch import nn

from opbench.errors import nearest
from opbench.models.sites import Site
from opbench.models.swap import swap
from opbench.models.ultralytics_package import import_ultralytics
from opbench.models.ultralytics_yaml import Architecture
from opbench.operators.carafe import YoloCARAFE
from opbench.operators.common.choice import Core
from opbench.operators.dcnv3.module import DCNV3_YoLo
from opbench.schema import OpbenchError
from opbench.tasks import groups

Scale = Literal["n", "s", "m", "l", "x"]

# Parameters of the networks as built, detection head of 80 classes included: the package's own summary lines
# (ultralytics/cfg/models/v8/yolov8.yaml).
PUBLISHED_PARAMETERS: dict[Scale, int] = {
    "n": 3_157_200,
    "s": 11_166_560,
    "m": 25_902_640,
    "l": 43_691_520,
    "x": 68_229_648,
}


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

    carafe: `YoloCARAFE` in the place of both upsamplers of the neck. dcnv3: `DCNV3_YoLo` in the place of the second
    3x3 convolution block of each bottleneck of the backbone's four C2f. `group` is DCNv3's; None gives 16 channels to
    each group, as InternImage does (the write-ups leave C2f's own 1). Norms of the new modules are set as ultralytics
    sets all others. `.args` holds the default gains, so that `model.loss(batch)` works; `.yaml` describes the network
    with the swap in it, for a trainer that builds it anew: call `register_ultralytics` before such a one.

    Raises OpbenchError for an unknown size, and where ultralytics is not installed.
    """
    tasks = import_ultralytics("ultralytics.nn.tasks")
    _check_size(size)
    model: Any = tasks.DetectionModel(f"yolov8{size}.yaml", nc=nc, verbose=False)
    new: list[str] = []
    if carafe:
        new += [change.name for change in swap(model, nn.Upsample, YoloCARAFE, implementation=implementation)]
    if dcnv3:
        places = _second_convolutions(model, tasks)

        def block(site: Site) -> nn.Module:
            channels = site.channels
            return DCNV3_YoLo(channels, channels, k=3, g=group or groups(channels), implementation=implementation)

        new += [change.name for change in swap(model, lambda name, module: name in places, block)]
    initialise = import_ultralytics("ultralytics.utils.torch_utils").initialize_weights
    for name in new:
        initialise(model.get_submodule(name))
    described = yolov8_yaml(size, carafe=carafe, dcnv3=dcnv3, group=group, nc=nc)
    model.yaml = {**model.yaml, **described}
    model.args = copy.copy(import_ultralytics("ultralytics.utils").DEFAULT_CFG)
    built: nn.Module = model
    return built


def yolov8_yaml(
    size: Scale, *, carafe: bool = False, dcnv3: bool = False, group: int | None = None, nc: int = 80
) -> Architecture:
    """The architecture that `DetectionModel` takes, with the write-ups' lines in it; as `yolov8` builds by swap.

    Lines with `nn.Upsample` become `CARAFE`, those of the backbone with `C2f` become `C2f_DCNV3`; to be parsed after
    `register_ultralytics()`.
    """
    tasks = import_ultralytics("ultralytics.nn.tasks")
    _check_size(size)
    described: Architecture = {**tasks.yaml_model_load(f"yolov8{size}.yaml"), "nc": nc}
    _, width, most = described["scales"][size]
    for line in described["backbone"] if dcnv3 else ():
        if line[2] == "C2f":
            channels, shortcut = line[3]
            hidden = tasks.make_divisible(min(channels, most) * width, 8) // 2
            line[2:] = ["C2f_DCNV3", [channels, shortcut, group or groups(hidden)]]
    for line in described["head"] if carafe else ():
        if line[2] == "nn.Upsample":
            line[2:] = ["CARAFE", []]
    return described


def _check_size(size: str) -> None:
    if size not in PUBLISHED_PARAMETERS:
        raise OpbenchError(nearest("size of YOLOv8", str(size), get_args(Scale)))


def _second_convolutions(model: Any, tasks: Any) -> set[str]:
    """Names of the `cv2` of each bottleneck of each C2f of the backbone."""
    depth = len(model.yaml["backbone"])
    return {
        f"model.{position}.m.{index}.cv2"
        for position, layer in enumerate(model.model)
        if position < depth and isinstance(layer, tasks.C2f)
        for index in range(len(layer.m))
    }
