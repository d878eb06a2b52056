"""Two revisions in turns: what a worker answers, and what the documents of both sides hold."""

import functools
import io
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import dying as dying_script
import pytest
from dying import DEATHS

import opbench
from opbench import registry
from opbench.documents import encode
from opbench.engine import paired, paired_record, revisions
from opbench.engine.paired import measure_paired
from opbench.engine.paired_watch import PairedWatch
from opbench.engine.paired_worker import serve
from opbench.engine.revision_worker import Answer, RevisionWorker, WorkerLostError
from opbench.engine.revisions import Revision, checked_out
from opbench.measure.disturbance import DisturbanceGuard
from opbench.plan import plan
from opbench.process.child import Child
from opbench.schema import PAIRED, Case, OpbenchError, Settings, Suite, Workload

ROOT = Path(opbench.__file__).parents[1].resolve()
HERE = Revision(ROOT, "here", False)
DIMS = {"N": 1, "C": 4, "H": 4, "W": 4, "k_up": 5, "k_enc": 3, "c_mid": 64, "g": 1}
WORKLOAD = Workload("upsample2x", "tiny", "made up", DIMS, ("bilinear",), ("float32",), ("cpu",), ("inference",))
CASE = Case("upsample2x", "tiny", "bilinear", "torch", DIMS, "float32", "cpu", "inference")


def as_json(case=CASE, **changes):
    return {**json.loads(encode(case)), **changes}


def answers(*requests):
    out = io.StringIO()
    serve(io.StringIO("".join(json.dumps(request) + "\n" for request in requests)), out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_a_worker_proves_counts_times_and_proves_again(mode):
    prepared, block, finished = answers(
        {"do": "prepare", "case": as_json(mode=mode), "count": True},
        {"do": "block", "calls": 3},
        {"do": "finish"},
    )
    assert prepared["record"]["verdict"]["correct"]
    assert prepared["record"]["counts"]["dispatched"]["aten.upsample_bilinear2d"] == 1
    assert block["seconds"] > 0
    assert finished["verdict"]["correct"]


def test_a_worker_says_what_its_revision_does_not_know():
    unknown = [as_json(operator="later"), as_json(task="later"), as_json(implementation="later")]
    assert answers(*({"do": "prepare", "case": case, "count": False} for case in unknown)) == [{"type": "Unknown"}] * 3


def test_a_case_that_raises_is_a_record_and_no_end_of_the_worker():
    dims = {**DIMS, "C": -1}
    raised, fine = answers(
        {"do": "prepare", "case": as_json(dims=dims), "count": False},
        {"do": "prepare", "case": as_json(), "count": False},
    )
    assert raised["record"]["outcome"] == "raised"
    assert "seconds" not in raised
    assert fine["record"]["outcome"] == "ok"


def test_a_worker_of_another_package_is_refused(tmp_path):
    with pytest.raises(OpbenchError, match="would time the wrong code"):
        RevisionWorker(Revision(tmp_path, None, None), 1)


@pytest.fixture
def dying(monkeypatch):
    """A worker whose process is the dying one; nobody asks what package that is."""

    def start(death):
        death.arrange(monkeypatch)
        monkeypatch.setattr(RevisionWorker, "__init__", start_only)
        return RevisionWorker()

    def start_only(self, *_):
        self._child = Child(["-P", dying_script.__file__], Answer)

    return start


@pytest.mark.parametrize("death", DEATHS, ids=lambda death: death.name)
def test_every_death_of_a_worker_is_named_with_the_request(dying, death):
    worker = dying(death)
    with pytest.raises(WorkerLostError, match=re.escape(death.said)) as lost:
        worker.ask(death.seconds, do="prepare")
    assert str(lost.value).endswith("at 'prepare'")
    outcome = {"hang": "timed-out", "memory": "out-of-memory"}.get(death.name, "crashed")
    assert lost.value.outcome == outcome


def test_a_death_costs_the_case_in_both_documents(dying, monkeypatch):
    monkeypatch.setattr(paired_record, "RevisionWorker", lambda revision, threads: dying(DEATHS[2]))
    laid_out = plan(Suite("tiny", "tiny", (WORKLOAD,)), {}, cuda=False)
    base, head = measure_paired(
        HERE, HERE, laid_out, Settings("tiny", 0.5, 0.2), threads=1, command="", progress=lambda *_: None
    )
    for run in (base, head):
        assert {record.outcome for record in run.records} == {"crashed"}
        assert "exit code 3, at 'prepare'" in run.records[0].message


def test_both_documents_hold_rounds_that_pair(monkeypatch):
    # Whatever else this machine does.
    monkeypatch.setattr(paired, "PairedWatch", functools.partial(PairedWatch, DisturbanceGuard(allowed=math.inf)))
    registry.load()
    laid_out = plan(Suite("tiny", "tiny", (WORKLOAD,)), {}, cuda=False)
    settings = Settings("tiny", 0.5, 0.2, replicas=2)
    base, head = measure_paired(HERE, HERE, laid_out, settings, threads=1, command="opbench", progress=lambda *_: None)
    assert base.environment.details[PAIRED] == head.environment.details[PAIRED]
    assert [record.case for record in base.records] == [record.case for record in head.records]
    for ours, theirs in zip(base.records, head.records, strict=True):
        assert ours.outcome == theirs.outcome == "ok"
        assert ours.counts == theirs.counts
        assert ours.final_verdict.correct
        before, after = ours.latencies[0], theirs.latencies[0]
        assert before.calls_per_sample == after.calls_per_sample
        assert len(before.samples_seconds) == 2
        assert list(map(len, before.samples_seconds)) == list(map(len, after.samples_seconds))
        assert list(map(len, before.waited)) == list(map(len, before.samples_seconds))
    assert base.environment.details["threads pinned"]


def git(folder, *arguments):
    identity = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository whose first commit differs from its working tree, taken for the one that opbench runs from."""
    (tmp_path / "opbench").mkdir()
    file = tmp_path / "opbench" / "__init__.py"
    file.write_text("before = 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "before")
    file.write_text("after = 1\n")
    monkeypatch.setattr(revisions.opbench, "__file__", str(file))
    return tmp_path


def test_the_revision_is_checked_out_beside_the_working_tree_and_taken_away_again(checkout):
    with checked_out("HEAD") as (base, head):
        assert (base.root / "opbench" / "__init__.py").read_text() == "before = 1\n"
        assert head.root == checkout
        assert (base.dirty, head.dirty) == (False, True)
        assert base.commit == head.commit
    assert not base.root.exists()
    listed = subprocess.run(["git", "-C", checkout, "worktree", "list"], capture_output=True, text=True, check=True)
    assert len(listed.stdout.splitlines()) == 1


LEAVING = """
import os, sys
from pathlib import Path
from opbench.engine import revisions
with revisions.History(Path(sys.argv[1])).tree("HEAD") as base:
    print(base.root, flush=True)
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), 9)
    sys.stdin.read()
