"""RFAConv: its definition by loops, its state dict, what it refuses, what a network does to it, and planted bugs."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from by_day import one_in
from pasted_layers import is_exported, is_right_and_counted, keys, lives, verdict_on
from rfaconv_mutants import MUTANTS, Steps

from opbench import registry
from opbench.models import swap
from opbench.operators.rfaconv import CORES, RFAConv, rfaconv_definition

OPERATOR = registry.operator("conv3x3", "rfaconv")
DIMS = {"N": 2, "C": 6, "H": 5, "W": 4, "G": 1}


def drawn(module):
    generator = torch.Generator().manual_seed(0)
    for value in module.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator, dtype=value.dtype) + 0.1)
    return module


def test_the_definition_equals_its_formula_pixel_by_pixel():
    module = drawn(RFAConv(2, 3, 3, 2).double())
    x = torch.randn(2, 2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    tensors = dict(module.state_dict())
    out = rfaconv_definition(x, tensors, False, stride=2)
    assert out.shape == (2, 3, 3, 2)
    n, o, row, column = 1, 2, 1, 1

    def window(channel):
        return [
            x[n, channel, 2 * row + i - 1, 2 * column + j - 1].item()
            if 0 <= 2 * row + i - 1 < 5 and 0 <= 2 * column + j - 1 < 4
            else 0.0
            for i in range(3) for j in range(3)
        ]  # fmt: skip

    def normed(value, name, at):
        weight, bias, mean, variance = (
            tensors[f"{name}.{part}"][at].item() for part in ("weight", "bias", "running_mean", "running_var")
        )
        return max(0.0, (value - mean) / math.sqrt(variance + 1e-5) * weight + bias)

    total = tensors["conv.0.bias"][o].item()
    for c in range(2):
        pixels = window(c)
        logits = [tensors["get_weight.1.weight"][9 * c + t].item() * sum(pixels) / 9 for t in range(9)]
        for t in range(9):
            kernel = tensors["generate_feature.0.weight"][9 * c + t].flatten().tolist()
            feature = normed(sum(a * b for a, b in zip(kernel, pixels, strict=True)), "generate_feature.1", 9 * c + t)
            attention = math.exp(logits[t]) / sum(map(math.exp, logits))
            total += tensors["conv.0.weight"][o, c].flatten()[t].item() * feature * attention
    assert out[n, o, row, column].item() == pytest.approx(normed(total, "conv.1", o), rel=1e-12)


def test_it_is_right_and_counted_in_every_way_and_mode():
    is_right_and_counted(OPERATOR, DIMS)
    is_right_and_counted(registry.operator("downsample2x", "rfaconv"), {**DIMS, "C": 4, "O": 5})


# `RFAConv2` of model.py in Liuchen1997/RFAConv at in_channel=4, out_channel=6, kernel_size=3.
PUBLISHED = {
    "get_weight.1.weight": (36, 1, 1, 1),
    "generate_feature.0.weight": (36, 1, 3, 3),
    "generate_feature.1.weight": (36,),
    "generate_feature.1.bias": (36,),
    "generate_feature.1.running_mean": (36,),
    "generate_feature.1.running_var": (36,),
    "generate_feature.1.num_batches_tracked": (),
    "conv.0.weight": (6, 4, 3, 3),
    "conv.0.bias": (6,),
    "conv.1.weight": (6,),
    "conv.1.bias": (6,),
    "conv.1.running_mean": (6,),
    "conv.1.running_var": (6,),
    "conv.1.num_batches_tracked": (),
}


def test_published_weights_load():
    assert keys(RFAConv(4, 6, 3)) == PUBLISHED
    # classification/RFAresnet.py ends with the convolution.
    without = {name: shape for name, shape in PUBLISHED.items() if not name.startswith("conv.1")}
    assert keys(RFAConv(4, 6, 3, norm=False)) == without


@pytest.mark.parametrize("name", CORES)
@pytest.mark.parametrize(("stride", "norm"), [(1, True), (2, False)])
def test_a_network_may_do_to_it_what_networks_do(name, stride, norm):
    lives(RFAConv(6, 4, 3, stride, norm=norm, implementation=name))


def test_both_cores_compute_one_function():
    fields = torch.randn(2, 2, 36, 5, 3, dtype=torch.float64)
    weight, bias = torch.randn(5, 4, 3, 3, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    one, other = (core.function(*fields, weight, bias) for core in CORES.values())
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", CORES)
def test_it_is_exported_for_any_batch_and_size(name):
    is_exported(RFAConv(6, 4, 3, 2, implementation=name))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (6, 1), (4, 9)])
def test_its_size_is_a_padded_convolution_s(size):
    for stride in (1, 2, 3):
        expected = torch.nn.Conv2d(3, 2, 3, stride, 1)(torch.zeros(2, 3, *size)).shape
        assert RFAConv(3, 2, 3, stride).eval()(torch.zeros(2, 3, *size)).shape == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((4, 4, 2), "expected kernel_size to be odd, because the window is centred on a pixel, got 2: use 1 or 3"),
        ((0, 4), "expected in_channel to be an integer of at least 1, got 0"),
        ((4, 4, 3, 0), "expected stride to be an integer of at least 1, got 0"),
        ((4, 4, "3"), "expected kernel_size to be an integer of at least 1, got '3'"),
    ],
)
def test_what_can_not_be_built_is_refused_in_a_sentence(arguments, said):
    with pytest.raises(ValueError, match=f"RFAConv: {said}"):
        RFAConv(*arguments)


def test_what_can_not_be_called_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match=r"RFAConv: expected x of shape \(N, 4, H, W\), got \(1, 3, 5, 5\)"):
        RFAConv(4, 4)(torch.zeros(1, 3, 5, 5))
    with pytest.raises(ValueError, match="did you mean 'pointwise'"):
        RFAConv(4, 4, implementation="pointwize")(torch.zeros(1, 4, 5, 5))


def test_it_takes_the_place_of_a_convolution_of_other_channels():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5, padding=2), torch.nn.Conv2d(8, 8, 3, padding=1))
    swap(network, torch.nn.Conv2d, RFAConv, example=torch.zeros(1, 3, 8, 8))
    assert [(one.in_channel, one.out_channel, one.kernel_size) for one in network] == [(3, 8, 5), (8, 8, 3)]
    halving = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, 2, 1))
    swap(halving, torch.nn.Conv2d, "rfaconv", example=torch.zeros(1, 3, 9, 8))
    assert halving(torch.zeros(1, 3, 9, 8)).shape == (1, 8, 5, 4)


def test_its_layers_cost_what_they_hold_and_what_is_counted():
    from torch.utils.flop_counter import FlopCounterMode

    for arguments, norm in (((4, 6, 5, 2), True), ((3, 2, 3, 1), False)):
        module, x = RFAConv(*arguments, norm=norm).eval(), torch.zeros(2, arguments[0], 7, 6)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            out = module(x)
        params, macs = OPERATOR.layer(module, x.shape, out.shape)
        assert params == sum(value.numel() for value in module.parameters())
        assert macs == counter.get_total_flops() // 2


# --- Planted bugs -----------------------------------------------------------------------------------------------


def convicted(name, monkeypatch):
    """By the gate: in training, in evaluation, or past 64 channels."""
    mutant = MUTANTS[name]
    wide = {**DIMS, "C": 72, "H": 2, "W": 3}

    def made(dims, implementation):
        return mutant(dims["C"], dims["C"])

    tried = ((DIMS, "float32", "training"), (DIMS, "float32", "inference"), (wide, "float32", "inference"))
    return next(
        (said.reason for one in tried if not (said := verdict_on(monkeypatch, OPERATOR, made, *one)).correct), None
    )


@pytest.mark.parametrize("name", one_in(3, MUTANTS))
def test_every_planted_bug_is_convicted(name, monkeypatch, record_property):
    reason = convicted(name, monkeypatch)
    record_property("mutant", ("RFAConv", reason))
    assert reason, f"{name} ({MUTANTS[name].__doc__}) passes the gate"


@pytest.mark.parametrize("mode", ["training", "inference"])
def test_the_unchanged_steps_pass(mode, monkeypatch):
    verdict = verdict_on(monkeypatch, OPERATOR, lambda dims, _: Steps(dims["C"], dims["C"]), DIMS, "float32", mode)
    assert verdict.correct, verdict.reason


@pytest.mark.nightly
@pytest.mark.parametrize("name", MUTANTS)
def test_every_planted_bug_is_convicted_from_the_command_line(name):
    target = f"{Path(__file__).with_name('rfaconv_mutants.py')}:{name}"
    command = [sys.executable, "-m", "opbench", "check", target, "--operator", "rfaconv", "--strict"]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=600, env={**os.environ, "COLUMNS": "200"})
    assert checked.returncode == 1, checked.stdout + checked.stderr
