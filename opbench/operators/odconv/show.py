"""ODConv on images: how much each kernel and each tap of the window counts for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec
import numpy as np
import torch
from torch import nn

from opbench.drawings import Drawing, Shot
from opbench.operators.common.show import Recorder
from opbench.operators.odconv.cores import grouped
from opbench.operators.odconv.module import ODConv2d
from opbench.report.show.cells import cells, ramp
from opbench.report.show.image import features
from opbench.report.show.shots import note
from opbench.report.show.svg import MUTED, raster, text
from opbench.report.show.weights import Core, Makers, State, computed, module_of

CHANNELS = 64  # of a module that no file gives
LEFT, TOP, ROW, SIDE = 48, 110, 150, 96


class Weighed(msgspec.Struct, frozen=True):
    """For one image: how much each kernel counts, and each tap of k x k, rows first."""

    name: str
    kernels: tuple[float, ...]
    taps: tuple[tuple[float, ...], ...]


def made(core: Core) -> nn.Module:
    """The module that is shown where no file gives one."""
    return ODConv2d(CHANNELS, CHANNELS, 3, padding=1, implementation=core)


def drawn(shot: Shot, image: np.ndarray) -> Drawing:
    """ODConv's attention for `image` (H, W, 3) and for three others made of it."""
    core = Recorder(grouped)
    module = module_of(shot, "odconv", lambda: made(core), MAKERS, core)
    assert isinstance(module, ODConv2d)
    views = {
        "the image": image,
        "its upper half": image[: max(1, image.shape[0] // 2)],
        "its left half": image[:, : max(1, image.shape[1] // 2)],
        "its negative": 255 - image,
    }
    found = {name: attention(module, core, pixels, name, shot.seed) for name, pixels in views.items()}
    return draw(found, views, note(shot, module.in_planes))


def attention(module: ODConv2d, recorder: Recorder, image: np.ndarray, name: str, seed: int) -> Weighed:
    """What the module makes of one image, whose features are rectified: filters' means over an image would all be 0."""
    with torch.no_grad():
        module(features(image, module.in_planes, seed).relu())
    kernel, spatial = (computed(one, "attention")[0] for one in recorder.calls[-1][2:])
    k = module.kernel_size
    return Weighed(name, tuple(kernel.tolist()), tuple(map(tuple, spatial.view(k, k).tolist())))


def draw(found: Mapping[str, Weighed], views: Mapping[str, np.ndarray], words: str) -> Drawing:
    """The picture."""
    most = max(max(*one.kernels, *(weight for row in one.taps for weight in row)) for one in found.values())
    count = len(next(iter(found.values())).kernels)
    taps_at = LEFT + 150 + max(count * 34, 200) + 60
    parts = [
        text(LEFT, 32, "ODConv: each image has a kernel of its own", size=18),
        text(LEFT, 52, f"{words}, rectified", size=11, fill=MUTED),
        text(LEFT + 150, TOP - 16, f"what each of {count} kernels counts", size=12),
        text(taps_at, TOP - 16, "and each tap", size=12),
        *(
            part
            for index, (name, one) in enumerate(found.items())
            for part in _row(one, views[name], index, taps_at, most)
        ),
        *ramp(LEFT, TOP + ROW * len(found) + 4, most, "kernels sum to 100 % (softmax), taps don't (sigmoid)"),
    ]
    described = f"{len(found)} images: the attention of kernels and taps for each. {words}"
    return Drawing("ODConv attention", described, max(taps_at + 180, 840), TOP + ROW * len(found) + 50, tuple(parts))


def _row(one: Weighed, image: np.ndarray, index: int, taps_at: float, most: float) -> Iterator[str]:
    top = TOP + ROW * index
    yield raster(image, LEFT, top, max(1, SIDE // max(image.shape[:2])))
    yield text(LEFT, top + SIDE + 18, one.name, size=11)
    yield from cells(LEFT + 150, top + 30, [one.kernels], 34, most)
    yield from cells(taps_at, top, one.taps, SIDE / len(one.taps), most)


# --- The module of a state dict: arguments read off the shapes, for stride 1, padding "same" and one group ------------


def _of(state: State, core: Core) -> nn.Module:
    count, outputs, inputs, k, _ = state["weight"].shape
    hidden = state["attention.fc.weight"].shape[0]
    share = (hidden + 0.5) / inputs
    return ODConv2d(inputs, outputs, k, padding=k // 2, reduction=share, kernel_num=count, implementation=core)


MAKERS: Makers = {"attention.fc.weight": _of}
