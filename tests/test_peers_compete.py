"""Operators of installed packages compete wherever a suite lists their operator, or the reason is printed."""

from dataclasses import replace

import pytest

from opbench import plan, registry, suites
from opbench.contenders import contenders, peers_left_out
from opbench.schema import Implementation, OpbenchError

SUITE = """
[contenders]
carafe_core = [{listed}]

[[workload]]
task = "carafe_core"
name = "small"
source = "made up"
dims = {{ N = 1, C = 4, H = 4, W = 4 }}
devices = ["cpu"]
"""


@pytest.fixture(autouse=True)
def peer(monkeypatch):
    """A package's operator, as if it were installed."""
    registry.load()
    key = ("carafe_core", "carafe")
    carafe = registry._operators[key]
    theirs = Implementation("theirs", carafe.implementations["unfold"].function, package="theirs")
    monkeypatch.setitem(
        registry._operators, key, replace(carafe, implementations={**carafe.implementations, "theirs": theirs})
    )


def suite(*listed):
    text = SUITE.format(listed=", ".join(f'"{name}"' for name in listed))
    return suites.parse(text, "mine", where="mine.toml")


def competing(*listed, **filters):
    found = plan.plan(suite(*listed), filters, cuda=False)
    return {case.contender for panel in found.panels for case in panel.cases if case.mode == "inference"}


def test_it_competes_where_the_suite_says_nothing_of_it():
    assert competing("carafe[shift-add]") == {"carafe[unfold]", "carafe[shift-add]", "carafe[theirs]"}


@pytest.mark.parametrize("left_out", ["-peers", "-carafe[theirs]"])
def test_a_suite_may_leave_it_out(left_out):
    assert competing("carafe[shift-add]", left_out) == {"carafe[unfold]", "carafe[shift-add]"}
    whole = competing("carafe", left_out)
    assert "carafe[theirs]" not in whole
    assert "carafe[shift-add]" in whole


@pytest.mark.parametrize("left_out", ["-peers", "-carafe[theirs]"])
def test_what_is_left_out_is_added_by_name(left_out):
    assert "carafe[theirs]" in competing("carafe[shift-add]", left_out, implementation=["theirs"])


def test_what_is_listed_by_name_competes_beside_others_that_are_left_out():
    assert "carafe[theirs]" in competing("carafe[shift-add]", "carafe[theirs]?", "-peers")


def test_where_its_operator_is_not_listed_it_does_not_compete():
    assert not contenders(suite("carafe[unfold]"), {"operator": ["dcnv3"]})["carafe_core"]


def test_it_is_no_graph_for_another_runtime():
    assert "carafe[theirs]" not in competing("carafe[shift-add]", runtime=["torchscript"])


def test_why_it_does_not_compete_is_said():
    assert list(peers_left_out(suite("carafe[shift-add]", "-peers"), {})) == [
        "installed, and left out by suite 'mine': carafe[theirs] (--implementation theirs adds them)"
    ]
    assert not list(peers_left_out(suite("carafe[shift-add]"), {}))
    assert not list(peers_left_out(suite("carafe[shift-add]", "-peers"), {"implementation": ["unfold"]}))


def test_an_unknown_operator_is_left_out_by_nobody():
    with pytest.raises(OpbenchError, match="did you mean 'carafe'"):
        competing("-caraf[theirs]")


def test_the_suites_that_are_no_contest_with_packages_leave_them_out():
    for name in ("kernels", "sampling", "offsets", "sweep"):
        assert all("-peers" in workload.contenders for workload in suites.load(name).workloads), name
    for name in ("default", "smoke", "yolov8"):
        assert not any("-peers" in workload.contenders for workload in suites.load(name).workloads), name
