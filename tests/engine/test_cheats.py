"""Contenders that cheat are found out by `opbench run`, with how; honest ones beside them are not."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from opbench.cli import app
from opbench.documents import read
from opbench.schema import Run

CHEATS = Path(__file__).with_name("cheats.py")
FORGING = Path(__file__).with_name("forging.py")
# Twelve rounds at least, however busy the machine: enough for audits of each kind.
SUITE = """
[timing]
precision = 0.01
{rounds}

[contenders]
carafe_core = ["carafe[unfold]", "carafe[shift-add]", {names}]

[[workload]]
task = "carafe_core"
name = "small"
source = "small enough for a test"
dims = {{ N = 1, C = 16, H = 12, W = 12 }}
modes = ["{mode}"]
"""
FOUND = {
    "remembers-places": "answers from memory: other values in its inputs get the very same output",
    "remembers-values": "answers from memory: a call takes ",
    "garbage-between": "in a timed call: ",
    "promises": "the output is a Promise, expected a plain torch.Tensor",
    "one-buffer": "the output is in the memory of an earlier call's output, which is in use",
    "slow-clock": "replaces time.perf_counter, by which contenders are timed",
    "edits-the-answer": "expected ",
    "edits-samples": "its samples are not those that the clock has shown",
    # Which is seen first is up to the thread: the buffer is not filled yet, or holds what an earlier call has left.
    "computes-later": ("in a timed call: ", "answers from memory: "),
    "judges-itself": "replaces opbench.verify.gate.judge, by which contenders are judged",
    "more-threads": "threads, where the run has 1",
}


ENOUGH = "budget_seconds = 0.5\nleast_rounds = 12"
ONE = "budget_seconds = 0.001\nleast_rounds = 1"


def outcomes(folder, mode, names, rounds=ENOUGH, *, file=CHEATS):
    suite = folder / "cheats.toml"
    suite.write_text(SUITE.format(mode=mode, rounds=rounds, names=", ".join(f'"carafe[{name}]"' for name in names)))
    asked = ["run", "--suite", suite, "--with", file, "--threads", "1", "-o", folder / "out"]
    done = CliRunner().invoke(app, list(map(str, asked)))
    assert done.exit_code == 1, done.output
    return {record.case.implementation: record for record in read(folder / "out" / "run.json", Run).records}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return outcomes(tmp_path_factory.mktemp("cheats"), "inference", ["honest", *FOUND, "takes-the-answer"])


@pytest.mark.parametrize("name", FOUND)
def test_a_cheat_is_incorrect_and_it_is_said_how(found, name):
    assert found[name].outcome == "incorrect"
    signs = FOUND[name] if isinstance(FOUND[name], tuple) else (FOUND[name],)
    assert any(sign in found[name].message for sign in signs), found[name].message
    assert found[name].latencies == ()


# The last one looks for the definition's answer, raises where it finds it, and is honest else.
@pytest.mark.parametrize("name", ["unfold", "shift-add", "honest", "takes-the-answer"])
def test_an_honest_contender_beside_them_is_not(found, name):
    assert found[name].outcome in ("ok", "disturbed"), found[name].message


@pytest.mark.nightly
def test_one_round_is_enough_to_be_found_in(tmp_path):
    # Who edits samples needs some, and a clock that is slower now and then is read too seldom.
    names = [name for name in FOUND if name not in ("edits-samples", "slow-clock")]
    found = outcomes(tmp_path, "inference", ["honest", *names], ONE)
    assert {found[name].outcome for name in ("unfold", "shift-add", "honest")} <= {"ok", "disturbed"}
    assert {name: found[name].outcome for name in names} == dict.fromkeys(names, "incorrect")


def test_gradients_from_memory_are_found_in_training(tmp_path):
    found = outcomes(tmp_path, "training", ["honest", "remembers-gradients"])
    assert found["remembers-gradients"].outcome == "incorrect"
    assert "answers from memory" in found["remembers-gradients"].message
    assert found["honest"].outcome in ("ok", "disturbed"), found["honest"].message


@pytest.mark.nightly
def test_a_result_that_a_contender_writes_costs_that_contender_alone(tmp_path):
    found = outcomes(tmp_path, "inference", ["writes-the-result"], file=FORGING)
    assert found["writes-the-result"].outcome == "incorrect"
    said = "sent a result that nobody can have measured: the judge has not found it right"
    assert found["writes-the-result"].message == said
    assert {found[name].outcome for name in ("unfold", "shift-add")} <= {"ok", "disturbed"}
