"""Every planted bug of DySample is convicted, in process and from the command line, and nothing that is right."""

import re
import subprocess
import sys
from pathlib import Path
from types import MethodType

import dysample_mutants
import pytest
from by_day import one_in

from opbench.build import build
from opbench.schema import Case
from opbench.verify import gate

FILE = Path(dysample_mutants.__file__)


def verdict_on(forward, dtype="float32", C=8, W=4, **settings):
    # Two groups, an oblong image, offsets that leave it.
    dims = {"N": 2, "C": C, "H": 5, "W": W}
    held = {"style": "lp", "groups": 2, "dyscope": False, **settings}
    case = build(
        Case("upsample2x", "mutants", "dysample", "grid-sample", dims, dtype, "cpu", "training", 2.0, 0, settings=held)
    )
    expected = gate.reference(case)
    case.module.forward = MethodType(forward, case.module)
    return gate.check(case, expected)


@pytest.mark.parametrize("settings", [{}, {"dyscope": True}, {"style": "pl"}, {"style": "pl", "dyscope": True}])
def test_the_unchanged_recipe_passes(settings):
    for dtype in ("float64", "float32", "bfloat16", "float16"):
        verdict = verdict_on(dysample_mutants.RIGHT, dtype, **settings)
        assert verdict.correct, verdict.reason


@pytest.mark.parametrize("name", one_in(3, dysample_mutants.MUTANTS))
def test_every_mutant_is_convicted(name, record_property):
    description, forward, where = dysample_mutants.MUTANTS[name]
    verdict = verdict_on(forward, **where)
    record_property("mutant", ("DySample modules", None if verdict.correct else verdict.reason))
    assert not verdict.correct, f"{name} ({description}) passes the gate"


@pytest.mark.nightly
@pytest.mark.parametrize("name", dysample_mutants.MUTANTS)
def test_opbench_check_convicts_every_mutant(name):
    dtype = ("--dtype", "bfloat16") if name == "located_in_half" else ()
    wide = ("--fix", "in_channels=72", "--fix", "scale=2") if name == "dim_past_64" else ()
    command = [sys.executable, "-m", "opbench", "check", f"{FILE}:{name}", "--operator", "dysample", *dtype, *wide]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.match(r"(wrong|fragile): ", done.stdout), done.stdout
