"""Haar wavelet downsampling: the transform, published keys, refusals, life in a network, and planted bugs."""

import functools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import hwd_mutants
import pytest
import torch
from hwd_mutants import MUTANTS, RIGHT
from pasted_layers import case_of, is_exported, is_right_and_counted, keys, lives

from opbench import registry
from opbench.build import build
from opbench.models import swap
from opbench.operators.hwd import CORES, HWD, haar
from opbench.verify import gate

OPERATOR = registry.operator("downsample2x", "hwd")
DIMS = {"N": 2, "C": 4, "O": 20, "H": 6, "W": 4, "G": 1}
HALF = torch.tensor(0.5, dtype=torch.float64)


def test_the_bands_are_sum_and_differences_of_a_block():
    x = torch.tensor([[1.0, 2.0], [4.0, 8.0]], dtype=torch.float64).view(1, 1, 2, 2)
    assert haar(x, HALF).flatten().tolist() == [7.5, -4.5, -2.5, 1.5]


def test_bands_stand_apart_each_with_all_channels():
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    apart = torch.stack([haar(x[:, c : c + 1], HALF) for c in range(3)], 2).flatten(1, 2)
    assert torch.equal(haar(x, HALF), apart)


def test_the_transform_keeps_lengths_and_an_odd_side_ends_in_zeros():
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    out = haar(x, HALF)
    assert out.shape == (2, 12, 3, 4)
    torch.testing.assert_close(out.square().sum(), x.square().sum())
    assert torch.equal(haar(torch.nn.functional.pad(x, (0, 1, 0, 1)), HALF), out)


def test_it_is_pytorch_wavelets_own():
    theirs = pytest.importorskip("pytorch_wavelets").DWTForward(J=1, mode="zero", wave="haar")
    for size in ((6, 8), (5, 7)):
        x = torch.randn(2, 3, *size)
        low, high = theirs(x)
        torch.testing.assert_close(haar(x, torch.tensor(0.5)), torch.cat((low, *high[0].unbind(2)), 1))


@pytest.mark.parametrize("settings", [{}, {"k": 3, "block": True}])
def test_it_is_right_and_counted_in_every_way_and_mode(settings):
    is_right_and_counted(OPERATOR, {**DIMS, "O": 5}, **settings)


def norm(name, channels):
    rest = {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}
    return {**rest, f"{name}.num_batches_tracked": ()}


# `Down_wt(3, 5)` of apple1986/HWD's HWD.py; `wt` is pytorch_wavelets' DWTForward.
PUBLISHED = {
    "wt.h0_col": (1, 1, 2, 1),
    "wt.h1_col": (1, 1, 2, 1),
    "wt.h0_row": (1, 1, 1, 2),
    "wt.h1_row": (1, 1, 1, 2),
    "conv_bn_relu.0.weight": (5, 12, 1, 1),
    "conv_bn_relu.0.bias": (5,),
    **norm("conv_bn_relu.1", 5),
}
FILTERS = {key: shape for key, shape in PUBLISHED.items() if key.startswith("wt.")}


def test_published_weights_load():
    assert keys(HWD(3, 5)) == PUBLISHED
    assert keys(HWD(3, 5, block=False)) == {**FILTERS, "conv.weight": (5, 12, 1, 1)}


@pytest.mark.parametrize("k", [1, 3])
def test_a_folded_window_is_the_same_convolution(k):
    x, weight = torch.randn(2, 3, 6, 10, dtype=torch.float64), torch.randn(5, 12, k, k, dtype=torch.float64)
    expected = CORES["bands"].function(x, weight, HALF)
    torch.testing.assert_close(CORES["folded"].function(x, weight, HALF), expected)


@pytest.mark.parametrize("name", CORES)
def test_a_network_may_do_to_it_what_networks_do(name):
    lives(HWD(6, 4, implementation=name))


@pytest.mark.parametrize("block", [True, False])
def test_it_is_exported(block):
    is_exported(HWD(6, 4, block=block), (2, 6, 8, 6), batches=False)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: HWD(4, 8, k=2), "expected k to be odd, because the window is centred on a pixel, got 2: use 1 or 3"),
        (lambda: HWD(0, 8), "expected in_ch to be an integer of at least 1, got 0"),
        (lambda: HWD(4, 8)(torch.zeros(1, 3, 4, 4)), r"expected x of shape \(N, 4, H, W\), got \(1, 3, 4, 4\)"),
    ],
)
def test_what_can_not_be_is_refused_in_a_sentence(call, said):
    with pytest.raises(ValueError, match=f"HWD: {said}"):
        call()


def test_an_even_kernel_is_named_and_an_odd_size_is_none_to_refuse():
    dims = OPERATOR.given(DIMS)
    assert OPERATOR.requires({**dims, "k": 2}) == "k=2: expected an odd kernel size such as 1 or 3"
    assert OPERATOR.requires({**dims, "H": 7}) is None


@pytest.mark.parametrize("what", [HWD, "hwd"])
def test_it_takes_the_place_of_what_halves_an_image(what):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3, 2, 1), torch.nn.SiLU(), torch.nn.Conv2d(16, 24, 3, 2, 1))
    swap(model, "downsample2x", what, where="2")
    assert model(torch.zeros(1, 3, 32, 64)).shape == (1, 24, 8, 16)


@functools.cache
def held():
    return gate.reference(build(case()))


def case():
    return case_of(OPERATOR, "bands", DIMS, "float32", "training", block=True)


def verdict_of(kind, monkeypatch):
    def made(dims, implementation):
        return kind(dims["C"], dims["O"], k=dims["k"], block=dims["block"])

    with monkeypatch.context() as patched:
        patched.setattr(registry, "operator", lambda task, name: replace(OPERATOR, module=made))
        return held().judge(gate.call(build(case())))


def test_the_unchanged_recipe_passes(monkeypatch):
    verdict = verdict_of(RIGHT, monkeypatch)
    assert verdict.correct, verdict.reason


@pytest.mark.parametrize("name", MUTANTS)
def test_every_planted_bug_is_convicted(name, monkeypatch, record_property):
    verdict = verdict_of(MUTANTS[name], monkeypatch)
    record_property("mutant", ("HWD", None if verdict.correct else verdict.reason))
    assert not verdict.correct, f"{name} ({MUTANTS[name].__doc__}) passes the gate"


@pytest.mark.nightly
@pytest.mark.parametrize("name", MUTANTS)
def test_check_convicts_every_planted_bug(name):
    target = f"{Path(hwd_mutants.__file__)}:{name}"
    more = ["--fix", "out_ch=20"] if name == "past_16" else []
    command = [sys.executable, "-m", "opbench", "check", target, "--operator", "hwd", "--strict", *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
