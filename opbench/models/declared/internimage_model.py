"""InternImage as a classifier: dimensions N H W and C, the channels of its first stage (64 T, 80 S, 112 B).

The baseline is the same network made rigid: a depthwise 3x3 convolution in place of every DCNv3's sampling.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from opbench.models.internimage import VARIANTS, InternImage, Mixing, RigidMixing, Variant
from opbench.models.networks import image, image_of_32, plain, register_network
from opbench.operators.common.choice import Core
from opbench.operators.dcnv3.cores import CORES
from opbench.registry import register_task
from opbench.schema import Dims, Implementation, Task

TASK = register_task(
    Task(
        name="internimage_model",
        title="InternImage classifier: (N, 3, H, W) -> (N, 1000)",
        baseline="internimage-rigid[torch]",
        dims=("N", "H", "W", "C"),
        deformable=True,
    )
)
BY_CHANNELS: Mapping[int, Variant] = {variant.channels: variant for variant in VARIANTS.values()}


def _requires(dims: Dims) -> str | None:
    if dims["C"] not in BY_CHANNELS:
        known = ", ".join(f"{variant.channels} ({name})" for name, variant in VARIANTS.items())
        return f"no InternImage starts with C={dims['C']} channels (known: {known})"
    return image_of_32(dims)


def _rigid(channels: int, group: int) -> nn.Module:
    return RigidMixing(channels)


def _register(name: str, title: str, implementations: Mapping[str, Implementation], mixing: Mixing | None) -> None:
    def network(dims: Dims, core: Core | str) -> nn.Module:
        return InternImage(BY_CHANNELS[dims["C"]], mixing=mixing, implementation=core)

    register_network(
        task=TASK.name,
        name=name,
        title=title,
        source="InternImage, arXiv 2211.05778, table 1",
        network=network,
        inputs=image,
        implementations=implementations,
        requires=_requires,
        subject="" if mixing else "DCNv3",
    )


_register("internimage-rigid", "InternImage with depthwise 3x3 for DCNv3's sampling", plain(), _rigid)
_register("internimage", "InternImage", CORES, None)
