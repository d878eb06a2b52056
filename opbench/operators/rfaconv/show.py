"""RFAConv on an image: how each channel weighs the window of an output pixel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from opbench.drawings import Drawing, Shot
from opbench.operators.common.show import Recorder
from opbench.operators.rfaconv.cores import pointwise
from opbench.operators.rfaconv.module import RFAConv
from opbench.report.show.cells import cells, ramp
from opbench.report.show.image import features
from opbench.report.show.shots import note, places
from opbench.report.show.svg import INK, MUTED, Value, axes, element, raster, text
from opbench.report.show.weights import Core, Makers, State, computed, module_of

CHANNELS = 64  # of a module that no file gives
SHOWN = 4  # channels of them
LEFT, TOP, RIGHT = 48, 112, 430
SIDE, ROW = 84, 128  # of a drawn window, and from one output pixel to the next


class Attention(msgspec.Struct, frozen=True):
    """One output pixel (y, x): of the first channels, k x k weights each, rows first."""

    y: int
    x: int
    weights: tuple[tuple[tuple[float, ...], ...], ...]


def made(core: Core) -> nn.Module:
    """The module that is shown where no file gives one."""
    return RFAConv(CHANNELS, CHANNELS, implementation=core)


def drawn(shot: Shot, image: np.ndarray) -> Drawing:
    """RFAConv's attention at some output pixels of `image` (H, W, 3)."""
    core = Recorder(pointwise)
    module = module_of(shot, "rfaconv", lambda: made(core), MAKERS, core)
    assert isinstance(module, RFAConv)
    x = features(image, module.in_channel, shot.seed)
    found = attentions(module, core, x, places(shot.at, *image.shape[:2]))
    return draw(found, image, note(shot, module.in_channel))


def attentions(module: RFAConv, recorder: Recorder, x: Tensor, at: Sequence[tuple[int, int]]) -> tuple[Attention, ...]:
    """How the module weighs the windows of output pixels `at` (y, x) of features x (1, C, H, W)."""
    with torch.no_grad():
        module(x)
    k = module.kernel_size
    logits = computed(recorder.calls[-1][0], "attention")[0].unflatten(0, (-1, k * k))
    weights = logits.softmax(1)[:SHOWN]
    return tuple(
        Attention(y, column, tuple(tuple(map(tuple, one.view(k, k).tolist())) for one in weights[:, :, y, column]))
        for y, column in at
    )


def draw(shown: Sequence[Attention], image: np.ndarray, words: str) -> Drawing:
    """The picture."""
    height, width = image.shape[:2]
    scale = max(1, 340 // max(height, width))
    k = len(shown[0].weights[0])
    most = max(weight for one in shown for table in one.weights for row in table for weight in row)
    total = max(TOP + height * scale + 60, TOP + ROW * len(shown) + 50)
    parts = [
        text(LEFT, 32, f"RFAConv: every channel weighs the {k}x{k} window of every pixel anew", size=18),
        text(LEFT, 52, words, size=12, fill=MUTED),
        text(LEFT, TOP - 12, f"input, {height}x{width} pixels, and the windows", size=12),
        raster(image, LEFT, TOP, scale),
        *axes(LEFT, TOP, height, width, scale, 8, "pixels of the feature map"),
        *(part for index, one in enumerate(shown) for part in _window(one, index, k, scale)),
        *(part for index, one in enumerate(shown) for part in _row(one, index, k, most)),
        *ramp(RIGHT, TOP + ROW * len(shown) + 2, most, "weight of a tap; a window has 100 %"),
    ]
    described = f"{len(shown)} output pixels: the weights of their windows in {len(shown[0].weights)} channels. {words}"
    return Drawing("RFAConv attention", described, RIGHT + SHOWN * (SIDE + 22) + 20, total, tuple(parts))


def _letter(index: int) -> str:
    return chr(ord("A") + index)


def _window(one: Attention, index: int, k: int, scale: float) -> Iterator[str]:
    x, y = LEFT + (one.x - k // 2) * scale, TOP + (one.y - k // 2) * scale
    box: dict[str, Value] = {"x": x, "y": y, "width": k * scale, "height": k * scale, "fill": "none"}
    yield element("rect", **box, stroke="white", stroke_width=4)
    yield element("rect", **box, stroke=INK, stroke_width=1.5)
    yield text(x + k * scale + 4, y + k * scale / 2 + 4, _letter(index), size=12, font_weight="bold")


def _row(one: Attention, index: int, k: int, most: float) -> Iterator[str]:
    top = TOP + ROW * index
    title = f"{_letter(index)}: row {one.y}, column {one.x}"
    yield text(RIGHT, top - 6, title, size=11, font_weight="bold")
    for channel, table in enumerate(one.weights):
        left = RIGHT + channel * (SIDE + 22)
        yield from cells(left, top + 2, table, SIDE / k, most)
        yield text(left, top + SIDE + 16, f"channel {channel}", size=10, fill=MUTED)


# --- The module of a state dict: settings read off the shapes, for stride 1 ----------------------------------------


def _of(state: State, core: Core) -> nn.Module:
    outputs, inputs, k, _ = state["conv.0.weight"].shape
    return RFAConv(inputs, outputs, k, norm="conv.1.weight" in state, implementation=core)


MAKERS: Makers = {"get_weight.1.weight": _of}
