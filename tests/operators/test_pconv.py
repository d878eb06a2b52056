"""Partial convolution: its formula, state dict, refusals, life in a network, and planted bugs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from pasted_layers import case_of, fault_on, is_exported, is_right_and_counted, keys, lives
from pconv_mutants import MUTANTS

from opbench import registry
from opbench.build import build
from opbench.models import swap
from opbench.operators.pconv import CORES, Partial_conv3, PConv, pconv_definition

OPERATOR = registry.operator("conv3x3", "pconv")
DIMS = {"N": 2, "C": 10, "H": 5, "W": 4, "G": 1}


def test_the_first_quarter_is_convolved_and_the_others_pass():
    module = Partial_conv3(9, 4, "split_cat").double()
    x = torch.randn(2, 9, 4, 5, dtype=torch.float64)
    out = pconv_definition(x, module.partial_conv3.weight)
    assert torch.equal(out[:, 2:], x[:, 2:])
    torch.testing.assert_close(out[:, :2], F.conv2d(x[:, :2], module.partial_conv3.weight, padding=1))


@pytest.mark.parametrize("settings", [{}, {"n_div": 2}], ids=str)
def test_it_is_right_and_counted_in_every_way_and_mode(settings):
    is_right_and_counted(OPERATOR, DIMS, **settings)


def test_published_weights_load():
    """`Partial_conv3` of models/fasternet.py in JierunChen/FasterNet, dim=40 and n_div=4."""
    assert keys(Partial_conv3(40, 4, "slicing")) == {"partial_conv3.weight": (10, 10, 3, 3)}
    assert PConv is Partial_conv3


@pytest.mark.parametrize("name", CORES)
def test_a_network_may_do_to_it_what_networks_do(name):
    module = Partial_conv3(6, 4, name)
    lives(module)
    x = torch.randn(1, 6, 3, 3)
    kept = x.clone()
    module(x).mul_(0)
    assert torch.equal(x, kept), "the output is in memory of its own"


@pytest.mark.parametrize("name", CORES)
def test_it_is_exported_for_any_batch_and_size(name):
    is_exported(Partial_conv3(6, 4, name))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((8, 4, "cat_split"), "forward"),
        ((3, 4), "expected at least n_div=4 channels, so that one of them is convolved, got dim=3"),
        ((8, 0), "expected n_div to be an integer of at least 1, got 0"),
        ((8.0, 4), "expected dim to be an integer of at least 1, got 8.0"),
    ],
)
def test_what_can_not_be_built_is_refused_in_a_sentence(arguments, said):
    with pytest.raises(ValueError, match=f"Partial_conv3: .*{said}"):
        Partial_conv3(*arguments)


def test_what_can_not_be_called_or_run_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match=r"Partial_conv3: expected x of shape \(N, 4, H, W\), got \(1, 3, 5, 5\)"):
        Partial_conv3(4)(torch.zeros(1, 3, 5, 5))
    assert OPERATOR.requires({**DIMS, "C": 3, "n_div": 4}).startswith("C=3 channels: expected at least n_div=4")


def test_it_takes_the_place_of_a_convolution():
    network = torch.nn.Sequential(torch.nn.Conv2d(8, 8, 3, padding=1))
    swap(network, torch.nn.Conv2d, "pconv", example=torch.zeros(1, 8, 8, 8))
    assert network[0].dim_conv3 == 2
    assert OPERATOR.layer(network[0], (1, 8, 8, 8), (1, 8, 8, 8)) == (36, 36 * 64)


def convicted(name, monkeypatch):
    """By the gate, in training or past 64 channels of a convolution."""
    mutant = MUTANTS[name]
    wide = {**DIMS, "C": 280, "H": 2, "W": 3}

    def made(dims, implementation):
        return mutant(dims["C"], dims["n_div"])

    return fault_on(monkeypatch, OPERATOR, made, ((DIMS, "training"), (DIMS, "inference"), (wide, "inference")))


@pytest.mark.parametrize("name", MUTANTS)
def test_every_planted_bug_is_convicted(name, monkeypatch, record_property):
    reason = convicted(name, monkeypatch)
    record_property("mutant", ("partial convolution", reason))
    assert reason, f"{name} ({MUTANTS[name].__doc__}) passes the gate"


def test_its_traffic_is_that_of_all_channels_though_a_quarter_is_convolved():
    from opbench.measure.traffic import count_traffic

    built = build(case_of(OPERATOR, "split_cat", {**DIMS, "C": 16}, mode="inference"))
    image = 4 * 2 * 16 * 5 * 4
    assert count_traffic(built) >= 2 * image


@pytest.mark.nightly
@pytest.mark.parametrize("name", MUTANTS)
def test_every_planted_bug_is_convicted_from_the_command_line(name):
    target = f"{Path(__file__).with_name('pconv_mutants.py')}:{name}"
    command = [sys.executable, "-m", "opbench", "check", target, "--operator", "pconv", "--strict"]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=600, env={**os.environ, "COLUMNS": "200"})
    assert checked.returncode == 1, checked.stdout + checked.stderr
