"""`opbench history` and `opbench keep` as a person meets them."""

import random

import pytest
from factory import make_case, make_counts, make_environment, make_failure, make_record, make_run
from hostile import make_hostile_run
from typer.testing import CliRunner

from opbench.cli import app
from opbench.commands.history import HistoryRequest, history
from opbench.commands.keep import KeepRequest, keep
from opbench.documents import save
from opbench.schema import OpbenchError

CASE = make_case("carafe[cpu]").id


def at(day, ratio, params=100):
    noise = random.Random(day).gauss(1, 0.004)
    case = make_case("carafe[cpu]")
    records = [make_record(make_case()), make_record(case, ratio=ratio * noise, counts=make_counts(params=params))]
    return make_run(
        records, started=f"2026-01-{day:02}T10:00:00+00:00", environment=make_environment(commit=f"{day:02}ab" * 10)
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Twenty runs; 10 % slower from the 12th on, with a parameter more, and one that spiked."""
    folder = tmp_path_factory.mktemp("store")
    for day in range(1, 21):
        ratio = 2.0 * (1.1 if day >= 12 else 1) * (1.6 if day == 5 else 1)
        save(at(day, ratio, params=100 + (day >= 12)), folder / "new" / f"{day}.json")
    keep(KeepRequest(runs=tuple(sorted((folder / "new").iterdir())), into=folder / "results"))
    return folder / "results"


def run_history(case, results, last=40):
    return history(HistoryRequest(case=case, results=results, last=last))


def shown(capsys, *arguments, last=40):
    assert run_history(*arguments, last) == 0
    return capsys.readouterr().out


def test_the_step_is_shown_at_its_commit_and_the_spike_is_called_one(results, capsys):
    lines = shown(capsys, CASE, results).splitlines()
    (step,) = [line for line in lines if "step +" in line]
    assert step.split()[:3] == ["2026-01-12", "10:00", "12ab12ab12ab"]
    assert 9 < float(step.split("step +")[1].split()[0]) < 11
    assert [line.split()[0] for line in lines if line.rstrip().endswith("spike")] == ["2026-01-05"]
    assert "1 step and 1 spike in 20 runs" in lines
    assert any("params changed: 100 -> 101 at 12ab12ab12ab" in line for line in lines)


def test_only_the_newest_runs_are_rows_and_the_rest_is_said(results, capsys):
    text = shown(capsys, CASE, results, last=3)
    assert "shown are the newest 3 of 20 runs" in text
    assert "2026-01-17" not in text
    assert "2026-01-18" in text


def test_a_part_of_an_id_shows_every_case_that_has_it(results, capsys):
    text = " ".join(shown(capsys, "upsample2x/", results).split())  # a title is folded between words
    assert "nearest[torch] on example-cpu" in text
    assert "carafe[cpu] on example-cpu" in text


def test_an_unknown_case_is_told_with_the_nearest(results):
    with pytest.raises(OpbenchError, match=r"unknown case .*carafe\[cpo\].*did you mean .*carafe\[cpu\]"):
        run_history(CASE.replace("cpu]", "cpo]"), results)


def test_a_part_of_too_many_cases_asks_for_more(tmp_path):
    save(make_run([make_record(make_case(f"op{index}[torch]")) for index in range(20)]), tmp_path / "run.json")
    with pytest.raises(OpbenchError, match="'torch' is part of 20 case ids"):
        run_history("torch", tmp_path)
    with pytest.raises(OpbenchError, match="and 8 more"):
        run_history("none", tmp_path)


def test_an_empty_history_is_a_sentence(tmp_path):
    with pytest.raises(OpbenchError, match="no readable run document in it, so there is no history"):
        run_history(CASE, tmp_path)


def test_one_run_is_shown_and_said_to_be_too_few(tmp_path, capsys):
    save(at(1, 2.0), tmp_path / "run.json")
    assert "1 run with a ratio: a step is told from noise by 3 runs on either side" in shown(capsys, CASE, tmp_path)


def test_a_case_that_was_never_timed_is_said_so(tmp_path, capsys):
    counted = make_failure(make_case("carafe[cpu]"), "crashed", counts=make_counts())
    save(make_run([make_record(), counted]), tmp_path / "run.json")
    assert "no latency ratio in 1 run: crashed" in shown(capsys, CASE, tmp_path)
    save(make_run([make_record(), make_failure(make_case("carafe[cpu]"), "crashed")]), tmp_path / "run.json")
    assert "no latency ratio in 1 run: crashed" in shown(capsys, CASE, tmp_path)


def test_unreadable_documents_are_named_on_the_error_stream(tmp_path, capsys):
    save(at(1, 2.0), tmp_path / "run.json")
    for index in range(7):
        (tmp_path / f"bad{index}.json").write_text("{")
    run_history(CASE, tmp_path)
    told = capsys.readouterr().err
    assert "bad0.json: not shown: " in told
    assert "and 2 more files that can't be shown" in told


def test_hostile_names_reach_no_terminal(tmp_path, capsys):
    save(make_hostile_run(), tmp_path / "run.json")
    text = shown(capsys, "script", tmp_path)
    assert "<script>" in text
    assert not {"\x1b", "\x07", "\u202e"} & set(text)


def test_keeping_says_what_is_new_and_what_was_let_go(tmp_path, capsys):
    save(at(1, 2.0), tmp_path / "run.json")
    keep(KeepRequest(runs=(tmp_path / "run.json",), into=tmp_path / "results"))
    keep(KeepRequest(runs=(tmp_path / "run.json",), into=tmp_path / "results", raw=0))
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith(f"kept: {tmp_path}/results/history/example-cpu")
    assert second.startswith("already there: ")
    assert third.startswith("raw samples let go, digest kept: ")


def test_the_commands_take_what_they_document(results, tmp_path):
    run = CliRunner().invoke
    save(at(21, 2.2), tmp_path / "run.json")
    assert run(app, ["keep", str(tmp_path / "run.json"), "--in", str(tmp_path / "results")]).exit_code == 0
    done = run(app, ["history", CASE, str(tmp_path / "results"), "--last", "5"])
    assert done.exit_code == 0
    assert "2026-01-21" in done.stdout
