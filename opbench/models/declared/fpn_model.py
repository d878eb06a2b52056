"""FPN on ResNet-50's stages: dimensions N H W of the image, multiples of 32. The baseline upsamples by nearest."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from opbench.models.fpn import FPN, RESNET50, pyramid
from opbench.models.networks import image_of_32, plain, register_network
from opbench.operators.carafe import IMPLEMENTATIONS
from opbench.operators.common.choice import Core
from opbench.registry import register_task
from opbench.schema import Dims, Implementation, Task

TASK = register_task(
    Task(
        name="fpn_model",
        title="FPN neck: ResNet-50's c2..c5 -> p2..p5 of 256 channels, joined (N, 256, all pixels)",
        baseline="fpn[torch]",
        dims=("N", "H", "W"),
    )
)


class Joined(nn.Module):
    """A neck whose levels come out as one tensor, which is what a verdict is on. The copy is timed with it."""

    def __init__(self, neck: FPN) -> None:
        super().__init__()
        self.neck = neck

    def forward(self, *stages: Tensor) -> Tensor:
        """c2..c5 -> (N, 256, sum of h*w)."""
        return pyramid(self.neck(*stages))


def _stages(dims: Dims) -> dict[str, tuple[int, ...]]:
    sizes = [(dims["H"] // step, dims["W"] // step) for step in (4, 8, 16, 32)]
    return {
        f"c{level}": (dims["N"], channels, *size)
        for level, (channels, size) in enumerate(zip(RESNET50, sizes, strict=True), start=2)
    }


def _register(name: str, title: str, source: str, implementations: Mapping[str, Implementation], carafe: bool) -> None:
    def network(dims: Dims, core: Core | str) -> nn.Module:
        return Joined(FPN(carafe=carafe, implementation=core))

    register_network(
        task=TASK.name,
        name=name,
        title=title,
        source=source,
        network=network,
        inputs=_stages,
        implementations=implementations,
        requires=image_of_32,
        subject="CARAFE" if carafe else "",
    )


_register("fpn", "FPN, nearest", "FPN, arXiv 1612.03144", plain(), carafe=False)
_register("fpn-carafe", "FPN-CARAFE", "CARAFE, arXiv 1905.02188, section 4", IMPLEMENTATIONS, carafe=True)
