"""A run is planned where people's files can do no harm: whatever they do on import is named, and nothing is green."""

import sys

import pytest

from opbench.engine import planner
from opbench.engine.planner import LaidOut, planned
from opbench.run_request import RunRequest
from opbench.schema import OpbenchError

SUITE = """
[[workload]]
task = "carafe_core"
name = "small"
source = "made up"
devices = ["cpu"]
dims = { N = 1, C = 16, H = 6, W = 6 }
contenders = ["carafe[unfold]"]
"""
GOOD = """
from opbench.registry import register_implementation
@register_implementation("carafe_core", "carafe", "mine")
def mine(x, mask, **options): ...
"""


@pytest.fixture
def request_for(tmp_path):
    (tmp_path / "suite.toml").write_text(SUITE)

    def make(text, **more):
        (tmp_path / "given.py").write_text(text)
        return RunRequest(suite=str(tmp_path / "suite.toml"), extensions=(str(tmp_path / "given.py"),), **more)

    return make


def test_this_process_does_not_import_what_it_plans_with(request_for):
    found = planned(request_for(GOOD + "import sys; sys.opbench_was_here = True\n"))
    assert isinstance(found, LaidOut)
    assert [case.implementation for case in found.plan.panels[0].cases] == ["unfold", "mine"]
    assert not hasattr(sys, "opbench_was_here")


DEADLY = {
    "import ctypes; ctypes.CDLL(None)._exit(0)": "ended the process, exit code 0",
    "import ctypes; ctypes.string_at(0)": "died with SIGSEGV",
    "import time; time.sleep(1000)": "killed after 1 s without a sign of life (the limit",
}


@pytest.mark.parametrize(
    "text", [*list(DEADLY)[:1], *(pytest.param(t, marks=pytest.mark.nightly) for t in list(DEADLY)[1:])]
)
def test_a_file_that_ends_or_holds_up_the_process_is_named(request_for, text):
    with pytest.raises(OpbenchError, match=r"--with .*given\.py: importing it: its process ") as raised:
        planned(request_for(text, timeout=1.0))
    assert DEADLY[text] in str(raised.value)


@pytest.mark.parametrize(
    "text",
    ["import sys; sys.exit(0)", "import os; os._exit(0)", "raise BaseExceptionGroup('g', [KeyboardInterrupt()])"],
)
def test_a_file_that_exits_is_an_error(tmp_path, text):
    from opbench import registry

    (tmp_path / "exits.py").write_text(text)
    with pytest.raises(OpbenchError, match=r"importing it raised (SystemExit: 0|BaseExceptionGroup)"):
        registry.load_file(str(tmp_path / "exits.py"))


def test_where_nobody_s_code_is_asked_for_no_child_is_needed(request_for, monkeypatch):
    monkeypatch.setattr(planner, "Child", None)
    request = RunRequest(suite="smoke")
    assert planned(request).plan.panels


class EntryPoint:
    """One that an installed package has declared."""

    name, value, dist = "theirs", "their.module", None

    def load(self):
        raise SystemExit(0)


def test_an_entry_point_that_can_not_be_loaded_is_named_and_left_out(monkeypatch):
    from opbench import registry

    monkeypatch.setattr(registry, "_broken", {})
    registry.load_entry_point(EntryPoint())
    assert registry.broken_so_far() == [
        "package their.module: its entry point 'theirs' can't be loaded and is left out: SystemExit: 0"
    ]
