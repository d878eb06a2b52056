"""Errors that many elements share: a place moves all that is sampled at it, a mean all that it is taken from."""

import pytest
import torch

from opbench import registry
from opbench.build import build
from opbench.schema import Case
from opbench.verify.gate import check, reference
from opbench.verify.rounding.arithmetic import Arithmetic
from opbench.verify.rounding.derive import derive
from opbench.verify.rounding.elementwise import COORDINATE
from opbench.verify.rounding.kinks import Constants
from opbench.verify.rounding.shared import ROWS, shared
from opbench.verify.rounding.tracked import Tracked, analysing

CHANNELS = 64


def sampled(given):
    """The mean over the channels of images (C, W), each sampled at places x (n)."""
    x, image = given["x"], given["image"]
    left = torch.floor(x.detach())
    index = left.long()
    share = x - left
    return {"output": (image[:, index] * (1 - share) + image[:, index + 1] * share).mean(0)}


def deviation(image, *places):
    tensors = {"x": torch.tensor(places, dtype=torch.float64), "image": image}
    return derive(sampled, tensors, sampled(tensors), "float32")["output"].deviation


def ramps(signs):
    return signs.unsqueeze(1) * (torch.arange(8, dtype=torch.float64) - 3.5)


def test_channels_whose_slopes_agree_are_off_together():
    """Either way the terms and their squares are the same; where the slopes cancel the place's error does, too."""
    ones = torch.ones(CHANNELS, dtype=torch.float64)
    alike = deviation(ramps(ones), 3.4)
    cancelling = deviation(ramps(ones * torch.tensor([1.0, -1.0]).repeat(CHANNELS // 2)), 3.4)
    assert float(alike / cancelling) > CHANNELS**0.5 / 2


def test_a_place_within_rounding_of_a_cell_s_border_is_off_by_the_steeper_slope():
    image = torch.zeros(CHANNELS, 8, dtype=torch.float64)
    image[:, 4:] = 100.0
    (there,) = deviation(image, 3 - 1e-8).tolist()
    (steep,) = deviation(image, 3.5).tolist()
    assert there > 0.6 * steep


def test_few_places_are_counted_exactly():
    """Each with its own slope, in one sum: the variance is the sum of the squares."""
    slopes = torch.arange(1, ROWS - 1, dtype=torch.float64) * torch.tensor([1.0, -1.0]).repeat(ROWS // 2 - 1)

    def evaluate(given):
        out = given["x"].new_zeros(())
        for slope, x in zip(slopes, given["x"], strict=True):
            out = out + slope * (x - torch.floor(x.detach()))
        return {"output": out.detach()}

    tensors = {"x": torch.linspace(0.2, 5.7, len(slopes), dtype=torch.float64)}
    with analysing(Arithmetic.of("float32")) as analysis, Constants(analysis.located):
        evaluate({"x": Tracked(tensors["x"])})
    found = float(shared(evaluate, tensors, evaluate(tensors), analysis)["output"])
    each = COORDINATE * 2.0**-23 * tensors["x"].clamp(min=1)
    assert found == pytest.approx(float((slopes * each).square().sum()), rel=1e-5)


def test_a_definition_that_shares_nothing_is_not_evaluated_again():
    with analysing(Arithmetic.of("float32")) as analysis:
        (Tracked(torch.ones(4, dtype=torch.float64)) * 3).exp()

    def never(given):
        raise AssertionError

    assert shared(never, {}, {}, analysis) == {}


def judged(task, operator, dims, dtype, mode, seed, spread=None):
    """The margins of every implementation that compiles nothing."""
    registry.load()
    held, margins = None, []
    for name, implementation in registry.operator(task, operator).implementations.items():
        if "cpu" not in implementation.devices or implementation.missing() or implementation.compiles:
            continue
        built = build(Case(task, "bounds", operator, name, dims, dtype, "cpu", mode, spread, seed))
        held = held or reference(built)
        margins.append(check(built, held).worst_ratio)
    return margins


def test_pixels_that_share_their_channel_s_statistics_are_off_together():
    """EUCB: a norm's backward, then a depthwise one that adds up neighbours. One channel was 0.69 of its bound off."""
    dims = {"N": 1, "C": 128, "H": 9, "W": 7, "activation": "hswish"}
    assert max(judged("upsample2x", "eucb", dims, "float64", "training", 18)) <= 0.5


def test_a_pixel_where_the_channels_slopes_agree_is_within_half_its_bound():
    """LDConv: three right cores were all 0.50 of their bound off, by the offset's error, which they have in common."""
    dims = {"N": 1, "C": 128, "H": 9, "W": 11, "G": 4, "num_param": 9}
    assert max(judged("conv3x3", "ldconv", dims, "float32", "inference", 1, 2.0)) <= 0.4


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_an_offset_that_few_channels_predict_is_stored_in_a_half_type(dtype, thorough):
    """DCNv4 with six channels: its sums are of seven terms, and its samples off by the offsets' last digit."""
    dims = {"N": 1, "C": 6, "H": 12, "W": 9, "G": 2}
    for seed in range(4 if thorough else 1):
        assert max(judged("conv3x3", "dcnv4", dims, dtype, "inference", seed, 2.0)) <= 0.5
