"""ultralytics' detectors with CARAFE in their neck and DCNv3 in their backbone: what its families have in common.

The write-ups put CARAFE in the place of the neck's two `nn.Upsample`, and `DCNV3_YoLo` in the place of the second 3x3
convolution (with its norm and activation) of every bottleneck in the backbone's blocks. By swap (`detector`), and by
YAML as they do it (`register_ultralytics`, `architecture`); both build the same network. Importing this loads no
ultralytics.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class DetectorFamily:
    """Detectors of one YAML file, by size.

    `name` begins the file's name; `block` is what the backbone repeats. `before_groups(arguments, channels, size)`: of
    a line of that block that makes so many channels, the arguments before its groups, and the channels that a
    bottleneck inside gives. `parameters` are those of the networks as built, detection head of 80 classes included: the
    package's own summary lines.
    """

    title: str
    name: str
    block: str
    before_groups: Callable[[Sequence[Any], int, Scale], tuple[list[Any], int]]
    parameters: Mapping[Scale, int]


def detector(
    family: DetectorFamily,
    size: Scale,
    *,
    carafe: bool = False,
    dcnv3: bool = False,
    group: int | None = None,
    implementation: str | Core = "auto",
    nc: int = 80,
) -> nn.Module:
    """ultralytics' DetectionModel of a family for images (N, 3, H, W), H and W multiples of 32; `nc` classes.

    carafe: `YoloCARAFE` in the place of both upsamplers of the neck. dcnv3: `DCNV3_YoLo` in the place of the second
    3x3 convolution block of each bottleneck in the backbone. `group` is DCNv3's; None gives 16 channels to each group,
    as InternImage does (the write-ups leave the block's own 1). Norms of the new modules are set as ultralytics sets
    all others. `.args` holds the default gains, so that `model.loss(batch)` works; `.yaml` describes the network with
    the swap in it, for a trainer that builds it anew: call `register_ultralytics` before such a one.

    Raises OpbenchError for an unknown size, and where ultralytics is not installed.
    """
    tasks = import_ultralytics("ultralytics.nn.tasks")
    _check_size(family, size)
    model: Any = tasks.DetectionModel(f"{family.name}{size}.yaml", nc=nc, verbose=False)
    new: list[str] = []
    if carafe:
        new += [change.name for change in swap(model, nn.Upsample, YoloCARAFE, implementation=implementation)]
    if dcnv3:
        places = _second_convolutions(family, model)

        def block(site: Site) -> nn.Module:
            given, made = site.in_channels, site.out_channels
            return DCNV3_YoLo(given, made, k=3, g=group or groups(made), implementation=implementation)

        new += [change.name for change in swap(model, lambda name, module: name in places, block)]
    initialise = import_ultralytics("ultralytics.utils.torch_utils").initialize_weights
    for name in new:
        initialise(model.get_submodule(name))
    described = architecture(family, size, carafe=carafe, dcnv3=dcnv3, group=group, nc=nc)
    model.yaml = {**model.yaml, **described}
    model.args = copy.copy(import_ultralytics("ultralytics.utils").DEFAULT_CFG)
    built: nn.Module = model
    return built


def forget_anchors(network: nn.Module) -> None:
    """A detection head of ultralytics computes its anchors once for a size and keeps them, in any dtype, anywhere."""
    for part in network.modules():
        if hasattr(part, "anchors") and hasattr(part, "strides"):
            part.shape = None  # type: ignore[assignment]


def architecture(
    family: DetectorFamily,
    size: Scale,
    *,
    carafe: bool = False,
    dcnv3: bool = False,
    group: int | None = None,
    nc: int = 80,
) -> Architecture:
    """The architecture that `DetectionModel` takes, with the write-ups' lines in it; as `detector` builds by swap.

    Lines with `nn.Upsample` become `CARAFE`, those of the backbone's blocks (`C2f`) theirs around DCNv3 (`C2f_DCNV3`);
    to be parsed after `register_ultralytics()`.
    """
    tasks = import_ultralytics("ultralytics.nn.tasks")
    _check_size(family, size)
    described: Architecture = {**tasks.yaml_model_load(f"{family.name}{size}.yaml"), "nc": nc}
    _, width, most = described["scales"][size]
    for line in described["backbone"] if dcnv3 else ():
        if line[2] == family.block:
            channels = tasks.make_divisible(min(line[3][0], most) * width, 8)
            arguments, inside = family.before_groups(line[3], channels, size)
            line[2:] = [f"{family.block}_DCNV3", [*arguments, group or groups(inside)]]
    for line in described["head"] if carafe else ():
        if line[2] == "nn.Upsample":
            line[2:] = ["CARAFE", []]
    return described


def _check_size(family: DetectorFamily, size: str) -> None:
    if size not in family.parameters:
        raise OpbenchError(nearest(f"size of {family.title}", str(size), get_args(Scale)))


def _second_convolutions(family: DetectorFamily, model: Any) -> set[str]:
    """Names of the `cv2` of each bottleneck inside each of the backbone's blocks."""
    blocks = import_ultralytics("ultralytics.nn.modules.block")
    return {
        f"model.{position}.{name}.cv2"
        for position, layer in enumerate(model.model[: len(model.yaml["backbone"])])
        if isinstance(layer, getattr(blocks, family.block))
        for name, part in layer.named_modules()
        if isinstance(part, blocks.Bottleneck)
    }
