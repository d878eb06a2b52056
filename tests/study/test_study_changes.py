"""Offset spread and kernel entropy, read from the slots of a network."""

import math

import pytest
import torch

from opbench.operators.carafe import CARAFE
from opbench.operators.dcnv3.module import ChannelsFirstDCNv3
from opbench.study.changes import slot_quantities
from opbench.study.studies import STUDIES
from opbench.study.training import build


def dcnv3(implementation):
    return torch.nn.Sequential(ChannelsFirstDCNv3(16, group=2, implementation=implementation))


@pytest.fixture
def core():
    from opbench.operators.dcnv3.cores import CORES

    return CORES["gather"].function


def test_an_offset_that_is_the_same_everywhere_spreads_without_varying(core):
    network = dcnv3(core)
    with torch.no_grad():
        network[0].offset.bias.fill_(1.5)
    found = slot_quantities(network, torch.randn(2, 16, 5, 6))
    assert found[1, "offset spread"] == pytest.approx(1.5)
    assert found[1, "offset variation"] == pytest.approx(0, abs=1e-6)


def test_offsets_count_in_pixels_whatever_the_layers_scale(core):
    network = dcnv3(core)
    network[0].offset_scale = 2.0
    with torch.no_grad():
        network[0].offset.bias.fill_(1.5)
    assert slot_quantities(network, torch.randn(1, 16, 5, 6))[1, "offset spread"] == pytest.approx(3.0)


def test_offsets_that_follow_the_content_vary(core):
    network = dcnv3(core)
    with torch.no_grad():
        network[0].offset.weight.normal_(generator=torch.Generator().manual_seed(0))
    found = slot_quantities(network, torch.randn(2, 16, 5, 6, generator=torch.Generator().manual_seed(1)))
    assert 0.3 < found[1, "offset variation"] <= found[1, "offset spread"]


def test_an_even_kernel_has_the_entropy_of_its_taps_and_a_single_tap_has_none():
    network = torch.nn.Sequential(CARAFE(8, implementation=lambda x, mask, **settings: torch.zeros(1)))
    slot = network[0]
    with torch.no_grad():
        slot.content_encoder.weight.zero_()
        x = torch.randn(1, 8, 4, 4)
        assert slot_quantities(network, x)[1, "kernel entropy"] == pytest.approx(math.log2(25), abs=1e-5)
        slot.content_encoder.bias.zero_()[:4] = 1000.0  # the four children's first tap
        assert slot_quantities(network, x)[1, "kernel entropy"] == pytest.approx(0, abs=1e-5)


def test_looking_changes_nothing_about_the_network():
    network = build(STUDIES["upsample"], "yolo-carafe", seed=0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    core = network.slot.implementation
    slot_quantities(network, torch.rand(2, 1, 8, 8))
    assert network.training
    assert network.slot.implementation is core
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_rigid_slot_has_no_such_quantities():
    assert slot_quantities(build(STUDIES["upsample"], "deconv", seed=0), torch.rand(1, 1, 8, 8)) == {}


@pytest.mark.parametrize(("contender", "quantity"), [("dcnv2", "offset spread"), ("dcnv3", "offset spread")])
def test_every_slot_of_a_fresh_deformable_network_has_zero_offsets(contender, quantity):
    found = slot_quantities(build(STUDIES["conv3x3"], contender, seed=0), torch.randn(1, 1, 48, 48))
    assert {slot for slot, _ in found} == {1, 2, 3}
    assert all(found[slot, quantity] == 0 for slot in (1, 2, 3))
