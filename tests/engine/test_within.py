"""A run that has to end in time: what comes first is kept and reported, the rest is named, and resuming adds it."""

import time
import types

import pytest
import torch
from toy_plan import search_path, toy_run, toy_settings

from opbench.documents import read
from opbench.engine import case_state
from opbench.engine import run as engine
from opbench.engine.log import NAME as LOG
from opbench.engine.log import Log
from opbench.schema import Case


def test_no_panel_is_begun_after_the_time_and_resuming_adds_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", search_path())  # the worker is this folder's own
    now = [0.0]
    clock = types.SimpleNamespace(monotonic=lambda: now[0], perf_counter=time.perf_counter)
    monkeypatch.setattr(engine, "time", clock)

    def slow(done, panel):
        """Every panel takes 200 s."""
        now[0] += 200.0

    settings = toy_settings(replicas=1)
    with Log(tmp_path) as log:
        run = toy_run(tmp_path, settings=settings, progress=slow, within_seconds=300.0, log=log.write)
    assert read(tmp_path / "run.json") == run
    assert len(run.panels) == 2
    assert {record.outcome for record in run.records} == {"ok"}
    left = [one for one in run.skipped if "--within" in one.reason]
    assert left
    assert not {one.case for one in left} & {record.case.id for record in run.records}
    assert (tmp_path / "journal.jsonl").exists()
    text = (tmp_path / LOG).read_text()
    assert f"panel {run.panels[0].id} (process 1): " in text
    assert "were not begun within 300 s" in text
    whole = toy_run(tmp_path, settings=settings, resume=True)
    assert len(whole.panels) == 4
    assert not whole.skipped
    assert whole.records[: len(run.records)] == run.records
    assert not (tmp_path / "journal.jsonl").exists()


def test_the_log_shows_what_cannot_be_seen(tmp_path):
    with Log(tmp_path) as log:
        log.write("two\nlines and \x1b[31mred")
    (line,) = (tmp_path / LOG).read_text().splitlines()
    assert line.endswith(" two lines and \\x1b[31mred")


def cuda_case():
    return Case("carafe_core", "w", "carafe", "triton", {}, "float32", "cuda", "inference")


def test_an_error_that_costs_the_device_ends_the_process(monkeypatch, capfd):
    def lost():
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(torch.cuda, "synchronize", lost)
    monkeypatch.setattr(case_state.os, "_exit", lambda code: (_ for _ in ()).throw(SystemExit(code)))
    with pytest.raises(SystemExit, match=str(case_state.CONTEXT_LOST)):
        case_state.CaseState(cuda_case(), 0).fail(RuntimeError("index out of bounds"))
    assert "RuntimeError: index out of bounds" in capfd.readouterr().err


def test_an_error_that_leaves_the_device_working_is_the_case_s_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    entry = case_state.CaseState(cuda_case(), 0)
    entry.fail(RuntimeError("wrong shape"))
    assert (entry.outcome, entry.message) == ("raised", "RuntimeError: wrong shape")
