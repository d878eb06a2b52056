"""The suites of networks against the package's own models: every shape of theirs, and no other."""

import pytest
import torch
from torch import nn

from opbench import registry, suites
from opbench.models import matching
from opbench.models.roles import roles
from opbench.models.sites import trace
from opbench.models.target import load_model
from opbench.tasks import groups

NETWORKS = {"yolo11": "yolo11n.yaml", "yolo26": "yolo26n.yaml", "rtdetr": "rtdetr-l.yaml"}
SLOTS = {"upsample": "upsample2x", "conv3x3": "conv3x3", "downsample2x": "downsample2x"}
# Pixels each way of the shape pass, which knows shapes at 640 by this factor.
PASS, FACTOR = 64, 10


@pytest.fixture(scope="module", params=NETWORKS)
def pair(request, ultralytics_settings):
    """A suite and its network."""
    return suites.load(request.param), load_model(NETWORKS[request.param])


def places(model, slot):
    known = roles(model)
    names = [one for one in matching(model, slot) if "head" not in known[one[0]]]
    sites, _ = trace(model, names, ((torch.zeros(1, 3, PASS, PASS),), {}))
    return sites


@pytest.mark.parametrize("slot", SLOTS)
def test_a_suite_has_every_shape_of_its_network_at_batch_1_and_16(pair, slot):
    suite, model = pair
    found = set()
    for site in places(model, slot):
        (C, H, W), O = site.calls[0].shape_in[1:], site.calls[0].shape_out[1]  # noqa: E741 - the task's own letter
        dims = {"C": C, "H": FACTOR * H, "W": FACTOR * W}
        dims |= {"G": groups(O)} if slot != "upsample" else {}
        dims |= {"O": O} if slot == "downsample2x" else {}
        found |= {tuple(sorted({**dims, "N": N}.items())) for N in (1, 16)}
    has = [tuple(sorted(one.dims.items())) for one in suite.workloads if one.task == SLOTS[slot]]
    assert len(has) == len(set(has))
    assert set(has) == found


def test_the_closed_forms_have_the_parameters_of_the_convolutions_there(pair):
    _, model = pair
    for slot, baseline in (("conv3x3", "conv3x3"), ("downsample2x", "conv3x3-stride2")):
        operator = registry.operator(SLOTS[slot], baseline)
        for site in places(model, slot):
            (C, H, W), O = site.calls[0].shape_in[1:], site.calls[0].shape_out[1]  # noqa: E741
            dims = {"N": 1, "C": C, "H": H, "W": W, "G": groups(O), **({"O": O} if slot == "downsample2x" else {})}
            assert isinstance(site.module, nn.Conv2d)
            assert operator.cost(operator.given(dims)).params == sum(
                value.numel() for value in site.module.parameters()
            )


# As the package's own files say (the line of `n` in yolo11.yaml and yolo26.yaml; of RT-DETR-l they say none: as built).
PUBLISHED = {"yolo11": 2_624_080, "yolo26": 2_572_280, "rtdetr": 32_970_476}


def test_the_network_has_the_parameters_that_the_package_says(pair):
    suite, model = pair
    assert sum(value.numel() for value in model.parameters()) == PUBLISHED[suite.name]


def test_everybody_competes_in_them(pair):
    suite, _ = pair
    left = set(suites.GROUPS["pasted"])
    for workload in suite.workloads:
        assert "*" in workload.contenders
        assert not left & {one.removeprefix("-") for one in workload.contenders}
        assert "pasted" not in {one.removeprefix("-") for one in workload.contenders}
