"""DCNv4 on an image: where each group of channels samples for one output pixel, and how much each sample counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from opbench.drawings import Drawing, Shot
from opbench.kernels.dcnv4_packed import unpack, width
from opbench.operators.common.show import Recorder
from opbench.operators.dcnv3.show import CHANNELS, GROUPS, draw, queries, unsampled
from opbench.operators.dcnv4 import prepare_dcnv4
from opbench.operators.dcnv4.module import ChannelsFirstDCNv4, DCNv4
from opbench.report.show.image import features
from opbench.report.show.shots import note, places
from opbench.report.show.weights import Core, Makers, State, module_of

MASKS = "size of a sample's mask (no softmax: any number)"


def recording(recorder: Recorder) -> Core:
    """A core that hands the recorder offsets and the size of the masks it is given, and returns its input."""

    def core(x: Tensor, offset_mask: Tensor, **settings: Any) -> Tensor:
        points = settings["kernel_size"] ** 2 - settings["remove_center"]
        offset, mask = unpack(offset_mask, settings["group"], points)
        return recorder(x, offset, mask.abs(), **settings)

    return core


def drawn(shot: Shot, image: np.ndarray) -> Drawing:
    """DCNv4's sampling points at some output pixels of `image` (H, W, 3)."""
    recorder = Recorder(unsampled)
    core = recording(recorder)
    module = module_of(shot, "dcnv4", lambda: made(core), MAKERS, core)
    assert isinstance(module, DCNv4)
    x = features(image, module.channels, shot.seed)
    moved = ""
    if not shot.weights and not shot.fresh:
        prepare_dcnv4(module, x.permute(0, 2, 3, 1), shot.spread, torch.Generator().manual_seed(shot.seed))
        moved = f", offsets spread by {shot.spread:g} px"
    found = queries(module, recorder, x, places(shot.at, *image.shape[:2]))
    return draw(found, image, note(shot, module.channels) + moved, name="DCNv4", weights=MASKS)


def made(core: Core) -> nn.Module:
    """The module that is shown where no file gives one."""
    return ChannelsFirstDCNv4(CHANNELS, group=GROUPS, implementation=core)


def _dcnv4(state: State, core: Core) -> nn.Module:
    """A 3x3 window; a layout's rows tell the number of groups, but for widths that padding makes equal: the fewest."""
    rows, channels = state["offset_mask.weight"].shape
    fitting = [group for group in range(1, channels + 1) if channels % group == 0 and width(group, 9) == rows]
    if not fitting:
        raise ValueError(f"expected 8 * ceil(27 G / 8) rows of offset_mask (a 3x3 window), got {rows}")
    depthwise = state.get("offset_mask_dw.weight")
    return ChannelsFirstDCNv4(
        channels,
        group=fitting[0],
        dw_kernel_size=None if depthwise is None else depthwise.shape[2],
        center_feature_scale="center_feature_scale_proj_weight" in state,
        output_bias="output_proj.bias" in state or "output_proj.weight" not in state,
        without_pointwise="output_proj.weight" not in state,
        implementation=core,
    )


MAKERS: Makers = {"offset_mask.weight": _dcnv4}
