"""ODConv: its formula, state dict, one image in training, refusals, life in a network, and planted bugs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from odconv_mutants import MUTANTS, Steps
from pasted_layers import fault_on, is_exported, is_right_and_counted, keys, lives, verdict_on
from torch.utils.flop_counter import FlopCounterMode

from opbench import registry
from opbench.models import swap
from opbench.operators.odconv import CORES, ODConv2d, odconv_definition

OPERATOR = registry.operator("conv3x3", "odconv")
DIMS = {"N": 2, "C": 6, "H": 5, "W": 4, "G": 1}
ARGUMENTS = ((6, 4, 3, 2, 1), (6, 9, 3, 1, 2, 2, 3), (6, 6, 3, 1, 1, 1, 6), (6, 4, 1, 1, 0, 1, 1, 0.0625, 1))


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_each_image_is_convolved_with_the_kernel_it_asks_for(arguments):
    torch.manual_seed(0)
    module = ODConv2d(*arguments).double().eval()
    x = torch.randn(2, 6, 7, 5, dtype=torch.float64)
    stride, padding, dilation, groups = (*arguments[3:], *(1, 0, 1, 1)[len(arguments[3:]) :])[:4]
    k = arguments[2]
    expected = []
    with torch.no_grad():
        for image in x.split(1):
            channel, filters, spatial, kernel = (None if part is None else part[0] for part in module.attention(image))
            counts = [1.0] if kernel is None else kernel
            own = sum(count * one for count, one in zip(counts, module.weight, strict=True))
            own = own if spatial is None else own * spatial.view(k, k)
            out = F.conv2d(image * channel.view(-1, 1, 1), own, None, stride, padding, dilation, groups)
            expected.append(out if filters is None else out * filters.view(-1, 1, 1))
        window = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        got = odconv_definition(x, dict(module.state_dict()), False, **window)
        torch.testing.assert_close(got, torch.cat(expected))
        for name in CORES:
            module.implementation = name
            torch.testing.assert_close(module(x), got)


@pytest.mark.parametrize("images", [1, 3])
def test_it_is_right_and_counted_in_every_way_and_mode(images):
    is_right_and_counted(OPERATOR, {**DIMS, "N": images})


# `ODConv2d` of modules/odconv.py in OSVAI/ODConv at in_planes=6, out_planes=4, kernel_size=3.
PUBLISHED = {
    "weight": (4, 4, 6, 3, 3),
    "attention.fc.weight": (16, 6, 1, 1),
    "attention.bn.weight": (16,),
    "attention.bn.bias": (16,),
    "attention.bn.running_mean": (16,),
    "attention.bn.running_var": (16,),
    "attention.bn.num_batches_tracked": (),
    "attention.channel_fc.weight": (6, 16, 1, 1),
    "attention.channel_fc.bias": (6,),
    "attention.filter_fc.weight": (4, 16, 1, 1),
    "attention.filter_fc.bias": (4,),
    "attention.spatial_fc.weight": (9, 16, 1, 1),
    "attention.spatial_fc.bias": (9,),
    "attention.kernel_fc.weight": (4, 16, 1, 1),
    "attention.kernel_fc.bias": (4,),
}


def test_published_weights_load():
    assert keys(ODConv2d(6, 4, 3)) == PUBLISHED
    # A branch that counts 1 for everything isn't there.
    assert set(PUBLISHED) - set(keys(ODConv2d(6, 6, 3, groups=6))) == {
        "attention.filter_fc.weight", "attention.filter_fc.bias"
    }  # fmt: skip
    assert not [name for name in keys(ODConv2d(6, 4, 1, kernel_num=1)) if "spatial" in name or "kernel_fc" in name]


def test_one_image_in_training_is_normalised_by_the_running_statistics_and_changes_none():
    module = ODConv2d(6, 4, 3, padding=1)
    x = torch.randn(1, 6, 5, 4)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    trained = module.train()(x)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    torch.testing.assert_close(trained, module.eval()(x))
    module.train()(torch.randn(2, 6, 5, 4))
    assert not torch.equal(module.attention.bn.running_mean, before["attention.bn.running_mean"])


@pytest.mark.parametrize("name", CORES)
def test_a_network_may_do_to_it_what_networks_do(name):
    lives(ODConv2d(6, 4, 3, 2, 1, kernel_num=2, implementation=name))


def test_it_is_exported_for_any_batch_and_size_by_taps_and_as_published_for_one():
    is_exported(ODConv2d(6, 4, 3, 1, 1, implementation="by-taps"))
    is_exported(ODConv2d(6, 4, 3, 1, 1, implementation="grouped"), batches=False)


def test_a_temperature_divides_the_logits():
    module, x = ODConv2d(6, 4, 3, padding=1).eval(), torch.randn(2, 6, 5, 4)
    module.update_temperature(1e9)
    out = module(x)
    mean = F.conv2d(x / 2, module.weight.mean(0) / 2, padding=1) / 2
    torch.testing.assert_close(out, mean, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((5, 4, 3, 1, 1, 1, 2), "expected in_planes to be a multiple of 2, got 5: use 4 or 6"),
        ((4, 5, 3, 1, 1, 1, 2), "expected out_planes to be a multiple of 2, got 5: use 4 or 6"),
        ((4, 4, 0), "expected kernel_size to be an integer of at least 1, got 0"),
        ((4, 4, 3, 1, -1), "expected padding to be an integer of at least 0, got -1"),
        ((4, 4, 3, 1, 1, 1, 1, 0), "expected a reduction above 0, got 0"),
        ((4, 4, 3, 1, 1, 1, 1, 0.1, 0), "expected kernel_num to be an integer of at least 1, got 0"),
    ],
)
def test_what_can_not_be_built_is_refused_in_a_sentence(arguments, said):
    with pytest.raises(ValueError, match=f"ODConv2d: {said}"):
        ODConv2d(*arguments)


def test_what_can_not_be_called_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match=r"ODConv2d: expected x of shape \(N, 4, H, W\), got \(1, 3, 5, 5\)"):
        ODConv2d(4, 4, 3)(torch.zeros(1, 3, 5, 5))


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_its_layers_cost_what_they_hold_and_what_is_counted(arguments):
    module, x = ODConv2d(*arguments).eval(), torch.zeros(2, 6, 7, 5)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        out = module(x)
    params, macs = OPERATOR.layer(module, x.shape, out.shape)
    assert params == sum(value.numel() for value in module.parameters())
    assert macs == counter.get_total_flops() // 2


def test_it_takes_the_place_of_a_convolution():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5, padding=4, dilation=2), torch.nn.Conv2d(8, 4, 3, 2, 1))
    swap(network, torch.nn.Conv2d, ODConv2d, example=torch.zeros(1, 3, 9, 8))
    assert [(one.kernel_size, one.stride, one.padding, one.dilation) for one in network] == [(5, 1, 4, 2), (3, 2, 1, 1)]
    assert network(torch.zeros(1, 3, 9, 8)).shape == (1, 4, 5, 4)


def convicted(name, monkeypatch):
    """By the gate, in training of three images, in evaluation, or past 64 channels."""
    several, wide = {**DIMS, "N": 3}, {**DIMS, "C": 72, "H": 2, "W": 3}

    def made(dims, implementation):
        return MUTANTS[name](dims["C"], dims["C"], 3, padding=1)

    return fault_on(monkeypatch, OPERATOR, made, ((DIMS, "inference"), (several, "training"), (wide, "inference")))


@pytest.mark.parametrize("name", MUTANTS)
def test_every_planted_bug_is_convicted(name, monkeypatch, record_property):
    reason = convicted(name, monkeypatch)
    record_property("mutant", ("ODConv", reason))
    assert reason, f"{name} ({MUTANTS[name].__doc__}) passes the gate"


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_the_unchanged_steps_pass(mode, monkeypatch):
    made = lambda dims, _: Steps(dims["C"], dims["C"], 3, padding=1)  # noqa: E731
    verdict = verdict_on(monkeypatch, OPERATOR, made, {**DIMS, "N": 3}, "float32", mode)
    assert verdict.correct, verdict.reason


@pytest.mark.nightly
@pytest.mark.parametrize("name", MUTANTS)
def test_every_planted_bug_is_convicted_from_the_command_line(name):
    target = f"{Path(__file__).with_name('odconv_mutants.py')}:{name}"
    command = [sys.executable, "-m", "opbench", "check", target, "--operator", "odconv", "--strict"]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=600, env={**os.environ, "COLUMNS": "200"})
    assert checked.returncode == 1, checked.stdout + checked.stderr


def test_a_whole_network_s_memory_format_and_dtype_reach_it():
    """YOLO packages ask for channels_last of everything, which torch refuses for the five axes of the kernels."""
    module, x = ODConv2d(8, 12, 3, padding=1).eval(), torch.rand(2, 8, 6, 6)
    expected, shape = module(x), module.weight.shape
    module.to(memory_format=torch.channels_last)
    assert torch.allclose(module(x), expected, atol=1e-6)
    module.double()
    assert (module.weight.shape, module.weight.dtype, module.weight.is_leaf) == (shape, torch.float64, True)
