"""What contenders do to the process they run in costs them alone: one run of the worst of them, in real workers."""

import os
from pathlib import Path

import pytest

from opbench.engine.executor import LocalExecutor
from opbench.engine.limits import WorkerLimits
from opbench.engine.run import execute
from opbench.engine.supervisor import Supervisor
from opbench.schema import Case, Panel, Plan, Settings

HERE = Path(__file__).parent
EXTENSIONS = (str(HERE.parent / "toys.py"), str(HERE / "faults.py"))
LIMITS = WorkerLimits(step_seconds=4.0, own_seconds=120.0, memory_bytes=3 << 28)

LOST = {
    # contender: (outcome, what the message says)
    "segfault": ("crashed", "died with SIGSEGV"),
    "abort": ("crashed", "died with SIGABRT (giving up)"),
    "exit": ("crashed", "ended the process, exit code 3"),
    "system-exit": ("crashed", "ended the process, exit code 70"),
    "floods": ("out-of-memory", "(allowed: 0.75 GiB)"),
    "hangs-in-c": ("timed-out", "killed after 4 s without a sign of life"),
    "hangs-in-python": ("timed-out", "killed after 4 s without a sign of life"),
    "segfault-later": ("crashed", "died with SIGSEGV"),
}
WRONG = ("nan", "view", "doubles-in-place", "mutates-later")
DISTURBING = {
    # contender: the note on its record
    "changes-thread-count": "changed torch's thread count from ",
    "changes-dtype": "changed torch's default dtype from torch.float32 to torch.float64; put back",
    # One when it is first built, one when it is built again to be counted.
    "leaves-one-thread": "left 2 of its threads running",
}
HARMLESS = ("also-right", "draws", "prints", "reseeds")


def make_panel(workload, implementations, n=6, c=4):
    """The panel as the planner would lay it out. The contenders are declared in the worker alone, and never here."""
    cases = tuple(
        Case(
            task="toy", workload=workload, operator="double", implementation=name, dims={"N": n, "C": c},
            dtype="float32", device="cpu", mode="inference",
        )
        for name in ("right", *implementations)
    )  # fmt: skip
    return Panel(id=cases[0].panel_id, source="made up", baseline="double[right]", cases=cases)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The run of all of them: the records by workload and implementation."""
    disturbing = ("reseeds", "leaks-threads", "changes-then-raises", *WRONG, *DISTURBING, *HARMLESS[:-1])
    panels = (
        # Twelve GiB by its closed form: this machine may have them, the run is not allowed them.
        make_panel("huge", ("also-right", "raises"), n=1 << 20, c=1 << 10),
        make_panel("deadly", ("also-right", *LOST)),
        make_panel("disturbing", disturbing),
        make_panel("after", ("also-right", "looks-around")),
    )
    laid_out = Plan("toy", panels, ())
    settings = Settings(suite="toy", precision=0.5, budget_seconds=0.1, extensions=EXTENSIONS, share_cpu=True)
    folder = tmp_path_factory.mktemp("faults")
    with Supervisor(extensions=EXTENSIONS, limits=LIMITS) as supervisor:
        run = execute(
            laid_out,
            settings,
            folder,
            command="test",
            progress=lambda done, panel: None,
            executor=LocalExecutor(supervisor),
        )
    assert [record.case.id for record in run.records] == [case.id for panel in run.panels for case in panel.cases]
    assert not list(folder.iterdir())
    return {(record.case.workload, record.case.implementation): record for record in run.records}


@pytest.mark.parametrize("name", LOST)
def test_who_brings_the_worker_down_is_named_with_how(measured, name):
    outcome, said = LOST[name]
    record = measured["deadly", name]
    assert record.outcome == outcome, record.message
    assert said in record.message
    assert not record.latencies


@pytest.mark.parametrize("name", LOST)
def test_the_record_says_in_which_step(measured, name):
    step = "while it was timed" if name == "segfault-later" else "while it was built and called for the first time"
    assert measured["deadly", name].message.endswith(step)


@pytest.mark.parametrize("name", ["right", "also-right"])
def test_the_panel_is_measured_without_the_lost(measured, name):
    record = measured["deadly", name]
    assert record.outcome == "ok", record.message
    assert record.latencies[0].samples_seconds[0]


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_output_or_a_changed_input_is_incorrect(measured, name):
    record = measured["disturbing", name]
    assert record.outcome == "incorrect", (record.outcome, record.message)
    assert not record.latencies


@pytest.mark.parametrize("name", DISTURBING)
def test_what_is_changed_of_the_process_is_put_back_and_noted(measured, name):
    record = measured["disturbing", name]
    assert record.outcome == "ok", record.message
    assert any(note.startswith(DISTURBING[name]) for note in record.notes), record.notes


def test_more_threads_with_every_call_are_a_fault(measured):
    record = measured["disturbing", "leaks-threads"]
    assert record.outcome == "raised", record.message
    assert record.message.startswith("RuntimeError: leaks threads"), record.message


@pytest.mark.parametrize("name", HARMLESS)
def test_the_rest_of_the_panel_notices_nothing(measured, name):
    record = measured["disturbing", name]
    assert (record.outcome, record.notes) == ("ok", ()), record.message


def test_what_was_changed_before_raising_is_put_back_too(measured):
    record = measured["disturbing", "changes-then-raises"]
    assert (record.outcome, record.message) == ("raised", "RuntimeError: worn out")
    assert record.notes == ("changed torch's default dtype from torch.float32 to torch.float64; put back",)


def test_the_next_panel_notices_nothing(measured):
    for name in ("right", "also-right", "looks-around"):
        record = measured["after", name]
        assert (record.outcome, record.notes) == ("ok", ()), record.message


@pytest.mark.parametrize("name", ["right", "also-right"])
def test_a_case_that_is_too_large_is_named_before_it_runs(measured, name):
    record = measured["huge", name]
    assert record.outcome == "out-of-memory"
    # x and the output, 4 GiB each; the product in between lives as long as the output is made.
    assert record.message.startswith("not run: predicted to need 12.00 GiB, and 0.75 GiB are allowed")
    assert (record.memory.predicted, record.memory.peak_bytes) == (True, 8 << 30)


def test_nothing_is_left_running(measured):
    import psutil

    assert not [
        child for child in psutil.Process(os.getpid()).children() if "opbench.engine" in " ".join(child.cmdline())
    ]
