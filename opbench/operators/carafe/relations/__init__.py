"""The relations of CARAFE's core: the general ones, and those of its own mathematics (`checks`), on drawn `examples`.

A relation is exact where each output is one product, or where the two sides are one call on data that differ only in
what is multiplied by zero. Everywhere else the two sides may sum the same terms in another order: a kernel chooses its
tiles, its vectors and their remainders by the shape of the call. Those are bounded.
"""

from __future__ import annotations

from hypothesis import strategies as st

from opbench.conformance.general import general
from opbench.conformance.sizes import at_sizes
from opbench.operators.carafe.definition import reassembly
from opbench.operators.carafe.relations import checks
from opbench.operators.carafe.relations.examples import ONE_TAP, SOFTMAX, WEIGHTS, calls, with_outside
from opbench.operators.carafe.relations.sizes import SIZES
from opbench.relations import Relation

RELATIONS: tuple[Relation, ...] = (
    *general(calls, reassembly, checks.magnitude),
    Relation(
        "centre-is-nearest",
        "exact",
        "mask 1 at the centre tap: core = nearest-neighbour upsampling of x, in memory of its own",
        checks.centre_is_nearest,
        lambda space: calls(space, masks=(ONE_TAP,)),
    ),
    Relation(
        "one-tap-is-shift",
        "exact",
        "mask 1 at tap (i, j): out(Y, X) = x(Y//s + i - k//2, X//s + j - k//2), zero outside the image",
        checks.one_tap_is_a_shift,
        lambda space: calls(space, masks=(ONE_TAP,)),
    ),
    Relation(
        "tent-is-bilinear",
        "bounded",
        "k = 3 and a tent mask: core = bilinear upsampling, align_corners=False",
        checks.tent_is_bilinear,
        lambda space: calls(space, masks=(ONE_TAP,), kernel_size=3),
    ),
    Relation(
        "one-pixel-kernel",
        "exact",
        "k = 1: core = nearest-neighbour upsampling of x, times mask",
        checks.one_tap_kernel_is_a_product,
        lambda space: calls(space, kernel_size=1),
    ),
    Relation(
        "phases",
        "bounded",
        "out[a::s, b::s] = core(x, mask[a::s, b::s], scale_factor=1)",
        checks.phases_are_calls,
        lambda space: st.nothing() if space.fixed.get("scale_factor", 1) != 1 else calls(space),
    ),
    Relation(
        "equal-children",
        "bounded",
        "children of one parent under one mask: core = nearest-neighbour upsampling of core(scale_factor=1)",
        checks.equal_children_are_equal,
        lambda space: st.nothing() if space.fixed.get("scale_factor", 1) != 1 else calls(space),
    ),
    Relation(
        "constant-mask",
        "bounded",
        "s = 1 and one mask for all pixels: core = zero-padded depthwise convolution",
        checks.constant_mask_is_a_convolution,
        lambda space: calls(space, scale_factor=1),
    ),
    Relation(
        "groups",
        "bounded",
        "core with g groups = concatenation of g calls with one group",
        checks.groups_are_calls,
        lambda space: st.nothing() if space.fixed.get("group_size", 1) != 1 else calls(space),
    ),
    Relation(
        "constant-x",
        "bounded",
        "x constant: out = x * (sum of the mask over the taps inside the image), so darker along the border",
        checks.constant_x_is_weighed_inside,
        lambda space: calls(space, masks=(SOFTMAX,)),
    ),
    Relation(
        "average-in-range",
        "bounded",
        "mask >= 0 with sum w: w min(x, 0) <= out <= w max(x, 0) over each window",
        checks.average_stays_in_range,
        lambda space: calls(space, masks=WEIGHTS),
    ),
    Relation(
        "shift",
        "bounded",
        "x moved by 1 and mask by s: the interior of the output moves by s",
        checks.shifts_with_its_inputs,
        lambda space: calls(space, interior=True),
    ),
    Relation(
        "zero-border",
        "bounded",
        "a border of zeros around x changes nothing inside it, whatever the mask on the border",
        checks.zero_border_changes_nothing,
        calls,
    ),
    Relation(
        "mirrors",
        "bounded",
        "x, mask and taps flipped or transposed alike: the output is flipped or transposed",
        checks.mirrors_with_its_inputs,
        calls,
    ),
    Relation(
        "channel-permutation",
        "bounded",
        "permuting the channels of a group, or the groups with their masks, permutes the output",
        checks.channels_are_alike,
        calls,
    ),
    Relation(
        "outside-taps",
        "exact",
        "Inf or NaN in the mask of taps outside the image changes nothing, and the gradient there is 0",
        checks.nothing_leaks_in,
        lambda space: with_outside(calls(space)),
        needs_gradients=True,
        tier="fragile",
    ),
    at_sizes(SIZES, reassembly, checks.magnitude),
)
