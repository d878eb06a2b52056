"""A change that is called is measured again in fresh processes, and counts where they say the same."""

from pathlib import Path

import msgspec
import pytest
from factory import make_latency, make_record, make_run
from planted_revisions import CASE, paired_request, plant

from opbench.analyse.compare.confirming import AGREEING, PROCESSES, called, confirmed
from opbench.analyse.compare.paired import compare_revisions
from opbench.analyse.compare.runs import compare
from opbench.engine.revisions import Revision
from opbench.report.comparison import explanations, lines, markdown, tally

BASE, HEAD = (Revision(Path(f"/nowhere/{name}"), name, False) for name in ("base", "head"))


def compared(monkeypatch, head=1.0, base_layouts=(), head_layouts=(), **planted):
    """(the comparison of two planted revisions, which workers were started, the documents that were kept)."""
    found = plant(
        monkeypatch,
        speed={BASE.root: 1e-3, HEAD.root: 1e-3 * head},
        layouts={BASE.root: list(base_layouts), HEAD.root: list(head_layouts)},
        **planted,
    )
    kept = {}
    request = paired_request(lambda folder, runs: kept.update(runs))
    return compare_revisions(BASE, HEAD, request), found.started, kept


def the_time(comparison):
    return comparison.rows[0].times[0]


def test_what_is_the_same_is_not_measured_again(monkeypatch):
    found, started, kept = compared(monkeypatch)
    assert the_time(found).decision == "same"
    assert len(started) == 2 * 3
    assert set(kept) == {"base", "head"}


@pytest.mark.parametrize(("head", "decision"), [(1.05, "regressed"), (0.95, "improved")])
def test_a_change_is_confirmed_by_fresh_processes_and_says_by_how_many(monkeypatch, head, decision):
    found, _, kept = compared(monkeypatch, head)
    time = the_time(found)
    assert time.decision == decision
    assert time.confirmation.confirmed
    assert time.confirmation.sentence == "confirmed in 5 of 5 processes"
    assert time.confirmation.ratios == pytest.approx([head] * PROCESSES)
    assert found.regressed == (decision == "regressed")
    assert set(kept) == {"base", "head", "confirming-base", "confirming-head"}
    (line,) = lines(found)
    assert line.cells[4] == f"{decision}, confirmed in 5 of 5 processes"


def test_either_revision_starts_first_in_turn(monkeypatch):
    _, started, _ = compared(monkeypatch, 1.05)
    pairs = list(zip(started[::2], started[1::2], strict=True))
    one, other = (BASE.root, HEAD.root), (HEAD.root, BASE.root)
    assert pairs == [one, other, one, one, other, one, other, one]


def test_what_fresh_processes_do_not_find_is_no_change(monkeypatch):
    """Three processes of the head were laid out badly; the next five were not."""
    found, _, _ = compared(monkeypatch, head_layouts=[0.05, 0.051, 0.049])
    time = the_time(found)
    assert time.decision == "undecided"
    assert time.confirmation.called == "regressed"
    assert not time.confirmation.confirmed
    assert not found.regressed
    assert tally(found).startswith("no regression: 1 not confirmed")
    (line,) = lines(found)
    assert line.cells[4] == "regressed, not confirmed: so in 0 of 5 processes"
    assert "no change" in " ".join(explanations(found))


@pytest.mark.parametrize(("slow", "counts"), [(AGREEING, True), (AGREEING - 1, False)])
def test_one_process_may_disagree_and_no_more(monkeypatch, slow, counts):
    layouts = [0.05] * 3 + [0.05] * slow + [0.0] * (PROCESSES - slow)
    found, _, _ = compared(monkeypatch, head_layouts=layouts)
    assert found.regressed == counts
    assert the_time(found).confirmation.agreed == slow


def test_a_machine_too_busy_to_confirm_it_says_so(monkeypatch):
    first, again = (
        make_run([make_record(CASE, latencies=(latency,))])
        for latency in (
            make_latency(ratio=1.0, processes=4, rounds=40),
            make_latency(ratio=1.1, processes=4, rounds=40, seed=1),
        )
    )
    token = {"paired run": "token"}
    first, again = (
        msgspec.structs.replace(run, environment=msgspec.structs.replace(run.environment, details=token))
        for run in (first, again)
    )
    found = compare(first, again)
    assert [case.id for case in called(found)] == [CASE.id]
    busy = make_run([make_record(CASE, outcome="disturbed", message="for 40 % of a block's time ...", latencies=())])
    unsure = confirmed(found, busy, busy)
    assert not unsure.regressed
    assert "not confirmed: disturbed: for 40 %" in markdown(unsure)
    # What fails when it is measured again does not let the row pass.
    assert confirmed(found, first, make_run([make_record(CASE, outcome="crashed", message="killed")])).regressed


def test_a_busy_machine_has_no_time_and_says_what_was_seen(monkeypatch):
    found, _, kept = compared(monkeypatch, 1.5, waited=0.4)
    (row,) = found.rows
    assert not row.times
    assert found.unanswered
    assert not found.regressed
    assert {run.records[0].outcome for run in kept.values()} == {"disturbed"}
    said = " ".join(explanations(found))
    assert "for 40% of a block's time its threads were ready to run and had no core" in said
    assert "leave it a free core, or use another hour" in said
    assert "1.5" not in markdown(found).replace("0.5", "")
