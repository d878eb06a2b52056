"""GSConv: its two shuffles, state dict, refusals, life in a network, and planted bugs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from by_day import one_in
from gsconv_mutants import MUTANTS, Steps
from pasted_layers import fault_on, is_exported, is_right_and_counted, keys, lives, verdict_on

from opbench import registry
from opbench.models import swap
from opbench.operators.gsconv import CORES, GSConv
from opbench.operators.gsconv.show import order

OPERATOR = registry.operator("conv3x3", "gsconv")
DIMS = {"N": 2, "C": 6, "H": 5, "W": 4, "G": 1}


@pytest.mark.parametrize("name", CORES)
@pytest.mark.parametrize("half", [1, 3, 4])
def test_the_shuffles_are_each_other_s_inverse_and_as_published(name, half):
    numbers = torch.arange(2 * half).view(1, -1, 1, 1)
    core = CORES[name].function
    # models_inPaper.py: (2, c/2) transposed. gsconv-yolov5: pairs of neighbours, of each the first, then the second.
    by_halves = [t * half + i for i in range(half) for t in range(2)]
    by_parity = [2 * i + t for t in range(2) for i in range(half)]
    assert core(*numbers.chunk(2, 1), shuffle="halves").flatten().tolist() == by_halves
    assert core(*numbers.chunk(2, 1), shuffle="parity").flatten().tolist() == by_parity
    assert [by_halves[place] for place in by_parity] == list(range(2 * half))


def test_what_is_drawn_is_what_is_computed():
    assert order("halves")[:4] == [0, 6, 1, 7]
    assert order("parity")[:7] == [0, 2, 4, 6, 8, 10, 1]


@pytest.mark.parametrize("shuffle", ["halves", "parity"])
def test_it_is_right_and_counted_in_every_way_and_mode(shuffle):
    is_right_and_counted(OPERATOR, DIMS, shuffle=shuffle)


# `GSConv` of gsconv-yolov8_9_10_11/ultralytics/nn/modules/conv.py and, of the same keys, of models_inPaper.py in
# AlanLi1997/slim-neck-by-gsconv, at c1=6, c2=8, k=3.
PUBLISHED = {
    "cv1.conv.weight": (4, 6, 3, 3),
    "cv1.bn.weight": (4,),
    "cv1.bn.bias": (4,),
    "cv1.bn.running_mean": (4,),
    "cv1.bn.running_var": (4,),
    "cv1.bn.num_batches_tracked": (),
    "cv2.conv.weight": (4, 1, 5, 5),
    "cv2.bn.weight": (4,),
    "cv2.bn.bias": (4,),
    "cv2.bn.running_mean": (4,),
    "cv2.bn.running_var": (4,),
    "cv2.bn.num_batches_tracked": (),
}


def test_published_weights_load():
    assert keys(GSConv(6, 8, 3)) == PUBLISHED
    assert keys(GSConv(6, 8, 3, act=torch.nn.Mish())) == PUBLISHED


@pytest.mark.parametrize("name", CORES)
@pytest.mark.parametrize(("arguments", "shuffle"), [((6, 8, 3, 2), "halves"), ((6, 4, 1, 1, None, 2), "parity")])
def test_a_network_may_do_to_it_what_networks_do(name, arguments, shuffle):
    lives(GSConv(*arguments, shuffle=shuffle, implementation=name))


@pytest.mark.parametrize("name", CORES)
@pytest.mark.parametrize("shuffle", ["halves", "parity"])
def test_it_is_exported_for_any_batch_and_size(name, shuffle):
    is_exported(GSConv(6, 6, 3, shuffle=shuffle, implementation=name))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((4, 5), "expected c2 to be a multiple of 2, got 5: use 4 or 6"),
        ((4, 6, 3, 1, None, 2), "expected c2 to be a multiple of 4, got 6: use 4 or 8"),
        ((5, 8, 3, 1, None, 2), "expected c1 to be a multiple of 2, got 5: use 4 or 6"),
        ((4, 8, 2), "expected k to be odd"),
        ((4, 8, 3, 1, None, 1, 2), "expected d=1, because its second convolution is padded for d=1 only, got 2"),
        ((0, 8), "expected c1 to be an integer of at least 1, got 0"),
    ],
)
def test_what_can_not_be_built_is_refused_in_a_sentence(arguments, said):
    with pytest.raises(ValueError, match=f"GSConv: {said}"):
        GSConv(*arguments)


def test_what_can_not_be_called_or_run_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match=r"GSConv: expected x of shape \(N, 4, H, W\), got \(1, 3, 5, 5\)"):
        GSConv(4, 4)(torch.zeros(1, 3, 5, 5))
    with pytest.raises(ValueError, match="did you mean 'halves'"):
        GSConv(4, 4, shuffle="halfs")
    assert OPERATOR.requires({**DIMS, "C": 5}).startswith("C=5 channels: expected an even number")


def test_it_takes_the_place_of_a_convolution_of_other_channels():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5, padding=2))
    swap(network, torch.nn.Conv2d, GSConv, example=torch.zeros(1, 3, 8, 8))
    params, macs = OPERATOR.layer(network[0], (1, 3, 8, 8), (1, 8, 8, 8))
    assert params == sum(value.numel() for value in network[0].parameters())
    assert macs == (25 * 3 * 4 + 25 * 4) * 64


def convicted(name, monkeypatch):
    """By the gate, in training, evaluation, or past 64 channels."""
    wide = {**DIMS, "C": 140, "H": 3, "W": 3}

    def made(dims, implementation):
        return MUTANTS[name](dims["C"], dims["C"], 3, shuffle=dims["shuffle"])

    return fault_on(monkeypatch, OPERATOR, made, ((DIMS, "training"), (DIMS, "inference"), (wide, "inference")))


@pytest.mark.parametrize("name", one_in(6, MUTANTS))
def test_every_planted_bug_is_convicted(name, monkeypatch, record_property):
    reason = convicted(name, monkeypatch)
    record_property("mutant", ("GSConv", reason))
    assert reason, f"{name} ({MUTANTS[name].__doc__}) passes the gate"


def test_the_unchanged_steps_pass(monkeypatch):
    verdict = verdict_on(monkeypatch, OPERATOR, lambda dims, _: Steps(dims["C"], dims["C"], 3), DIMS)
    assert verdict.correct, verdict.reason


@pytest.mark.nightly
@pytest.mark.parametrize("name", MUTANTS)
def test_every_planted_bug_is_convicted_from_the_command_line(name):
    target = f"{Path(__file__).with_name('gsconv_mutants.py')}:{name}"
    command = [sys.executable, "-m", "opbench", "check", target, "--operator", "gsconv", "--strict"]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=600, env={**os.environ, "COLUMNS": "200"})
    assert checked.returncode == 1, checked.stdout + checked.stderr
