"""What CARAFE++'s downsampling promises beside its definition; calls are those of its module."""

from __future__ import annotations

import torch

from opbench.conformance.comparing import run, same
from opbench.relations import Core, Example, Relation

# A logit so far above the others that softmax gives them nothing, in any dtype.
ALONE = 500.0


def _one_tap(core: Core, example: Example, row: int, column: int) -> tuple[torch.Tensor, Example]:
    """The output where every mask is 1 at one tap."""
    k = example.options["down_kernel"]
    bias = torch.zeros_like(example.tensors["content_encoder.bias"])
    bias[row * k + column :: k * k] = ALONE
    changed = example.filled({"content_encoder.weight": 0.0}).replace(**{"content_encoder.bias": bias})
    return run(core, changed), changed


def _the_centre_alone_is_every_stride_th_pixel(core: Core, example: Example) -> None:
    k, s = example.options["down_kernel"], example.options["scale_factor"]
    out, changed = _one_tap(core, example, k // 2, k // 2)
    same(out, example.tensors["x"][:, :, ::s, ::s], changed, "output under masks of 1 at the centre")


def _the_first_tap_alone_is_a_shift(core: Core, example: Example) -> None:
    k, s = example.options["down_kernel"], example.options["scale_factor"]
    out, changed = _one_tap(core, example, 0, k - 1)
    r = k // 2
    moved = torch.nn.functional.pad(example.tensors["x"], (r, r, r, r))
    height, width = example.tensors["x"].shape[2:]
    moved = moved[:, :, :height, 2 * r : 2 * r + width]
    same(out, moved[:, :, ::s, ::s], changed, "output under masks of 1 at the last tap of the first row")


RELATIONS = (
    Relation(
        "centre-alone",
        "exact",
        "masks of 1 at the centre: output = x[:, :, ::s, ::s], bit for bit",
        _the_centre_alone_is_every_stride_th_pixel,
    ),
    Relation(
        "corner-alone",
        "exact",
        "masks of 1 at the last tap of the first row: output = x shifted down and left, with zeros, every s-th pixel",
        _the_first_tap_alone_is_a_shift,
    ),
)
