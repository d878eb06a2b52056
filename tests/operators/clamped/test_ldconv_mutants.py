"""Every bug planted in LDConv is convicted: by the gate in process, by `opbench check` at night."""

import subprocess
import sys
from pathlib import Path

import pytest
from clamped_mutants import CORE_MUTANTS, GRADIENT_MUTANTS
from gated import verdict_on_core, verdict_on_module
from ldconv_mutants import AT_STRIDE_1, MUTANTS

from opbench.operators.common.clamped.cores import CORES
from opbench.operators.ldconv import LDConv

FILE = Path(__file__).parent / "ldconv_mutants.py"


def made(kind):
    return lambda dims: kind(dims["C"], dims["C"], dims["num_param"])


@pytest.mark.parametrize("name", [name for name, core in CORES.items() if core.missing() is None])
def test_every_core_of_ours_passes_the_gate(name):
    for mode in ("inference", "training"):
        verdict = verdict_on_core("ldconv", CORES[name].function, mode, num_param=4)
        assert verdict.correct, verdict.reason


@pytest.mark.parametrize("name", [name for name, core in CORES.items() if core.missing() is None])
def test_batch_norm_understands_the_layout_of_one_images_output(name):
    """Of strides that it doesn't, its backward pass is wrong in torch 2.13, and nothing says so."""
    verdict = verdict_on_core("ldconv", CORES[name].function, "training", N=1, C=4, num_param=4)
    assert verdict.correct, verdict.reason


@pytest.mark.parametrize("core", CORE_MUTANTS, ids=lambda core: core.__name__)
def test_the_gate_convicts_a_planted_core(core):
    assert not verdict_on_core("ldconv", core, "inference", num_param=4).correct, core.__doc__


@pytest.mark.parametrize("core", GRADIENT_MUTANTS, ids=lambda core: core.__name__)
def test_the_gate_convicts_a_planted_backward_pass(core):
    assert not verdict_on_core("ldconv", core, "training", num_param=4).correct, core.__doc__


@pytest.mark.parametrize("kind", AT_STRIDE_1, ids=lambda kind: kind.__name__)
def test_the_gate_convicts_a_planted_module(kind, monkeypatch):
    assert verdict_on_module(monkeypatch, "ldconv", made(LDConv), "inference", num_param=4).correct
    assert not verdict_on_module(monkeypatch, "ldconv", made(kind), "inference", num_param=4).correct, kind.__doc__


def check(target, *options):
    command = [sys.executable, "-m", "opbench", "check", target, "--operator", "ldconv", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.nightly
@pytest.mark.parametrize("name", MUTANTS)
def test_check_convicts_it(name):
    # One in four examples has more than 64 channels, of which a busy machine may try none in its time.
    options = ["--fix", "inc=68"] if name == "wrong_past_64_channels" else []
    done = check(f"{FILE}:{name}", *options, "--first")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "raised" not in done.stdout.splitlines()[0]


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["LDConv", "AKConv"])
@pytest.mark.parametrize("options", [(), ("--quick",)], ids=["default", "quick"])
def test_check_acquits_ours(name, options):
    done = check(f"opbench.operators.ldconv:{name}", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"right: {name} computes ldconv" in done.stdout
