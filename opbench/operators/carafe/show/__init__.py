"""CARAFE on an image: the window that an output pixel reads, and the kernel that reassembles it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from opbench.drawings import Drawing, Shot
from opbench.operators.carafe import CARAFE, YoloCARAFE, carafe, shift_add
from opbench.operators.common.show import Recorder
from opbench.report.show.image import features
from opbench.report.show.shots import note, places
from opbench.report.show.svg import INK, MUTED, Value, axes, element, mixed, raster, text
from opbench.report.show.weights import Core, Makers, State, computed, module_of

BLUES = ((247, 251, 255), (158, 202, 225), (33, 113, 181), (8, 48, 107))
MARKS = ("#D55E00", "#009E73", "#CC79A7", "#000000", "#0072B2", "#E69F00")
KERNEL, ROW = 125, 176  # the side of a drawn kernel, and from one output pixel to the next
LEFT, TOP, RIGHT = 48, 108, 420


CHANNELS = 64  # of a module that no file gives
MOST_TAPS = 15  # of a side of a kernel: a cell has its number in it


class DrawnKernel(msgspec.Struct, frozen=True):
    """One output pixel (y, x): its k x k weights, rows first, and the input pixel in the middle of its window."""

    y: int
    x: int
    parent: tuple[int, int]
    weights: tuple[tuple[float, ...], ...]


class Shown(msgspec.Struct, frozen=True):
    """Kernels at chosen output pixels, and the image reassembled by all of them, (s*H, s*W, 3)."""

    kernels: tuple[DrawnKernel, ...]
    output: np.ndarray


def made(core: Core) -> nn.Module:
    """The module that is shown where no file gives one."""
    return CARAFE(CHANNELS, implementation=core)


def drawn(shot: Shot, image: np.ndarray) -> Drawing:
    """CARAFE's kernels at some output pixels of `image` (H, W, 3)."""
    core = Recorder(shift_add)
    if shot.trained:
        from opbench.operators.carafe.show import trained  # here: studies take a while to import

        height, width = (2 * side for side in image.shape[:2])
        at = places(shot.at, height, width)
        found = kernels(trained.restorer(core), core, trained.grey(image), image, at)
        return draw(found, image, f"{trained.ABOUT}, on {shot.subject}")
    module = module_of(shot, "carafe", lambda: made(core), MAKERS, core)
    assert isinstance(module, CARAFE | YoloCARAFE)
    channels = module.c if isinstance(module, YoloCARAFE) else module.channels
    height, width = (2 * side for side in image.shape[:2])
    x = features(image, channels, shot.seed)
    found = kernels(module, core, x, image, places(shot.at, height, width))
    return draw(found, image, note(shot, channels))


