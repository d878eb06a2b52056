"""The one console: how wide it is, how much it says, and that progress keeps its times."""

import io

import pytest
from factory import make_run
from rich.console import Console

from opbench.options import loudness
from opbench.plural import counted
from opbench.report import screen as screens
from opbench.report.screen import print_plan, screen, status
from opbench.run_request import RunRequest
from opbench.schema import OpbenchError, Plan, Skipped

LONG = "upsample2x/a-workload-with-a-long-name-of-its-own/float32/cpu/inference"


@pytest.mark.parametrize(("columns", "width"), [("60", 60), ("", 160), ("no number", 160), ("0", 160), ("300", 300)])
def test_a_pipe_is_as_wide_as_columns_says(monkeypatch, capsys, columns, width):
    monkeypatch.setenv("COLUMNS", columns)
    screen().table(("name", "why"), [("a", "word " * 100)])
    assert width - 5 <= max(map(len, capsys.readouterr().out.splitlines())) <= width


@pytest.mark.parametrize("width", [80, 120])
def test_progress_keeps_its_times_and_counts(width):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    with screens._Rich(console, "usual").progress(120, "panel", "yardsticks") as told:
        told(17, LONG)
        console.file.truncate(0)
    shown = console.file.getvalue()
    assert " 17/120 panels 0:00:0" in shown
    assert "left" in shown
    assert "inference" in shown
    assert all(len(line) <= width for line in shown.replace("\r", "\n").splitlines() if line.isprintable())


def test_quietly_nothing_is_said_beside_the_answer(capsys):
    notes = screen(loudness="quiet")
    notes.line("a note")
    notes.table(("a",), [("b",)])
    with notes.progress(2, "panel", "first") as told:
        told(1, "second")
    with status("loading", piped=True, loudness="quiet") as told:
        told("step")
    assert capsys.readouterr() == ("", "")


def test_verbosely_each_step_is_a_line(capsys):
    with screen(loudness="verbose").progress(2, "panel", "first") as told:
        told(1, "second")
        told(2, "")
    with status("loading", loudness="verbose") as told:
        told("step")
    assert capsys.readouterr() == ("0 of 2 panels: first\n1 of 2 panels: second\n", "loading\nstep\n")


def test_usually_a_pipe_hears_of_no_step(capsys):
    with status("loading") as told:
        told("step")
    assert capsys.readouterr() == ("", "")


def test_quiet_and_verbose_together_are_wrong_usage():
    assert loudness(RunRequest(quiet=True)) == "quiet"
    assert loudness(RunRequest(verbose=True)) == "verbose"
    assert loudness(RunRequest()) == "usual"
    with pytest.raises(OpbenchError, match="choose one"):
        loudness(RunRequest(quiet=True, verbose=True))


def test_one_is_no_plural(capsys):
    run = make_run()
    print_plan(screen(), Plan("mine", run.panels[:1], (Skipped("a/b", "no device"),)))
    shown = capsys.readouterr().out
    assert "suite mine: 1 panel\n" in shown
    assert "1 case skipped" in shown
    assert counted(1, "case") == "1 case"
    assert counted(0, "case") == "0 cases"
