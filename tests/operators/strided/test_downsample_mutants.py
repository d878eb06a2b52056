"""Every planted bug of SPDConv and ADown is convicted, in process and from the command line; what is right is not."""

import re
import subprocess
import sys
from pathlib import Path
from types import MethodType

import downsample_mutants
import pytest

from opbench.build import build
from opbench.schema import Case
from opbench.verify import gate

FILE = Path(downsample_mutants.__file__)


def verdict_on(operator, forward, dtype="float32"):
    dims = {"N": 2, "C": 6, "O": 20, "H": 6, "W": 8, "G": 1}
    settings = {"k": 3, "block": True} if operator == "spdconv" else {}
    name = "slices" if operator == "spdconv" else "torch"
    case = Case("downsample2x", "mutants", operator, name, dims, dtype, "cpu", "training", None, 0, settings=settings)
    built = build(case)
    expected = gate.reference(built)
    built.module.forward = MethodType(forward, built.module)
    return gate.check(built, expected)


@pytest.mark.parametrize("operator", downsample_mutants.RIGHT)
def test_the_unchanged_recipe_passes(operator):
    for dtype in ("float64", "float32", "bfloat16", "float16"):
        verdict = verdict_on(operator, downsample_mutants.RIGHT[operator], dtype)
        assert verdict.correct, verdict.reason


@pytest.mark.parametrize("name", downsample_mutants.MUTANTS)
def test_every_mutant_is_convicted(name, record_property):
    operator, description, forward = downsample_mutants.MUTANTS[name]
    verdict = verdict_on(operator, forward)
    record_property("mutant", (f"{operator} modules", None if verdict.correct else verdict.reason))
    assert not verdict.correct, f"{name} ({description}) passes the gate"


@pytest.mark.nightly
@pytest.mark.parametrize("name", downsample_mutants.MUTANTS)
def test_opbench_check_convicts_every_mutant(name):
    operator, *_ = downsample_mutants.MUTANTS[name]
    wide = ("--fix", "ouc=24") if name == "dim_past_16" else ()
    command = [sys.executable, "-m", "opbench", "check", f"{FILE}:{name}", "--operator", operator, *wide]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.match(r"(wrong|fragile): ", done.stdout), done.stdout
