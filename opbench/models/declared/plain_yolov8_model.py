"""YOLOv8 from opbench's own blocks as a network that is measured, where ultralytics isn't installed.

Dimensions are those of `yolov8_model`: N H W of the image, width and depth in percent. Of its sizes there are n and s.
What comes out is what the head predicts: boxes are not decoded, which is why this is a task of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from opbench.models.networks import image, image_of_32, no_such_size, plain, register_network
from opbench.models.plain_yolov8 import PlainBottleneck, PlainYolov8
from opbench.operators.carafe import IMPLEMENTATIONS, YoloCARAFE
from opbench.operators.common.choice import Core
from opbench.operators.dcnv3.cores import CORES
from opbench.operators.dcnv3.module import DCNV3_YoLo
from opbench.registry import register_task
from opbench.schema import Dims, Implementation, Task
from opbench.tasks import groups

SIZES = {(25, 33): "n", (50, 33): "s"}

TASK = register_task(
    Task(
        name="plain_yolov8_model",
        title="YOLOv8 from opbench's own blocks: (N, 3, H, W) -> what its head predicts at every anchor",
        baseline="plain-yolov8[torch]",
        dims=("N", "H", "W"),
        defaults={"width": 25, "depth": 33},
        deformable=True,
    )
)


def as_it_is(network: PlainYolov8, core: Core | str) -> None:
    """Nothing is swapped in."""


def with_carafe(network: PlainYolov8, core: Core | str) -> None:
    """CARAFE in the place of both upsamplers of the neck."""
    for name, channels in network.upsampled.items():
        network.neck[name] = YoloCARAFE(channels, implementation=core)


def with_dcnv3(network: PlainYolov8, core: Core | str) -> None:
    """DCNv3 in the place of the second 3x3 convolution block of each bottleneck in the backbone."""
    for block in network.backbone.modules():
        if isinstance(block, PlainBottleneck):
            channels = block.channels
            block.second = DCNV3_YoLo(channels, channels, k=3, g=groups(channels), implementation=core)


def requires(dims: Dims) -> str | None:
    """Why there is no such network, or None."""
    return no_such_size("there is none of", dims, SIZES) or image_of_32(dims)


def _register(
    ending: str,
    where: str,
    implementations: Mapping[str, Implementation],
    swap: Callable[[PlainYolov8, Core | str], None],
) -> None:
    def network(dims: Dims, core: Core | str) -> nn.Module:
        made = PlainYolov8(dims["width"] / 100, dims["depth"] / 100)
        swap(made, core)
        return made

    register_network(
        task=TASK.name,
        name=f"plain-yolov8{ending}",
        title=f"YOLOv8 from own blocks{where}",
        source="opbench.models.plain_yolov8",
        network=network,
        inputs=image,
        implementations=implementations,
        requires=requires,
    )


_register("", "", plain(), as_it_is)
_register("-carafe", ", CARAFE in the neck", IMPLEMENTATIONS, with_carafe)
_register("-dcnv3", ", DCNv3 in the backbone", CORES, with_dcnv3)
