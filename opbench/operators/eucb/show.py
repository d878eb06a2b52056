"""EUCB's depthwise kernel, and what it is to the input: each of a pixel's four children reads two by two pixels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from opbench.drawings import Drawing, Shot
from opbench.operators.eucb.module import EUCB
from opbench.report.show.shots import note
from opbench.report.show.svg import INK, MUTED, element, text
from opbench.report.show.weights import Core, Makers, State, module_of

LEFT, TOP, CELL, GAP = 48, 112, 58, 48
CHANNELS = 64  # of a module that no file gives


def folded(kernel: torch.Tensor, a: int, b: int) -> torch.Tensor:
    """The weights (k, k) of output pixels as child (a, b) sees its input pixels: rows and columns of one are added."""
    reach = kernel.shape[0] // 2
    taps = torch.arange(-reach, reach + 1)
    parents = [torch.div(taps + child, 2, rounding_mode="floor") for child in (a, b)]
    rows, columns = (torch.stack([parent == at for at in parent.unique()]).to(kernel) for parent in parents)
    return rows @ kernel @ columns.T


def drawn(shot: Shot, image: np.ndarray) -> Drawing:
    """The kernel of the first channel, and the four kernels that it is to the input."""
    module = module_of(shot, "eucb", lambda: EUCB(CHANNELS, CHANNELS), MAKERS, torch.nn.Identity())
    assert isinstance(module, EUCB)
    depthwise = module.up_dwc[1]
    assert isinstance(depthwise, torch.nn.Conv2d)
    kernel = depthwise.weight.detach()[0, 0].double()
    wide = len(kernel) * CELL
    words = note(shot, module.in_channels).split(";")[0]
    parts = [
        text(LEFT, 32, "EUCB: a depthwise kernel on the image doubled, and on the image itself", size=18),
        text(LEFT, 52, f"{words}; channel 0 of {module.in_channels}; numbers are weights", size=12, fill=MUTED),
        *_kernel(LEFT, TOP, kernel, "on output pixels"),
    ]
    x = LEFT + wide + GAP
    for a in (0, 1):
        for b in (0, 1):
            own = folded(kernel, a, b)
            parts += _kernel(x, TOP, own, f"child ({a}, {b}): on input pixels")
            x += max(190, own.shape[1] * CELL) + GAP
    described = f"a {len(kernel)}x{len(kernel)} kernel and the four it is to the input. {words}"
    return Drawing("EUCB's depthwise kernel", described, x, TOP + wide + 32, tuple(parts))


def _kernel(x: float, y: float, kernel: torch.Tensor, words: str) -> Iterator[str]:
    """Darker where a weight is larger; orange where it is negative."""
    yield text(x, y - 10, words, size=12)
    largest = max(float(kernel.abs().max()), 1e-12)
    for row, line in enumerate(kernel.tolist()):
        for column, weight in enumerate(line):
            place = {"x": x + column * CELL, "y": y + row * CELL, "width": CELL, "height": CELL}
            fill = "#0072b2" if weight >= 0 else "#d55e00"
            yield element("rect", **place, fill=fill, fill_opacity=0.7 * abs(weight) / largest, stroke=INK)
            middle = (place["x"] + CELL / 2, place["y"] + CELL / 2 + 4)
            yield text(*middle, f"{weight:.2f}", size=12, text_anchor="middle")


def _module(state: State, core: Core) -> torch.nn.Module:
    kernel, mixed = state["up_dwc.1.weight"], state["pwc.0.weight"]
    return EUCB(
        kernel.shape[0], mixed.shape[0], kernel.shape[2], activation="prelu" if "up_dwc.3.weight" in state else "relu"
    )


MAKERS: Makers = {"up_dwc.1.weight": _module}
