"""Visits: every panel some times over the run, each in a fresh process, in one budget; proven once, then sampled."""

import math
import time
import types

import pytest
import torch
from factory import make_environment, make_latency, make_record, make_run, make_selfcheck
from msgspec.structs import replace
from toy_plan import search_path, toy_panel, toy_plan, toy_run, toy_settings, toy_supervisor

from opbench.documents import read
from opbench.engine import check_case
from opbench.engine import run as engine
from opbench.engine.entries import PanelFinished
from opbench.engine.entries import read as read_journal
from opbench.engine.executor import LocalExecutor
from opbench.engine.panel import Context, run_panel
from opbench.engine.replicas import merge, one_visit
from opbench.engine.surveying import KnownMachine
from opbench.measure import phases
from opbench.measure.probes import Probe
from opbench.run_request import RunRequest, row_command, settings
from opbench.schema import Settings, Suite


@pytest.fixture
def toy_workers(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", search_path())


# --- How many, and what each takes -------------------------------------------------------------------------------


def test_visits_share_the_budget_the_rounds_and_the_precision():
    each = one_visit(Settings("s", precision=0.01, budget_seconds=9.0, least_rounds=16, replicas=3))
    assert (each.budget_seconds, each.least_rounds) == (3.0, 6)
    assert each.precision == pytest.approx(0.01 * math.sqrt(3))
    assert one_visit(Settings("s", precision=0.01, budget_seconds=9.0, replicas=3)).least_rounds == 2
    alone = Settings("s", precision=0.01, budget_seconds=9.0, least_rounds=16)
    assert one_visit(alone) == alone


@pytest.mark.parametrize(
    ("asked", "of_suite", "panels", "visits"),
    [(None, None, 12, 3), (None, None, 3, 1), (None, 1, 12, 1), (5, 1, 12, 5), (1, None, 12, 1)],
)
def test_a_suite_of_more_than_a_few_panels_is_visited_three_times(asked, of_suite, panels, visits):
    suite = Suite("s", "S", (), replicas=of_suite)
    assert settings(RunRequest(replicas=asked), suite, panels).replicas == visits


def test_the_command_of_a_row_visits_as_often_as_its_run():
    run = make_run([make_record()])
    case = run.records[0].case
    assert "--replicas" not in row_command(run, case)
    several = types.SimpleNamespace(
        command=run.command, environment=run.environment, settings=Settings("default", 0.01, 6.0, replicas=3)
    )
    assert "--replicas 3" in row_command(several, case)


# --- Over the run ------------------------------------------------------------------------------------------------


def test_all_panels_are_visited_before_any_is_again_and_each_time_in_a_new_process(tmp_path, toy_workers):
    seen = []

    def look(run):
        seen.extend(one for one in read_journal(tmp_path / "journal.jsonl")[0] if isinstance(one, PanelFinished))

    with toy_supervisor() as supervisor:
        engine.execute(
            toy_plan(3), toy_settings(replicas=3), tmp_path, command="toy", progress=lambda *_: None,
            executor=LocalExecutor(supervisor), finish=look,
        )  # fmt: skip
    panels = [panel.id for panel in toy_plan(3).panels]
    assert [(one.replica, one.panel) for one in seen] == [(visit, panel) for visit in range(3) for panel in panels]
    processes = [{one.records[0].message for one in seen if one.replica == visit} for visit in range(3)]
    assert all(len(one) == 1 for one in processes)
    assert len(set.union(*processes)) == 3


def test_a_run_that_ends_in_time_visits_every_panel_before_any_twice_and_resuming_adds_visits(
    tmp_path, toy_workers, monkeypatch
):
    now = [0.0]
    monkeypatch.setattr(engine, "time", types.SimpleNamespace(monotonic=lambda: now[0], perf_counter=time.perf_counter))

    def slow(done, panel):
        """Every visit takes 200 s."""
        now[0] += 200.0

    lines = []
    asked = toy_settings(replicas=3)
    run = toy_run(tmp_path, settings=asked, progress=slow, within_seconds=900.0, log=lines.append)
    assert (len(run.panels), run.skipped) == (4, ())
    visits = [[bool(samples) for samples in record.latencies[0].samples_seconds] for record in run.records]
    assert visits == [[True, True, False]] * 2 + [[True, False, False]] * 6
    assert "7 further visits of panels were not begun within 900 s; --resume adds them" in lines
    assert read(tmp_path / "run.json") == run
    assert (tmp_path / "journal.jsonl").exists()
    whole = toy_run(tmp_path, settings=asked, resume=True)
    assert all(all(record.latencies[0].samples_seconds) for record in whole.records)
    assert not (tmp_path / "journal.jsonl").exists()


def test_visits_without_time_have_a_place_without_samples():
    (latency,) = merge([make_record(latencies=(make_latency(waited=((0,) * 20,), phase="clear"),))], 3).latencies
    assert [len(samples) for samples in latency.samples_seconds] == [20, 0, 0]
    assert [len(waited) for waited in latency.waited] == [20, 0, 0]
    assert latency.phase == "clear"


# --- Proven once, then sampled -----------------------------------------------------------------------------------


def records(answers, *names, mode="inference", counting=True):
    panel = toy_panel(mode, *names, N=60, C=40)
    context = Context(answers=answers, counting=counting)
    found = run_panel(panel, Settings(suite="toy", precision=0.5, budget_seconds=0.1), context)
    return {record.case.implementation: record for record in found}


@pytest.fixture
def no_definition(monkeypatch):
    """After the first visit: whoever evaluates the definition fails."""

    def forbid():
        def reference(built):
            raise AssertionError("the definition was evaluated at a later visit")

        monkeypatch.setattr(check_case, "reference", reference)

    return forbid


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize("mode", ["inference", "training"])
def test_a_later_visit_is_judged_by_positions_of_the_first_one_s_answers(tmp_path, no_definition, mode):
    first = records(tmp_path / "kept.pt", "also-right", mode=mode)["also-right"]
    assert not first.verdict.sampled
    no_definition()
    later = records(tmp_path / "kept.pt", "also-right", mode=mode, counting=False)["also-right"]
    assert later.outcome == "ok", later.message
    assert later.verdict.sampled
    assert later.final_verdict.sampled
    assert 0 < later.verdict.judged < first.verdict.judged
    assert later.verdict.worst_ratio <= first.verdict.worst_ratio
    assert later.latencies


@pytest.mark.usefixtures("toys")
def test_who_is_wrong_at_a_later_visit_is_incorrect(tmp_path, no_definition):
    records(tmp_path / "kept.pt", "also-right")
    no_definition()
    names = ("wrong", "sloppy", "unwritten", "mutates", "stale")
    found = records(tmp_path / "kept.pt", *names, counting=False)
    assert {found[name].outcome for name in names} == {"incorrect"}
    assert not any(found[name].latencies for name in names)
    assert found["right"].outcome == "ok"


@pytest.mark.usefixtures("toys")
def test_positions_are_drawn_anew_for_every_run(tmp_path):
    drawn = []
    for name in ("a.pt", "b.pt"):
        records(tmp_path / name, "also-right")
        (answer,) = torch.load(tmp_path / name, weights_only=True).values()
        drawn.append(answer["tensors"]["output"]["positions"])
    assert len(drawn[0]) == 1024
    assert not torch.equal(*drawn)


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize("content", [None, b"", b"no archive of torch's", b"PK\x03\x04" + b"\x00" * 64])
def test_without_kept_answers_the_definition_is_evaluated_again(tmp_path, content):
    path = tmp_path / "kept.pt"
    if content is not None:
        path.write_bytes(content)
    found = records(path, "also-right", counting=False)["also-right"]
    assert found.outcome == "ok"
    assert not found.verdict.sampled


@pytest.mark.usefixtures("toys")
def test_a_folder_that_takes_no_file_costs_no_figure(tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert records(tmp_path / "file" / "kept.pt", "also-right")["also-right"].outcome == "ok"


# --- What the machine has shown before ---------------------------------------------------------------------------


def test_a_best_of_other_threads_or_other_probes_is_none():
    best = phases.best_of([Probe(3.0, 2.0, 1.0), Probe(1.0, 2.0, 3.0)], 1)
    assert phases.known(best, 1) == Probe(1.0, 2.0, 1.0)
    assert phases.known(best, 2) is None
    assert phases.known(replace(best, work="other"), 1) is None
    assert phases.known(None, 1) is None
    assert phases.best_of([], 1) is None


def test_phases_are_told_by_the_best_that_the_machines_selfcheck_keeps(tmp_path, toy_workers):
    threads = make_environment().threads
    best = phases.best_of([Probe(1e-6, 1e-6, 1e-6)], threads)
    kept = make_selfcheck(best=best)
    with toy_supervisor() as supervisor:
        told = []
        run = engine.execute(
            toy_plan(1),
            toy_settings(replicas=1),
            tmp_path,
            command="toy",
            progress=lambda *_: told.append(supervisor.best),
            executor=LocalExecutor(supervisor),
            known=lambda environment: KnownMachine(kept, "0 false alarms."),
        )
    assert told[0] == Probe(1e-6, 1e-6, 1e-6)
    details = run.environment.details
    assert details["phases"] == "clear: near the best that the selfcheck of 2025-01-02 and this run have seen"
    assert details["selfcheck"].endswith(" days before this run: 0 false alarms.")


def test_without_a_selfcheck_the_run_says_so(tmp_path, toy_workers):
    run = toy_run(tmp_path, plan=toy_plan(1), settings=toy_settings(replicas=1))
    assert run.environment.details["phases"].endswith("; the machine has no selfcheck")
    assert run.environment.details["selfcheck"] == "none"
