"""Whoever strikes later, from another thread or another process is convicted, and nobody else is: real workers."""

import re
from pathlib import Path

import psutil
import pytest

from opbench.engine.executor import LocalExecutor
from opbench.engine.limits import WorkerLimits
from opbench.engine.run import execute
from opbench.engine.supervisor import Supervisor
from opbench.schema import Case, Panel, Plan, Settings

pytestmark = pytest.mark.nightly

HERE = Path(__file__).parent
EXTENSIONS = (str(HERE.parent / "toys.py"), str(HERE / "strikes.py"))
# contender: (its outcome, what its message or its notes say)
STRUCK = {
    "exits-later": ("crashed", "ended the process, exit code 0"),
    "crashes-later": ("crashed", "died with SIGSEGV"),
    "leaves-a-daemon": ("ok", "left 1 of its processes running; ended"),
    "interrupts": ("ok", "changed what is done on a signal; put back"),
    "burns": ("crashed", "of its threads at work,"),
    "leaves-no-files": ("ok|crashed|raised", "changed the system's limits|system's limits"),
    "kills-the-server": ("crashed", "died with SIGKILL"),
    "makes-meta": ("ok|raised|unsupported|incorrect", "changed torch's default device from None to meta; put back"),
    "forks": ("ok", "right"),
    "mute": ("raised", re.escape("Mute: (an error that can't be printed)")),
    "verbose": ("raised", "RuntimeError: A{2000} "),
}


def a_panel(name):
    """The panel as the planner would lay it out. The contenders are declared in the worker alone, and never here."""
    cases = tuple(
        Case(
            task="toy", workload=f"beside {name}", operator="double", implementation=implementation,
            dims={"N": 6, "C": 4}, dtype="float32", device="cpu", mode="inference",
        )
        for implementation in ("right", name, "also-right")
    )  # fmt: skip
    return Panel(id=cases[0].panel_id, source="made up", baseline="double[right]", cases=cases)


@pytest.fixture(scope="module")
def struck(tmp_path_factory):
    """One run of all of them, a panel each: the records by panel and implementation."""
    laid_out = Plan("toy", tuple(map(a_panel, STRUCK)), ())
    settings = Settings(
        suite="toy", precision=0.5, budget_seconds=1.5, least_rounds=8, extensions=EXTENSIONS, share_cpu=True
    )
    limits = WorkerLimits(step_seconds=20.0, own_seconds=300.0)
    folder = tmp_path_factory.mktemp("strikes")
    with Supervisor(extensions=EXTENSIONS, limits=limits) as supervisor:
        run = execute(
            laid_out,
            settings,
            folder,
            command="test",
            progress=lambda done, panel: None,
            executor=LocalExecutor(supervisor),
        )
    assert not psutil.Process().children(recursive=True)
    return {(record.case.workload, record.case.implementation): record for record in run.records}


@pytest.mark.parametrize("name", STRUCK)
def test_it_costs_itself(struck, name):
    outcome, said = STRUCK[name]
    record = struck[f"beside {name}", name]
    assert re.fullmatch(outcome, record.outcome), record.message
    if said != "right":
        assert re.search(said, " ".join((record.message, *record.notes))), (record.message, record.notes)
    assert len(record.message) < 5000


@pytest.mark.parametrize("name", STRUCK)
def test_it_costs_nobody_else(struck, name):
    for innocent in ("right", "also-right"):
        record = struck[f"beside {name}", innocent]
        assert record.outcome == "ok", (innocent, record.message)
        assert not record.notes
