"""The study of the slot that halves an image: the shapes of the 3x3 slot's study, found after one strided layer more.

Data, loss and scores are that study's; the layer from 24 x 24 to 12 x 12 is open, and everything else is convolutions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor, nn

from opbench.study.declared import Entrant, Study
from opbench.study.detecting import CHANNELS, GRID, ConvBlock
from opbench.study.detecting import STUDY as DETECTING
from opbench.study.shapes import KINDS

INPUT = CHANNELS // 2  # channels that the slot reads
BLOCKS = 2


class HalvingDetector(nn.Module):
    """x (N, 1, 48, 48) -> (N, kinds + 1 + 4, 12, 12): a strided convolution, the slot, residual blocks, a prediction.

    Batch norm and ReLU stand behind the slot, as in the networks that its workloads come from.
    """

    def __init__(self, slot: Callable[[], nn.Module]) -> None:
        super().__init__()
        C = CHANNELS
        self.stem = nn.Sequential(nn.Conv2d(1, INPUT, 3, 2, 1, bias=False), nn.BatchNorm2d(INPUT), nn.ReLU())
        self.norm = nn.Sequential(nn.BatchNorm2d(C), nn.ReLU())
        self.blocks = nn.Sequential(*(ConvBlock(nn.Conv2d(C, C, 3, padding=1, bias=False)) for _ in range(BLOCKS)))
        self.head = nn.Conv2d(C, len(KINDS) + 1 + 4, 1)
        self.slot = slot()

    def forward(self, x: Tensor) -> Tensor:
        """A prediction per cell."""
        out: Tensor = self.head(self.blocks(self.norm(self.slot(self.stem(x)))))
        return out


class _Halved(nn.Module):
    """x (N, C, H, W) -> (N, 2C, H/2, W/2): every second pixel, its channels twice."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, ::2, ::2].repeat(1, 2, 1, 1)


_TORCH = ("torch",)
STUDY: Study = replace(
    DETECTING,
    name="downsample",
    title="Finding and naming a slanted shape behind one halving layer",
    question="What does the choice of the layer that halves the image do to a small detector?",
    task="downsample2x",
    baseline="conv3x3-stride2",
    entrants=(
        Entrant("conv3x3-stride2", "conv3x3-stride2", _TORCH, {"G": 1}),
        Entrant("depthwise-stride2", "depthwise-stride2", _TORCH, {"G": 1}),
        Entrant("maxpool-conv", "maxpool-conv", _TORCH, {"G": 1}),
        Entrant("avgpool-conv", "avgpool-conv", _TORCH, {"G": 1}),
        Entrant("spdconv", "spdconv", ("strided", "slices"), {"G": 1}),
        Entrant("adown", "adown", _TORCH, {"G": 1}, "norms and activations of its own"),
        Entrant("dcnv3", "dcnv3", ("cpu", "gather"), {"G": 2}, "16 channels a group, as InternImage"),
    ),
    slot_dims={"C": INPUT, "O": CHANNELS, "H": 2 * GRID, "W": 2 * GRID, "G": 1},
    slots=1,
    network_description=(
        f"a strided 3x3 convolution to {INPUT} channels, the slot to C={CHANNELS} channels on a {GRID}x{GRID} grid, "
        f"batch norm, ReLU, {BLOCKS} times [a 3x3 convolution, batch norm, ReLU, plus identity], one 1x1 convolution"
    ),
    network=HalvingDetector,
    left_out=("yolo-dcnv3",),
    stand_in=_Halved,
)
