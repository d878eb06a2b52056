"""Every planted bug of DCNv4 is convicted, in process and from the command line, and nothing that is right."""

import re
import subprocess
import sys
from pathlib import Path
from types import MethodType

import dcnv4_mutants
import pytest
from by_day import one_in

from opbench.build import build
from opbench.schema import Case
from opbench.verify import gate

FILE = Path(dcnv4_mutants.__file__)


def verdict_on(forward, dtype="float32", channels=12):
    # Two groups, an oblong image, offsets that leave it.
    dims = {"N": 2, "C": channels, "H": 5, "W": 4, "G": 2}
    case = build(Case("conv3x3", "mutants", "dcnv4", "gather", dims, dtype, "cpu", "training", 2.0, 0))
    expected = gate.reference(case)
    case.module.forward = MethodType(forward, case.module)
    return gate.check(case, expected)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_the_unchanged_recipe_passes(dtype):
    verdict = verdict_on(dcnv4_mutants.RIGHT, dtype)
    assert verdict.correct, verdict.reason


@pytest.mark.parametrize("name", one_in(4, dcnv4_mutants.MUTANTS))
def test_every_mutant_is_convicted(name, record_property):
    description, forward = dcnv4_mutants.MUTANTS[name]
    verdict = verdict_on(forward, channels=72 if name == "dim_past_64" else 12)
    record_property("mutant", ("DCNv4 modules", None if verdict.correct else verdict.reason))
    assert not verdict.correct, f"{name} ({description}) passes the gate"


@pytest.mark.nightly
@pytest.mark.parametrize("name", dcnv4_mutants.MUTANTS)
def test_opbench_check_convicts_every_mutant(name):
    wide = ("--fix", "channels=72") if name == "dim_past_64" else ()
    command = [sys.executable, "-m", "opbench", "check", f"{FILE}:{name}", "--operator", "dcnv4", *wide]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.match(r"(wrong|fragile): ", done.stdout), done.stdout
