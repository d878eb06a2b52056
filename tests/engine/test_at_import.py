"""What a foreign file or an installed package changes of the process when it is imported is put back, and noted."""

import os
from pathlib import Path

import pytest

from opbench.engine.executor import LocalExecutor
from opbench.engine.limits import WorkerLimits
from opbench.engine.run import execute
from opbench.engine.supervisor import Supervisor
from opbench.schema import Case, Panel, Plan, Settings

pytestmark = pytest.mark.nightly

TOYS = str(Path(__file__).parents[1] / "toys.py")
PACKAGE = """
import warnings
import torch
torch.set_grad_enabled(False)
torch.set_num_threads(torch.get_num_threads() + 1)
torch.nn.functional.unfold = lambda *given: None
warnings.simplefilter("ignore", ResourceWarning)
OPERATORS = ()
"""
FILE = """
import torch
from opbench.registry import register_implementation

torch.set_num_threads(torch.get_num_threads() + 2)
torch.set_grad_enabled(False)

@register_implementation("toy", "double", "looks")
def looks(x, weight):
    assert torch.is_grad_enabled() or torch.is_inference_mode_enabled()
    assert torch.get_num_threads() == 1
    assert torch.nn.functional.unfold(torch.ones(1, 1, 2, 2), 2) is not None
    return x * 2 * weight
"""


def installed(folder):
    """A package whose entry point opbench imports, as pip leaves it, found by way of PYTHONPATH."""
    about = folder / "theirs-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[opbench]\ntheirs = their_operators\n")
    (folder / "their_operators.py").write_text(PACKAGE)
    return str(folder)


@pytest.fixture
def record(tmp_path, monkeypatch):
    """Of a contender that looks at what the imports before it have left, in training."""
    (tmp_path / "looks.py").write_text(FILE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([installed(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]))
    files = (TOYS, str(tmp_path / "looks.py"))
    cases = tuple(
        Case(
            task="toy", workload="small", operator="double", implementation=name, dims={"N": 6, "C": 4},
            dtype="float32", device="cpu", mode="training",
        )
        for name in ("right", "looks")
    )  # fmt: skip
    plan = Plan("toy", (Panel(id=cases[0].panel_id, source="made up", baseline="double[right]", cases=cases),), ())
    settings = Settings(suite="toy", precision=0.5, budget_seconds=0.1, extensions=files, share_cpu=True)
    with Supervisor(extensions=files, threads=1, limits=WorkerLimits(step_seconds=60.0)) as supervisor:
        run = execute(
            plan, settings, tmp_path / "out", command="test", progress=lambda done, panel: None,
            executor=LocalExecutor(supervisor),
        )  # fmt: skip
    assert run.records[0].outcome == "ok", run.records[0].message
    return run.records[1]


def test_it_is_put_back_and_noted_for_the_file_and_for_the_package(record):
    assert record.outcome == "ok", record.message
    for said in (
        "importing looks.py changed torch's thread count from 1 to 3; put back",
        "importing looks.py changed whether gradients are recorded from True to False; put back",
        "importing installed packages changed whether gradients are recorded from True to False; put back",
        "importing installed packages changed which warnings are shown; put back",
        "importing installed packages replaced torch.nn.functional.unfold; put back",
    ):
        assert said in record.notes, record.notes