"""


def test_the_tree_of_a_killed_comparison_is_taken_away_by_the_next_one_and_that_of_a_running_one_is_not(checkout):
    command = [sys.executable, "-c", LEAVING, str(checkout)]
    left = subprocess.run([*command, "killed"], capture_output=True, text=True, check=False).stdout.strip()
    assert Path(left).is_dir()
    with subprocess.Popen([*command, "runs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        used = running.stdout.readline().strip()
        assert not Path(left).parent.exists()
        with checked_out("HEAD"):
            assert Path(used).is_dir()
        running.communicate("")
    listed = subprocess.run(["git", "-C", checkout, "worktree", "list"], capture_output=True, text=True, check=True)
    assert len(listed.stdout.splitlines()) == 1


def test_an_unknown_revision_is_refused_by_name(checkout):
    with pytest.raises(OpbenchError, match="nowhere: not a revision"), checked_out("nowhere"):
        pass


def test_a_package_outside_of_git_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(revisions.opbench, "__file__", str(tmp_path / "opbench" / "__init__.py"))
    with pytest.raises(OpbenchError, match="no git checkout"), checked_out("HEAD"):
        pass


def test_the_worker_script_imports_nothing_that_an_older_revision_may_lack():
    """It runs with another revision's package: only names that the first one had."""
    import ast

    tree = ast.parse(Path(sys.modules[serve.__module__].__file__).read_text())
    found = {
        f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("opbench")
        for alias in node.names
    }
    assert found == {
        "opbench.registry", "opbench.build.build", "opbench.schema.Case", "opbench.schema.Record",
        "opbench.verify.gate.check", "opbench.verify.gate.reference",
        "opbench.measure.macs.count", "opbench.measure.memory.measure_memory",
    }  # fmt: skip
