"""The sizes of DCNv3's calls: x (N, H, W, C), offset (N, Ho, Wo, G*P*2) and mask (N, Ho, Wo, G*P), all normal.

Two sizes are how far offsets reach along either axis: past 2^7, 2^8 and 2^15 pixels a kernel may keep them in too few
bits. The image is then so wide, or so high, that samples stay in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from opbench.conformance.sizes import LADDER
from opbench.conformance.strategies import example, noise
from opbench.operators.dcnv3.relations.examples import output_size, points
from opbench.relations import Example, Sizes, Space

# Small, but with an inside and a border, and a window that is larger than a pixel.
_DIMENSIONS = {"N": 1, "C": 2, "H": 3, "W": 4}
# Offsets of about a pixel, as networks ask for; along the axis of each dimension.
REACHES = {"W": "offset_pixels", "H": "offset_pixels_y"}
_FAR = (1, 127, 128, 129, 255, 256, 257, 32767, 32768, 32769)
_OPTIONS = {"kernel_size": 3, "stride": 1, "dilation": 1, "group": 1, "offset_scale": 1.0, "remove_center": False}


def completed(asked: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The smallest ordinary call with these sizes: groups divide channels, the pad is half a window unless asked."""
    sizes = {**_DIMENSIONS, **_OPTIONS, **dict.fromkeys(REACHES.values(), 1), **asked}
    far = [side for side, reach in REACHES.items() if sizes[reach] > 1]
    if far and "kernel_size" not in asked:
        sizes["kernel_size"] = 1
    reach = sizes["dilation"] * (sizes["kernel_size"] - 1)
    sizes.setdefault("pad", reach // 2)
    groups = sizes["group"]
    sizes["C"] = -(-sizes["C"] // groups) * groups
    for side in REACHES:
        if side in asked:
            continue
        if side in far:
            sizes[side] = max(reach + 1, 2 * sizes["stride"] + sizes[REACHES[side]])
        else:  # of an image that is long one way, as little as may be the other
            sizes[side] = max(reach + 1, 2 if far else sizes[side])
    if any(sizes[side] <= sizes[REACHES[side]] for side in far):  # all samples outside: whatever is wrong, 0 is right
        return None
    centred = sizes["kernel_size"] % 2 == 1 and sizes["kernel_size"] > 1
    fits = min(output_size(sizes["H"], sizes["W"], sizes)) >= 1 and (centred or not sizes["remove_center"])
    return sizes if fits else None


def call(sizes: Mapping[str, Any], space: Space, seed: int) -> Example:
    """The call of these sizes; samples are moved by about a pixel."""
    options = {name: sizes[name] for name in (*_OPTIONS, "pad")}
    N, C, H, W = (sizes[name] for name in _DIMENSIONS)
    shape = (N, *output_size(H, W, options), sizes["group"] * points(options))
    offset = noise((*shape[:3], 2 * shape[3]), seed + 1)
    for component, (side, reach) in enumerate(REACHES.items()):
        if sizes[reach] > 1:  # from the left (upper) half of the image to the right (lower) one, and back
            places = torch.arange(shape[1 if side == "H" else 2]) * sizes["stride"]
            there = (places < sizes[side] / 2).double() * 2 - 1
            moved = sizes[reach] * there / options["offset_scale"]
            offset[..., component::2] += moved.view((-1, 1, 1) if side == "H" else (-1, 1))
    return example(space, options, x=noise((N, H, W, C), seed), offset=offset, mask=noise(shape, seed + 2))


def work(sizes: Mapping[str, Any]) -> int:
    """The products of a call: four corners of every sample and channel, and as many again for the sample's place."""
    height, width = output_size(sizes["H"], sizes["W"], sizes)
    samples = sizes["N"] * height * width * points(sizes)
    products: int = 4 * samples * (sizes["C"] + sizes["group"])
    return products


SIZES = Sizes(
    rungs={
        **dict.fromkeys(_DIMENSIONS, LADDER),
        "kernel_size": (1, 2, 3, 4, 5, 7, 9, 11, 13),
        "stride": (1, 2, 3, 4),
        "dilation": (1, 2, 3, 4),
        "pad": (0, 1, 2, 3, 4, 8),
        "group": (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32),
        "offset_scale": (1.0, 0.5, 2.0),
        "remove_center": (False, True),
        **dict.fromkeys(REACHES.values(), _FAR),
    },
    completed=completed,
    call=call,
    work=work,
    areas=(("H", "W"), ("N", "C")),
)
