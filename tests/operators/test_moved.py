"""What has moved is still found where it was, with a word about the new place."""

import importlib
import sys

import pytest

from opbench.operators import carafe, dcnv3
from opbench.operators.dcnv3 import module
from opbench.operators.spatial_attention import SpatialAttention

MOVED = {
    "upsample": {"SpatialAttention": SpatialAttention},
    "dcnv3_modules": {
        "DCNv3": dcnv3.DCNv3,
        "DCNV3_YoLo": dcnv3.DCNV3_YoLo,
        "ChannelsFirstDCNv3": module.ChannelsFirstDCNv3,
        "ChannelsLast": module.ChannelsLast,
        "_Conv": module._Conv,
    },
}


@pytest.mark.parametrize("name", MOVED)
def test_an_earlier_place_warns_and_has_the_same_objects(name, monkeypatch):
    monkeypatch.delitem(sys.modules, f"opbench.operators.{name}", raising=False)
    with pytest.warns(
        DeprecationWarning, match=rf"opbench\.operators\.{name} moved: import .*from opbench\.operators\."
    ):
        place = importlib.import_module(f"opbench.operators.{name}")
    assert {key: getattr(place, key) for key in MOVED[name]} == MOVED[name]


def test_models_saved_whole_find_the_parts_of_carafe():
    assert carafe._ConvBN is type(carafe.YoloCARAFE(4).comp)