def kernels(
    module: nn.Module, recorder: Recorder, x: Tensor, image: np.ndarray, at: Sequence[tuple[int, int]]
) -> Shown:
    """What the module does with features x (1, C, H, W) of `image` (H, W, 3), at output pixels `at` (y, x)."""
    with torch.no_grad():
        module(x)
        mask = computed(recorder.calls[-1][1], "kernels")
        k, s = recorder.settings["kernel_size"], recorder.settings["scale_factor"]
        pixels = torch.from_numpy(image.astype("float32")).permute(2, 0, 1)[None]
        out = carafe(pixels, mask, kernel_size=k, group_size=1, scale_factor=s, implementation="shift-add")
    found = tuple(
        DrawnKernel(y, x_, (y // s, x_ // s), tuple(map(tuple, mask[0, :, y, x_].view(k, k).tolist()))) for y, x_ in at
    )
    output = out[0].permute(1, 2, 0).round().clamp(0, 255).numpy().astype("uint8")
    return Shown(found, output)


def draw(shown: Shown, image: np.ndarray, words: str, name: str = "CARAFE") -> Drawing:
    """The picture of the operator `name`, which enlarges the image or makes it smaller, by a whole number."""
    height, width = image.shape[:2]
    rows, columns = shown.output.shape[:2]
    larger = max(1, rows // height)
    scale = max(1, 300 // max(height, width)) // larger * larger or larger
    out_scale = scale // larger * max(1, -(-height // rows))
    k = len(shown.kernels[0].weights)
    most = max(max(map(max, kernel.weights)) for kernel in shown.kernels)
    below = TOP + height * scale + 70
    total = max(below + height * scale + 50, TOP + ROW * len(shown.kernels) + 64)
    parts = [
        text(LEFT, 32, f"{name}: every output pixel has a {k}x{k} kernel of its own", size=18),
        text(LEFT, 52, words, size=12, fill=MUTED),
        text(LEFT, TOP - 28, f"input, {height}x{width} pixels, and the windows", size=12),
        raster(image, LEFT, TOP, scale),
        *axes(LEFT, TOP, height, width, scale, 8, "input pixels"),
        *(part for index, kernel in enumerate(shown.kernels) for part in _window(kernel, k, scale, index)),
        text(LEFT, below - 10, f"output, {rows}x{columns}, reassembled from the image itself", size=12),
        raster(shown.output, LEFT, below, out_scale),
        *axes(LEFT, below, rows, columns, out_scale, 16 if rows > height else 8, "output pixels"),
        *(_dot(kernel, below, out_scale, index) for index, kernel in enumerate(shown.kernels)),
        text(RIGHT, TOP - 28, "the window of the input", size=12),
        text(RIGHT + KERNEL + 40, TOP - 28, "its kernel: weights in percent", size=12),
        *(
            part
            for index, kernel in enumerate(shown.kernels)
            for part in _row(kernel, image, TOP + ROW * index, index, most)
        ),
        *_legend(RIGHT, TOP + ROW * len(shown.kernels) + 14, most),
    ]
    described = f"{len(shown.kernels)} output pixels: where each reads, and with which weights. {words}"
    return Drawing(f"{name} kernels", described, RIGHT + 550, total, tuple(parts))


def letter(index: int) -> str:
    """A, B, C, ..."""
    return chr(ord("A") + index)


def _window(kernel: DrawnKernel, k: int, scale: float, index: int) -> list[str]:
    row, column = kernel.parent
    x, y = LEFT + (column - k // 2) * scale, TOP + (row - k // 2) * scale
    outline: dict[str, Value] = {"x": x, "y": y, "width": k * scale, "height": k * scale, "fill": "none"}
    return [
        element("rect", **outline, stroke="white", stroke_width=4),
        element("rect", **outline, stroke=_mark(index), stroke_width=2),
        _label(x + k * scale / 2, y + k * scale / 2, index),
    ]


def _dot(kernel: DrawnKernel, top: float, scale: float, index: int) -> str:
    return _label(LEFT + (kernel.x + 0.5) * scale, top + (kernel.y + 0.5) * scale, index, size=9.5)


def _label(x: float, y: float, index: int, size: float = 12) -> str:
    """The letter on a disc: readable on any image."""
    disc = element("circle", cx=x, cy=y, r=0.75 * size, fill="white", stroke=_mark(index), stroke_width=2)
    return disc + text(x, y + 0.36 * size, letter(index), size=size, text_anchor="middle", font_weight="bold")


def _row(kernel: DrawnKernel, image: np.ndarray, top: float, index: int, most: float) -> list[str]:
    k = len(kernel.weights)
    cell = KERNEL / k
    size = min(10.0, 0.4 * cell)
    title = f"{letter(index)}: output pixel (row {kernel.y}, column {kernel.x}), above input pixel {kernel.parent}"
    parts = [text(RIGHT, top + 14, title, size=11, fill=_mark(index), font_weight="bold")]
    for i in range(k):
        for j in range(k):
            row, column = kernel.parent[0] + i - k // 2, kernel.parent[1] + j - k // 2
            inside = 0 <= row < image.shape[0] and 0 <= column < image.shape[1]
            x, y = RIGHT + j * cell, top + 22 + i * cell
            colour = "#{:02x}{:02x}{:02x}".format(*image[row, column]) if inside else "#ffffff"
            square: dict[str, Value] = {"y": y, "width": cell, "height": cell, "stroke": "#cccccc", "stroke_width": 0.5}
            parts.append(element("rect", x=x, fill=colour, **square))
            if not inside:
                parts.append(text(x + cell / 2, y + cell / 2 + 4, "0", size=size, fill=MUTED, text_anchor="middle"))
            weight = kernel.weights[i][j]
            there, share = x + KERNEL + 40, weight / most
            parts.append(element("rect", x=there, fill=mixed(share, BLUES), **square))
            ink = "#ffffff" if share > 0.55 else INK
            words = f"{100 * weight:.1f}" if weight < 0.0995 else f"{100 * weight:.0f}"
            parts.append(text(there + cell / 2, y + cell / 2 + 3.5, words, size=size, fill=ink, text_anchor="middle"))
    return parts


def _legend(x: float, y: float, most: float) -> list[str]:
    steps, width = 40, 5
    bar = [
        element("rect", x=x + step * width, y=y, width=width + 0.5, height=12, fill=mixed(step / (steps - 1), BLUES))
        for step in range(steps)
    ]
    ends = (
        text(x, y + 26, "0 %", size=10, fill=MUTED),
        text(x + steps * width, y + 26, f"{100 * most:.3g} %", size=10, fill=MUTED, text_anchor="end"),
        text(x + steps * width + 14, y + 10, "weight of a tap; a kernel's sum is 100 %", size=11),
        text(x + steps * width + 14, y + 26, "0 in a window: outside the image, counts nothing", size=11),
    )
    return [*bar, *ends]


def _mark(index: int) -> str:
    return MARKS[index % len(MARKS)]


# --- The module of a state dict: settings read off the shapes, for a scale factor of 2 and one group --------------


def _kernel(encoded: int) -> int:
    """k of 4*k*k encoded channels."""
    k = math.isqrt(encoded // 4)
    if 4 * k * k != encoded:
        raise ValueError(f"expected 4*k*k encoded channels (scale factor 2, one group), got {encoded}")
    if k > MOST_TAPS:
        raise ValueError(f"kernels of {k} x {k} taps, more than the {MOST_TAPS} x {MOST_TAPS} that can be drawn")
    return k


def _carafe(state: State, core: Core) -> nn.Module:
    compressor, encoder = state["channel_compressor.weight"], state["content_encoder.weight"]
    return CARAFE(
        compressor.shape[1],
        up_kernel=_kernel(encoder.shape[0]),
        encoder_kernel=encoder.shape[2],
        compressed_channels=compressor.shape[0],
        implementation=core,
    )


def _yolo_carafe(state: State, core: Core) -> nn.Module:
    compressor, encoder = state["comp.conv.weight"], state["enc.conv.weight"]
    k_up = _kernel(encoder.shape[0])
    return YoloCARAFE(compressor.shape[1], encoder.shape[2], k_up, compressor.shape[0], implementation=core)


MAKERS: Makers = {"channel_compressor.weight": _carafe, "comp.conv.weight": _yolo_carafe}
