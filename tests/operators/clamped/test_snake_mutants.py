"""Every bug planted in dynamic snake convolution is convicted, the pasted module's faults each in a sentence."""

import subprocess
import sys
from pathlib import Path

import pasted_snake
import pytest
import snake_mutants
import torch
from clamped_mutants import CORE_MUTANTS, GRADIENT_MUTANTS
from gated import verdict_on_core, verdict_on_module
from snake_mutants import MODULES, MUTANTS, NEEDS_FIVE, TRAINED

from opbench.operators.common.clamped.cores import CORES
from opbench.operators.snake import DySnakeConv

HERE = Path(__file__).parent
K = 5


def made(kind):
    return lambda dims: kind(dims["C"], dims["C"], dims["k"])


@pytest.mark.parametrize("name", [name for name, core in CORES.items() if core.missing() is None])
def test_every_core_of_ours_passes_the_gate(name):
    for mode in ("inference", "training"):
        verdict = verdict_on_core("snake", CORES[name].function, mode, k=K)
        assert verdict.correct, verdict.reason


@pytest.mark.parametrize("core", CORE_MUTANTS, ids=lambda core: core.__name__)
def test_the_gate_convicts_a_planted_core(core):
    assert not verdict_on_core("snake", core, "inference", k=K).correct, core.__doc__


@pytest.mark.parametrize("core", GRADIENT_MUTANTS, ids=lambda core: core.__name__)
def test_the_gate_convicts_a_planted_backward_pass(core):
    assert not verdict_on_core("snake", core, "training", k=K).correct, core.__doc__


@pytest.mark.parametrize("name", MODULES)
def test_the_gate_convicts_a_planted_module(name, monkeypatch):
    assert verdict_on_module(monkeypatch, "snake", made(DySnakeConv), "inference", k=K).correct
    kind = getattr(snake_mutants, name)
    assert not verdict_on_module(monkeypatch, "snake", made(kind), "inference", k=K).correct, kind.__doc__


@pytest.mark.parametrize("name", TRAINED)
def test_the_gate_convicts_a_module_that_does_not_train(name, monkeypatch):
    verdict = verdict_on_module(monkeypatch, "snake", made(TRAINED[name]), "training", k=K)
    assert not verdict.correct, TRAINED[name].__doc__


def test_the_pasted_module_has_the_faults_that_are_told_of_it():
    torch.manual_seed(0)
    x = torch.randn(2, 4, 6, 6)
    module = pasted_snake.AllSampleImage0(4, 4).eval()
    exchanged = torch.stack((x[0] + 1, x[1]))
    assert not torch.allclose(module(x)[1], module(exchanged)[1])
    unlearnt = pasted_snake.OffsetsWithoutGradient(4, 4)
    unlearnt(x).sum().backward()
    assert unlearnt.conv_x.offset_conv.weight.grad is None
    unused = pasted_snake.UnusedBranch(4, 4)
    unused(x).sum().backward()
    assert unused.conv_x.dsc_conv_y.weight.grad is None
    assert unused.conv_x.offset_conv.weight.grad is not None


def check(target, *options):
    command = [sys.executable, "-m", "opbench", "check", target, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


FAULTS = {
    "AllSampleImage0": "mixes the images of a batch in evaluation",
    "OffsetsWithoutGradient": "conv_x.offset_conv.weight, conv_x.offset_conv.bias, conv_x.bn.weight",
    "UnusedBranch": "leaves 4 parameters: conv_x.dsc_conv_y.weight",
}


@pytest.mark.nightly
@pytest.mark.parametrize("name", FAULTS)
def test_check_convicts_each_fault_of_the_pasted_module_in_a_sentence(name):
    done = check(f"{HERE / 'pasted_snake.py'}:{name}")
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"wrong: {name} " in done.stdout
    assert FAULTS[name] in done.stdout


@pytest.mark.nightly
def test_check_convicts_the_pasted_module_of_all_its_faults_at_once():
    done = check(f"{HERE / 'pasted_snake.py'}:DySnakeConv")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "mixes the images of a batch" in done.stdout
    assert "leaves 12 parameters" in done.stdout


@pytest.mark.nightly
@pytest.mark.parametrize("name", [*FAULTS, "DySnakeConv", "DSConv"])
def test_check_of_the_operator_convicts_it_too_though_its_parameters_are_others(name):
    done = check(f"{HERE / 'pasted_snake.py'}:{name}", "--operator", "snake", "--quick")
    assert done.returncode == 1, done.stdout + done.stderr
    assert FAULTS.get(name, "mixes the images of a batch in evaluation") in done.stdout.splitlines()[0]
    assert "attempt: its parameters by name: state dict is not that of DySnakeConv" in done.stdout


@pytest.mark.nightly
@pytest.mark.parametrize("name", MUTANTS)
def test_check_convicts_it(name):
    options = ["--operator", "snake", "--first"]
    # One in four examples has more than 64 channels, of which a busy machine may try none in its time.
    options += ["--fix", "inc=68"] if name == "wrong_past_64_channels" else []
    # Of three samples nothing adds up.
    options += ["--fix", "k=5"] if name in NEEDS_FIVE else []
    done = check(f"{HERE / 'snake_mutants.py'}:{name}", *options)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "raised" not in done.stdout.splitlines()[0]


@pytest.mark.nightly
@pytest.mark.parametrize("options", [(), ("--quick",)], ids=["default", "quick"])
def test_check_acquits_ours(options):
    done = check("opbench.operators.snake:DySnakeConv", "--operator", "snake", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "right: DySnakeConv computes snake" in done.stdout


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["DySnakeConv", "DSConv"])
def test_our_modules_keep_what_every_module_promises(name):
    arguments = [] if name == "DySnakeConv" else ["--arg", "in_channels=16", "--arg", "out_channels=16"]
    done = check(f"opbench.operators.snake:{name}", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
