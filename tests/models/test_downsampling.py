"""Swaps of the slot downsample2x: which convolutions it is, what may take their place, and what is refused."""

import pytest
import torch
from test_swap import Block, Neck
from torch import nn

from opbench import registry, suites
from opbench.models import matching, swap
from opbench.models.replacements import suited
from opbench.models.yolov8 import yolov8
from opbench.operators.dcnv3 import DCNv3
from opbench.schema import OpbenchError


def halving(c_in=8, c_out=8, **options):
    return nn.Conv2d(c_in, c_out, **{"kernel_size": 3, "stride": 2, "padding": 1, **options})


NOT_THE_SLOT = [
    {"stride": 1},
    {"stride": 3},
    {"stride": (2, 1)},
    {"padding": 0},
    {"padding": 2, "dilation": 2},
    {"groups": 8},
    {"kernel_size": 5, "padding": 2},
    {"padding_mode": "reflect"},
]


@pytest.mark.parametrize("options", NOT_THE_SLOT, ids=lambda options: "-".join(map(str, options.items())))
def test_the_slot_is_a_3x3_convolution_that_halves_its_image(options):
    assert matching(nn.Sequential(halving(**options)), "downsample2x") == []
    assert matching(nn.Sequential(halving(), halving(3, 16)), "downsample2x") == [("0",), ("1",)]


def test_the_convolution_of_a_block_is_replaced_and_its_norm_stays():
    model = Neck()
    (change,) = swap(model, "downsample2x", "depthwise-stride2")
    assert (change.name, change.before, change.params_after) == ("stem.conv", "Conv2d", 9 * 3 + 3 * 16)
    assert (change.shape_in, change.shape_out) == ((1, 3, 64, 64), (1, 16, 32, 32))
    assert isinstance(model.stem.bn, nn.BatchNorm2d)
    assert model(torch.zeros(2, 3, 33, 32)).shape == (2, 4, 34, 32)


def test_what_halves_an_image_otherwise_can_be_named():
    model = nn.Sequential(Block(3, 16), nn.MaxPool2d(2))
    (change,) = swap(model, nn.MaxPool2d, "conv3x3-stride2")
    assert change.params_after == 9 * 16 * 16


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (nn.Conv2d(16, 16, 3, padding=1), r"halves height and width, the module there makes .*64, 64\) -> .*64, 64"),
        (nn.Conv2d(16, 16, 3, stride=4, padding=1), r"halves height and width, the module there makes .*16, 16\)"),
    ],
)
def test_a_place_that_does_not_halve_is_refused(module, said):
    with pytest.raises(OpbenchError, match=said):
        swap(nn.Sequential(Block(3, 16), module), "1", "conv3x3-stride2")


def test_a_name_that_two_slots_have_means_the_operator_of_the_place(monkeypatch):
    registry.load()
    of_strides = registry.operator("downsample2x", "depthwise-stride2")
    monkeypatch.setitem(registry._operators, ("downsample2x", "depthwise-separable"), of_strides)
    image, half = (1, 8, 16, 16), (1, 16, 8, 8)
    assert suited("depthwise-separable", image, half) is of_strides
    assert suited("depthwise-separable", image, image) is registry.operator("conv3x3", "depthwise-separable")
    assert suited("conv3x3", image, half) is registry.operator("conv3x3", "conv3x3")


@pytest.mark.parametrize("with_", ["dcnv3", DCNv3, "yolo-dcnv3"])
def test_dcnv3_takes_a_place_of_either_slot(with_):
    """At stride 2 as many groups as leave at most 16 of the output's channels in each."""
    model = nn.Sequential(halving(3, 48), halving(48, 48, stride=1))
    changes = swap(model, lambda name, module: bool(name), with_)
    assert [change.shape_out for change in changes] == [(1, 48, 32, 32), (1, 48, 32, 32)]
    assert [model[0].dcnv3.stride, model[0].dcnv3.group] == [2, 3]
    assert model(torch.zeros(1, 3, 9, 12)).shape == (1, 48, 5, 6)


def test_the_suite_has_the_strided_convolutions_of_the_package_s_own_yolov8n(ultralytics):
    model = yolov8("n")
    changes = swap(model, "downsample2x", "conv3x3-stride2", size=(64, 64))
    found = [(*change.shape_in[1:], change.shape_out[1]) for change in changes]
    dims = [workload.dims for workload in suites.load("downsample").workloads]
    assert found == [(one["C"], one["H"] // 10, one["W"] // 10, one["O"]) for one in dims]
