"""The relations of DCNv3's core: the general ones, and those of its own mathematics (`checks`), on drawn `examples`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from hypothesis import strategies as st

from opbench.conformance.general import Draws, general
from opbench.conformance.sizes import at_sizes
from opbench.operators.dcnv3.definition import dcnv3_definition
from opbench.operators.dcnv3.relations import checks
from opbench.operators.dcnv3.relations import examples as fields
from opbench.operators.dcnv3.relations.examples import calls
from opbench.operators.dcnv3.relations.sizes import SIZES
from opbench.relations import Core, Example, Relation, Space, Tier


def _drawn(**narrowed: Any) -> Draws:
    def draws(space: Space) -> st.SearchStrategy[Example]:
        return calls(space, **narrowed)

    return draws


def _of(
    name: str,
    statement: str,
    check: Callable[[Core, Example], None],
    draws: Draws,
    kind: Literal["exact", "bounded"] = "bounded",
    needs_gradients: bool = False,
    tier: Tier = "wrong",
) -> Relation:
    return Relation(name, kind, statement, check, draws, needs_gradients, tier=tier)


def _corner(name: str, where: str, tier: Tier = "wrong", **narrowed: Any) -> Relation:
    """The definition, output and gradients, in a corner of the space that a few examples of all of it may miss."""
    statement = f"{where}: output and gradients are the definition's"
    return _of(name, statement, checks.is_the_definition, _drawn(**narrowed), needs_gradients=True, tier=tier)


# Planes of this size are exact in bfloat16.
_LARGEST_PLANE = 64


def _planes(space: Space) -> st.SearchStrategy[Example]:
    if max(space.fixed.get(axis, 1) for axis in ("H", "W")) > _LARGEST_PLANE:
        return st.nothing()
    return calls(space, offsets=fields.ORDINARY)


_STILL = {"offsets": (fields.ZERO,), "offset_scale": (1.0,)}
_QUARTERS = {"offsets": (fields.QUARTERS,), "exact": True}

RELATIONS: tuple[Relation, ...] = (
    *general(calls, dcnv3_definition, checks.magnitude, smooth=_drawn(offsets=(fields.SMOOTH,))),
    _corner(
        "wide-images",
        "images of 200 columns, where a location needs its digits",
        H=(1, 2),
        W=(200,),
        kernel_size=(1, 2, 3),
    ),
    _of(
        "one-hot-shift",
        "offset 0, mask 1 at one point: out(v, u) = x(vs - pad + jd, us - pad + id), zero outside",
        checks.one_hot_is_a_shift,
        _drawn(masks=(fields.ONE_HOT,), **_STILL),
    ),
    _of(
        "average-pool",
        "offset 0, mask 1/k^2: out = avg_pool(x), zeros outside counted",
        checks.uniform_mask_is_average_pooling,
        _drawn(masks=(fields.UNIFORM,), dilation=(1,), remove_center=(False,), **_STILL),
    ),
    _of(
        "depthwise-convolution",
        "offset 0, one mask w for all pixels: out = depthwise convolution of x with w, x-outer",
        checks.constant_mask_is_a_convolution,
        _drawn(**_STILL),
    ),
    _of(
        "kernel-of-one",
        "k = 1, stride 1, pad 0, offset 0: out = x * mask",
        checks.kernel_of_one_is_a_product,
        _drawn(kernel_size=(1,), stride=(1,), pad=(0,), offsets=(fields.ZERO,)),
    ),
    _of(
        "whole-locations",
        "samples at whole locations (X, Y): out = sum of mask * x(Y, X)",
        checks.whole_locations_are_pixels,
        _drawn(offsets=(fields.WHOLE,), exact=True),
    ),
    _of(
        "half-locations",
        "samples halfway between pixels: each is the mean of the four pixels around it",
        checks.half_locations_are_means,
        _drawn(offsets=(fields.HALF,), exact=True),
    ),
    _of(
        "constant-image",
        "x = c: a sample is c times the part of its 1 x 1 cell neighbourhood that x covers",
        checks.constant_image_gives_coverage,
        _drawn(offsets=fields.ORDINARY),
    ),
    _of(
        "planes",
        "x(r, q) = 4 + 2q + r: a sample inside the image is 4 + 2X + Y",
        checks.planes_are_reproduced,
        _planes,
    ),
    _of(
        "scaled-offsets",
        "core(o, offset_scale a) = core(a o + (a - 1) p, offset_scale 1), p the point's step from the centre",
        checks.scale_is_a_change_of_offsets,
        _drawn(**_QUARTERS),
    ),
    _of(
        "stride-subsamples",
        "core(stride s) = core(stride 1)[::s, ::s], with offset and mask subsampled alike",
        checks.stride_subsamples,
        _drawn(stride=(1,)),
    ),
    _of("explicit-padding", "core(x, pad) = core(x padded with zeros, pad 0)", checks.padding_is_zeros, calls),
    _of(
        "deformable-conv-v2",
        "offset_scale 1: core = DCNv2 with unit weights, points by rows and pairs (y, x)",
        checks.equals_deformable_convolution_v2,
        _drawn(offsets=fields.ORDINARY, offset_scale=(1.0,), remove_center=(False,)),
    ),
    _of(
        "removed-center",
        "remove_center: core = core of the full kernel with mask 0 at the middle point",
        checks.removed_centre_weighs_nothing,
        _drawn(remove_center=(True,)),
    ),
    _of("groups-are-calls", "core(G groups) = concatenation of G calls of one group", checks.groups_are_calls, calls),
    _of(
        "group-permutation",
        "permuting the groups of x, offset and mask permutes those of the output",
        checks.groups_permute,
        calls,
    ),
    _of("channel-permutation", "permuting a group's channels permutes its output's", checks.channels_permute, calls),
    _of(
        "translation",
        "x moved by a pixel, offsets by 1/offset_scale: the same output",
        checks.translates,
        _drawn(**_QUARTERS),
    ),
    _of("mirror", "everything mirrored gives the mirrored output", checks.mirrors, _drawn(stride=(1,), **_QUARTERS)),
    _of("transpose", "x and y exchanged in every input gives the transposed output", checks.transposes, calls),
    _of(
        "outside",
        "samples far outside: output 0 and all gradients 0",
        checks.outside_is_nothing,
        _drawn(offsets=(fields.OUTSIDE,)),
        kind="exact",
        needs_gradients=True,
    ),
    _of(
        "continuity",
        "|core(o + h) - core(o)| <= 2 max|x| * offset_scale * sum|mask| (|h_x| + |h_y|)",
        checks.is_continuous,
        _drawn(offsets=(fields.WHOLE, fields.SMOOTH, fields.QUARTERS)),
    ),
    _of(
        "repeatable-offset-gradients",
        "two backward passes give the same bits for offset and mask",
        checks.has_repeatable_offset_gradients,
        calls,
        kind="exact",
        needs_gradients=True,
    ),
    _of(
        "odd-offsets-kept",
        "a call leaves NaN and infinite offsets in the caller's tensor as they are",
        checks.leaves_odd_offsets_alone,
        _drawn(offsets=(fields.NOT_FINITE,)),
        kind="exact",
        tier="fragile",
    ),
    _corner("strides", "stride 2 and 3", stride=(2, 3)),
    _corner("dilations", "dilation 2 and 3", dilation=(2, 3), kernel_size=(2, 3)),
    _corner("even-kernels", "kernels of 2 and 4", kernel_size=(2, 4)),
    _corner("without-center", "remove_center", remove_center=(True,)),
    _corner("offset-scales", "offset_scale 0.5 and 2", offset_scale=(0.5, 2.0), kernel_size=(2, 3, 4)),
    _corner("pads", "pad 1 to 3", pad=(1, 2, 3)),
    _corner("oblong-images", "H != W", oblong=True),
    _corner("negative-offsets", "offsets below zero", offsets=(fields.NEGATIVE,)),
    _corner("far-offsets", "offsets of 50 pixels", offsets=(fields.FAR,)),
    _corner("outside-offsets", "offsets of 1e4 pixels", offsets=(fields.OUTSIDE,)),
    _corner("huge-offsets", "offsets of 1e30 pixels", "fragile", offsets=(fields.HUGE,)),
    _corner(
        "offsets-not-finite",
        "NaN and infinite offsets, which count for nothing",
        "fragile",
        offsets=(fields.NOT_FINITE,),
    ),
    _corner(
        "kinks",
        "locations that are whole or nearly so, where either one-sided derivative will do",
        offsets=(fields.WHOLE, fields.NEAR),
    ),
    at_sizes(SIZES, dcnv3_definition, checks.magnitude),
)
