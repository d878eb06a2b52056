"""Asv by its own loader and its own commands, in a git repository whose commit was measured."""

import json
import subprocess
import sys

import pytest
from exported import COMMIT, PANEL, evil_run, small_run
from factory import make_case, make_environment, make_record, make_run

from opbench.report.exports import export
from opbench.schema import OpbenchError

asv_results = pytest.importorskip("asv.results", reason="asv is not installed")

LATENCY = f"{PANEL.replace('/', '.')}.latency.cpu_wall"


def at(commit=COMMIT, **changes):
    return make_environment(commit=commit, **changes)


def loaded(folder):
    """What asv's loader finds, as asv's own commands look for it."""
    return list(asv_results.iter_results(str(folder / "results")))


def test_asvs_loader_finds_the_figures_in_seconds(tmp_path):
    export([small_run(environment=at())], "asv", tmp_path)
    (result,) = loaded(tmp_path)
    assert result.commit_hash == COMMIT
    (contenders,) = result.get_result_params(LATENCY)
    values = dict(zip(contenders, result.get_result_value(LATENCY, [contenders]), strict=True))
    assert values["'carafe[cpu]'"] == pytest.approx(3e-3, rel=0.1)
    stats = dict(zip(contenders, result.get_result_stats(LATENCY, [contenders]), strict=True))["'carafe[cpu]'"]
    assert stats["q_25"] < values["'carafe[cpu]'"] < stats["q_75"]


def test_a_failure_is_null_and_so_is_a_skipped_contender(tmp_path):
    export([small_run(environment=at())], "asv", tmp_path)
    (result,) = loaded(tmp_path)
    (contenders,) = result.get_result_params(LATENCY)
    values = dict(zip(contenders, result.get_result_value(LATENCY, [contenders]), strict=True))
    assert values["'carafe[mine]'"] is None
    assert values["'carafe[triton]'"] is None


def test_what_was_counted_of_a_failed_case_is_no_result(tmp_path):
    export([small_run(environment=at())], "asv", tmp_path)
    (result,) = loaded(tmp_path)
    name = f"{PANEL.replace('/', '.')}.macs"
    (contenders,) = result.get_result_params(name)
    values = dict(zip(contenders, result.get_result_value(name, [contenders]), strict=True))
    assert (values["'carafe[cpu]'"], values["'carafe[mine]'"]) == (1_000_000, None)


def test_several_runs_share_a_description_that_holds_every_contender(tmp_path):
    other = make_run([make_record(make_case(name)) for name in ("nearest[torch]", "bilinear[torch]")])
    other = make_run(other.records, environment=at("f" * 40))
    export([small_run(environment=at())], "asv", tmp_path)
    export([other], "asv", tmp_path)
    assert {result.commit_hash for result in loaded(tmp_path)} == {COMMIT, "f" * 40}
    described = json.loads((tmp_path / "results" / "benchmarks.json").read_text())
    assert {"'carafe[cpu]'", "'bilinear[torch]'"} <= set(described[LATENCY]["params"][0])


def test_another_definition_is_another_version(tmp_path):
    wider = make_run([make_record(make_case(dims={"N": 1, "C": 512, "H": 20, "W": 20}))], environment=at("f" * 40))
    export([small_run(environment=at()), wider], "asv", tmp_path)
    assert len({result.benchmark_version[LATENCY] for result in loaded(tmp_path)}) == 2


@pytest.mark.parametrize("commit", [None, "../../evil", "main", "0123abc"])
def test_a_run_without_a_commit_cannot_be_filed(commit, tmp_path):
    with pytest.raises(OpbenchError, match="asv files results by commit"):
        export([small_run(environment=at(commit))], "asv", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_runs_of_one_commit_machine_and_environment_are_refused(tmp_path):
    with pytest.raises(OpbenchError, match="two runs of commit 0123abcd"):
        export([small_run(environment=at()), small_run(environment=at())], "asv", tmp_path / "out")


def test_a_foreign_description_is_not_written_over(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "benchmarks.json").write_text('{"mine": 1}')
    with pytest.raises(OpbenchError, match="expected asv's benchmarks of version 2"):
        export([small_run(environment=at())], "asv", tmp_path)
    assert (tmp_path / "results" / "benchmarks.json").read_text() == '{"mine": 1}'


def test_a_configuration_that_is_there_is_kept(tmp_path):
    (tmp_path / "asv.conf.json").write_text("mine")
    export([small_run(environment=at())], "asv", tmp_path)
    assert (tmp_path / "asv.conf.json").read_text() == "mine"


def test_hostile_names_stay_in_the_folder(tmp_path):
    export([evil_run()], "asv", tmp_path / "out")
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written) == 4
    assert all(path.resolve().is_relative_to(tmp_path / "out") for path in written)
    assert len(loaded(tmp_path / "out")) == 1


def run(*command, cwd):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=cwd, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A git repository whose one commit was measured, with the export at its root."""
    folder = tmp_path_factory.mktemp("repository")
    run("git", "init", "-q", "-b", "main", ".", cwd=folder)
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    run("git", *who, "commit", "-q", "--allow-empty", "-m", "measured", cwd=folder)
    commit = run("git", "rev-parse", "HEAD", cwd=folder).strip()
    evil = evil_run()
    records = [*small_run().records, *(make_record(make_case(r.case.operator, mode="training")) for r in evil.records)]
    export([make_run(records, environment=at(commit))], "asv", folder)
    return folder, commit


def test_asv_shows_the_commit(repository):
    folder, commit = repository
    shown = run(sys.executable, "-m", "asv", "show", commit, cwd=folder)
    assert LATENCY in shown
    assert "carafe[cpu]" in shown
    assert "failed" in shown, "a null is a failure to asv"


def test_asv_publishes_its_site_from_it(repository):
    folder, commit = repository
    said = run(sys.executable, "-m", "asv", "publish", "--no-pull", cwd=folder)
    assert "Couldn't find" not in said
    index = json.loads((folder / "html" / "index.json").read_text())
    assert commit in index["revision_to_hash"].values()
    assert index["benchmarks"][LATENCY]["unit"] == "seconds"
