"""VoVGSCSP: published keys, refusals, life in a network, and planted bugs."""

import functools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pasted_layers import case_of, is_exported, is_right_and_counted, keys, lives
from torch import nn
from vovgscsp_mutants import MUTANTS, Steps

from opbench import registry
from opbench.build import build
from opbench.models import swap
from opbench.operators.gsconv import GSBottleneck, VoVGSCSP
from opbench.verify import gate

OPERATOR = registry.operator("conv3x3", "vov-gsconv")
DIMS = {"N": 2, "C": 8, "H": 3, "W": 4, "G": 1}


@pytest.mark.parametrize(("channels", "settings"), [(12, {}), (4, {"shuffle": "halves", "n": 2})])
def test_it_is_right_and_counted_in_every_way_and_mode(channels, settings):
    is_right_and_counted(OPERATOR, {**DIMS, "C": channels}, **settings)


def block(name, shape):
    channels = shape[0]
    norm = {f"{name}.bn.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}
    return {f"{name}.conv.weight": shape, **norm, f"{name}.bn.num_batches_tracked": ()}


# `VoVGSCSP` of gsconv-yolov5/models/common.py in AlanLi1997/slim-neck-by-gsconv, at c1=6, c2=8, n=1.
PUBLISHED = {
    **block("cv1", (4, 6, 1, 1)),
    **block("cv2", (4, 6, 1, 1)),
    **block("gsb.0.conv_lighting.0.cv1", (2, 4, 1, 1)),
    **block("gsb.0.conv_lighting.0.cv2", (2, 1, 5, 5)),
    **block("gsb.0.conv_lighting.1.cv1", (2, 4, 3, 3)),
    **block("gsb.0.conv_lighting.1.cv2", (2, 1, 5, 5)),
    **block("gsb.0.shortcut", (4, 4, 1, 1)),
    **block("res", (4, 4, 3, 3)),
    **block("cv3", (8, 8, 1, 1)),
}


def test_published_weights_load_but_for_what_is_never_called():
    assert keys(VoVGSCSP(6, 8)) == {name: shape for name, shape in PUBLISHED.items() if not name.startswith("res.")}
    weights = {name: torch.randn(shape).abs() for name, shape in PUBLISHED.items()}
    VoVGSCSP(6, 8).load_state_dict(weights)
    nn.ModuleList([VoVGSCSP(6, 8)]).load_state_dict({f"0.{name}": value for name, value in weights.items()})


def test_what_the_published_signature_ignores_changes_nothing():
    torch.manual_seed(0)
    one, other = VoVGSCSP(4, 8, 1, True).eval(), VoVGSCSP(4, 8, 1, False).eval()
    other.load_state_dict(one.state_dict())
    x = torch.randn(1, 4, 5, 6)
    assert torch.equal(one(x), other(x))
    assert len(VoVGSCSP(4, 8, 3).gsb) == 3
    assert GSBottleneck(4, 8)(x).shape == (1, 8, 5, 6)


@pytest.mark.parametrize("shuffle", ["parity", "halves"])
def test_a_network_may_do_to_it_what_networks_do(shuffle):
    lives(VoVGSCSP(6, 8, 2, shuffle=shuffle))


def test_it_is_exported_for_any_batch_and_size():
    is_exported(VoVGSCSP(6, 8))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((4, 6), "an even number, half of it by each convolution of a GSConv, got 3 of c2=6, e=0.5"),
        ((4, 8, 1, True, 1, 0.1), "got 0 of c2=8, e=0.1"),
        ((4, 8, 1, True, 2), "expected g=1, because nothing in it is grouped by it, got 2"),
        ((4, 8, 0), "expected n to be an integer of at least 1, got 0"),
        ((0, 8), "expected c1 to be an integer of at least 1, got 0"),
    ],
)
def test_what_can_not_be_built_is_refused_in_a_sentence(arguments, said):
    with pytest.raises(ValueError, match=said):
        VoVGSCSP(*arguments)


def test_what_can_not_be_called_or_run_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match=r"VoVGSCSP: expected x of shape \(N, 4, H, W\), got \(1, 3, 5, 5\)"):
        VoVGSCSP(4, 4)(torch.zeros(1, 3, 5, 5))
    assert "got 3 of c2=6" in OPERATOR.requires({**DIMS, "C": 6, "n": 1})
    assert OPERATOR.requires({**DIMS, "n": 0}) == "n=0: expected at least one bottleneck"


def test_it_takes_the_place_of_a_convolution_of_other_channels():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1))
    swap(network, nn.Conv2d, VoVGSCSP, example=torch.zeros(1, 3, 8, 8))
    params, macs = OPERATOR.layer(network[0], (1, 3, 8, 8), (1, 8, 8, 8))
    assert params == sum(value.numel() for value in network[0].parameters())
    assert macs == (2 * 3 * 4 + (4 + 25) * 2 + (36 + 25) * 2 + 16 + 8 * 8) * 64


@functools.cache
def held(channels, mode):
    """What every module is held to, derived once."""
    return gate.reference(build(case_of(OPERATOR, "placed", {**DIMS, "C": channels}, "float32", mode, n=2)))


def verdict_of(kind, channels, mode, monkeypatch):
    def made(dims, implementation):
        return kind(dims["C"], dims["C"], dims["n"], shuffle=dims["shuffle"])

    with monkeypatch.context() as patched:
        patched.setattr(registry, "operator", lambda task, name: replace(OPERATOR, module=made))
        built = build(case_of(OPERATOR, "placed", {**DIMS, "C": channels}, "float32", mode, n=2))
        return held(channels, mode).judge(gate.call(built))


def convicted(name, monkeypatch):
    """By the gate, in training, or past 32 channels inside."""
    for channels, mode in ((12, "training"), (72, "inference")):
        verdict = verdict_of(MUTANTS[name], channels, mode, monkeypatch)
        if not verdict.correct:
            return verdict.reason
    return None


@pytest.mark.parametrize("name", MUTANTS)
def test_every_planted_bug_is_convicted(name, monkeypatch, record_property):
    reason = convicted(name, monkeypatch)
    record_property("mutant", ("VoVGSCSP", reason))
    assert reason, f"{name} ({MUTANTS[name].__doc__}) passes the gate"


def test_the_unchanged_steps_pass(monkeypatch):
    for channels, mode in ((12, "training"), (72, "inference")):
        verdict = verdict_of(Steps, channels, mode, monkeypatch)
        assert verdict.correct, verdict.reason


@pytest.mark.nightly
@pytest.mark.parametrize("name", MUTANTS)
def test_every_planted_bug_is_convicted_from_the_command_line(name):
    target = f"{Path(__file__).with_name('vovgscsp_mutants.py')}:{name}"
    # One bottleneck says nothing of the others, and few channels nothing of many.
    fixed = {"only_the_first": "n=2", "the_first_again": "n=2", "wrong_past_32_inside": "c2=72"}
    more = ["--fix", fixed[name]] if name in fixed else []
    command = [sys.executable, "-m", "opbench", "check", target, "--operator", "vov-gsconv", "--strict", *more]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=600, env={**os.environ, "COLUMNS": "200"})
    assert checked.returncode == 1, checked.stdout + checked.stderr
