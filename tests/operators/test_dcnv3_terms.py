"""The error bounds of DCNv3's core let right cores through (test_dcnv3) and stop wrong ones."""

import pytest
import torch
from sampling_cases import Call, answers

from opbench.operators.dcnv3 import CORES
from opbench.operators.dcnv3.definition import dcnv3_definition
from opbench.operators.dcnv3.terms import KINK, dcnv3_terms
from opbench.verify.bounds import allowed, judge

SETTINGS = {
    "kernel_size": 3,
    "stride": 1,
    "pad": 1,
    "dilation": 1,
    "group": 2,
    "offset_scale": 1.5,
    "remove_center": False,
}
GATHER = CORES["gather"].function


def right(x, offset, mask, **settings):
    return GATHER(x, offset, mask, **settings)


def swaps_x_and_y(x, offset, mask, **settings):
    return GATHER(x, offset.unflatten(-1, (-1, 2)).flip(-1).flatten(-2), mask, **settings)


def orders_points_by_rows(x, offset, mask, **settings):
    pairs = offset.unflatten(-1, (2, 3, 3, 2)).transpose(-2, -3).flatten(-4)
    return GATHER(x, pairs, mask.unflatten(-1, (2, 3, 3)).transpose(-1, -2).flatten(-3), **settings)


def leaves_the_window_unscaled(x, offset, mask, **settings):
    return GATHER(x, offset * settings["offset_scale"], mask, **{**settings, "offset_scale": 1.0})


def rounds_coordinates_to_half(x, offset, mask, **settings):
    return GATHER(x, offset + (offset.bfloat16().to(offset) - offset).detach(), mask, **settings)


def normalises_the_mask(x, offset, mask, **settings):
    return GATHER(x, offset, mask / mask.sum(-1, keepdim=True), **settings)


def accumulates_in_half(x, offset, mask, **settings):
    return GATHER(x.half(), offset.half(), mask.half(), **settings).to(x)


def detaches_offsets_of_one_group(x, offset, mask, **settings):
    half = offset.shape[-1] // 2
    return GATHER(x, torch.cat((offset[..., :half].detach(), offset[..., half:]), -1), mask, **settings)


def scales_the_gradient_of_x(x, offset, mask, **settings):
    return GATHER(x * 1.001 - (x * 0.001).detach(), offset, mask, **settings)


WRONG = [
    swaps_x_and_y,
    orders_points_by_rows,
    leaves_the_window_unscaled,
    rounds_coordinates_to_half,
    normalises_the_mask,
    accumulates_in_half,
    detaches_offsets_of_one_group,
    scales_the_gradient_of_x,
]


def verdict(core, spread, dtype="float32"):
    tensors = Call(1, 7, 6, 4, SETTINGS, spread, 5).tensors(getattr(torch, dtype))
    exact = [value.double() for value in tensors]
    expected = answers(dcnv3_definition, *exact, **SETTINGS)
    return judge(answers(core, *tensors, **SETTINGS), expected, dcnv3_terms(*exact, **SETTINGS), dtype)


@pytest.mark.parametrize("core", WRONG, ids=lambda core: core.__name__)
def test_a_wrong_core_is_found_out(core):
    assert not verdict(core, 2.0).correct


def test_a_right_core_is_well_within_its_bounds():
    assert verdict(right, 2.0).worst_ratio < 0.5


def test_without_gradients_only_the_output_is_bounded():
    x, offset, mask, grad = Call(1, 4, 4, 2, SETTINGS, 0.5, 0).tensors()
    alone = dcnv3_terms(x, offset, mask, None, **SETTINGS)
    assert list(alone) == ["output"]
    assert torch.equal(alone["output"].total, dcnv3_terms(x, offset, mask, grad, **SETTINGS)["output"].total)


def test_slack_is_granted_at_kinks_only():
    settings = {**SETTINGS, "offset_scale": 1.0}
    x, offset, mask, grad = Call(1, 4, 4, 2, settings, 0.5, 0).tensors()
    assert not dcnv3_terms(x, offset, mask, grad, **settings)["offset"].slack.any()
    at_kink = offset.round() + KINK / 2
    granted = dcnv3_terms(x, at_kink, mask, grad, **settings)["offset"].slack
    # What separates the two one-sided derivatives, seen from both sides of the whole location.
    sides = [
        answers(dcnv3_definition, x, at_kink.round() + step, mask, grad, **settings)["offset"] for step in (-1e-9, 1e-9)
    ]
    torch.testing.assert_close(granted, (sides[1] - sides[0]).abs(), rtol=1e-2, atol=1e-2)


def test_the_bound_of_the_output_follows_the_eps_of_a_location_and_the_slope():
    settings = {**SETTINGS, "kernel_size": 1, "pad": 0, "group": 1, "offset_scale": 1.0}
    ramp = torch.arange(64, dtype=torch.float64).view(1, 1, 64, 1) * 1000
    offset, mask = torch.full((1, 1, 64, 2), 0.25, dtype=torch.float64), torch.ones(1, 1, 64, 1, dtype=torch.float64)
    terms = dcnv3_terms(ramp, offset, mask, None, **settings)["output"]
    moved = dcnv3_definition(ramp, offset + 2**-23 * 32, mask, **settings) - dcnv3_definition(
        ramp, offset, mask, **settings
    )
    assert (allowed(terms, "float32")[0, 0, 1:-1] > moved.abs()[0, 0, 1:-1]).all()


def test_the_slack_beside_a_border_covers_the_whole_slope():
    """A core that rounds such a location to -1 finds its sample outside, and its gradient 0."""
    settings = {**SETTINGS, "kernel_size": 1, "pad": 0, "group": 1, "offset_scale": 1.0}
    x = torch.tensor([3.0, -2.0], dtype=torch.float64).view(1, 1, 2, 1)
    offset = torch.tensor([[KINK / 4 - 1, 0.3], [0.3, 0.3]], dtype=torch.float64).view(1, 1, 2, 2)
    mask, grad = torch.full((1, 1, 2, 1), 0.5, dtype=torch.float64), torch.ones(1, 1, 2, 1, dtype=torch.float64)
    slope = answers(dcnv3_definition, x, offset, mask, grad, **settings)["offset"][0, 0, 0, 0]
    slack = dcnv3_terms(x, offset, mask, grad, **settings)["offset"].slack[0, 0, 0, 0]
    assert slope == 3 * 0.5 * 0.7
    assert slack >= slope * (1 - 1e-12)
