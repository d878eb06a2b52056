"""CARAFE++'s downsampling on an image: the window that an output pixel reads, and the kernel that adds it up."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from opbench.drawings import Drawing, Shot
from opbench.operators.carafe.show import MOST_TAPS, DrawnKernel, Shown, draw
from opbench.operators.carafe_downsample.cores import shift_add
from opbench.operators.carafe_downsample.module import CARAFEDownsample
from opbench.operators.common.show import Recorder
from opbench.report.show.image import features
from opbench.report.show.images import pixels
from opbench.report.show.shots import note, places
from opbench.report.show.weights import Core, Makers, State, computed, module_of

CHANNELS = 64  # of a module that no file gives


def drawn(shot: Shot, image: np.ndarray) -> Drawing:
    """The kernels at some output pixels of `image` (H, W, 3), and the image made smaller by all of them."""
    recorder = Recorder(shift_add)
    module = module_of(
        shot,
        "carafe-downsample",
        lambda: CARAFEDownsample(CHANNELS, implementation=recorder),
        MAKERS,
        recorder,
    )
    assert isinstance(module, CARAFEDownsample)
    x = features(image, module.channels, shot.seed)
    with torch.no_grad():
        module(x)
        mask, s = computed(recorder.calls[-1][1], "kernels"), recorder.settings["stride"]
        colours = torch.from_numpy(image.astype("float32")).permute(2, 0, 1)[None]
        out = shift_add(colours, mask, **recorder.settings)
    k = recorder.settings["kernel_size"]
    found = tuple(
        DrawnKernel(row, column, (s * row, s * column), tuple(map(tuple, mask[0, :, row, column].view(k, k).tolist())))
        for row, column in places(shot.at, *mask.shape[2:])
    )
    return draw(Shown(found, pixels(out[0])), image, note(shot, module.channels), "CARAFE++ downsampling")


# --- The module of a state dict: settings read off the shapes, for a stride of 2 and one group --------------------


def _module(state: State, core: Core) -> nn.Module:
    compressor, encoder = state["channel_compressor.weight"], state["content_encoder.weight"]
    project = state.get("project.weight")
    k = math.isqrt(encoder.shape[0])
    if k**2 != encoder.shape[0] or k > MOST_TAPS:
        raise ValueError(f"expected k*k encoded channels (one group, k at most {MOST_TAPS}), got {encoder.shape[0]}")
    return CARAFEDownsample(
        compressor.shape[1],
        down_kernel=k,
        encoder_kernel=encoder.shape[2],
        compressed_channels=compressor.shape[0],
        out_channels=None if project is None else project.shape[0],
        implementation=core,
    )


MAKERS: Makers = {"channel_compressor.weight": _module}
