"""How far within its bound the worst element was: of a comparison, of a search, and in `opbench check --json`."""

import json
import math

import pytest
import torch
from hypothesis import strategies as st
from in_process import CheckingHere

from opbench.commands.check import CheckRequest
from opbench.commands.check import check as command
from opbench.conformance import check as checking
from opbench.conformance.check import check
from opbench.conformance.comparing import close, collecting, run, same, within
from opbench.conformance.findings import Conformance, Limits, Request, Result, plain
from opbench.conformance.search import search
from opbench.relations import Example, Relation, Space, Violation
from opbench.report.conformance import as_json
from opbench.schema import Terms
from opbench.verify.bounds import allowed

ONE = Example({"x": torch.ones(3)}, {})
TERMS = Terms(torch.ones(3, dtype=torch.float64), 1)
BOUND = float(allowed(TERMS, "float64")[0])


def off_by(share):
    """Ones of which the second is off by this share of the bound."""
    return torch.ones(3, dtype=torch.float64) + torch.tensor([0.0, share * BOUND, 0.0], dtype=torch.float64)


def collected(work):
    ratios = []
    with collecting(ratios):
        work()
    return ratios


def test_a_comparison_tells_the_largest_error_over_its_bound():
    expected = torch.ones(3, dtype=torch.float64)
    (ratio,) = collected(lambda: close(off_by(0.5), expected, TERMS, ONE, sides=1))
    assert ratio == pytest.approx(0.5, abs=0.2)  # the bound is a few eps, and so is the spacing of float64 there
    (of_two,) = collected(lambda: close(off_by(0.5), expected, TERMS, ONE))
    assert of_two == ratio / 2
    assert collected(lambda: close(expected, expected, TERMS, ONE)) == [0.0]


def test_a_comparison_that_fails_tells_it_too():
    def beyond(value):
        with pytest.raises(Violation):
            close(value, torch.ones(3, dtype=torch.float64), TERMS, ONE, sides=1)

    (ratio,) = collected(lambda: beyond(off_by(4.0)))
    assert ratio == pytest.approx(4.0, abs=0.2)
    assert collected(lambda: beyond(off_by(math.nan))) == [math.inf]


def test_a_scalar_whose_bound_is_put_together_tells_it():
    def compared(allowed):
        within(torch.tensor(1.25), torch.tensor(1.0), torch.tensor(allowed), ONE, "sum")

    assert collected(lambda: compared(0.5)) == [0.5]


def test_what_compares_exactly_or_nothing_tells_nothing():
    empty = torch.ones(0)
    assert collected(lambda: same(torch.ones(3), torch.ones(3), ONE)) == []
    assert collected(lambda: close(empty, empty, Terms(empty.double(), 1), ONE)) == []


def test_a_comparison_is_told_to_the_innermost_collector_alone():
    expected = torch.ones(3, dtype=torch.float64)
    inner = []

    def work():
        close(expected, expected, TERMS, ONE)
        inner.extend(collected(lambda: close(off_by(0.5), expected, TERMS, ONE)))
        close(expected, expected, TERMS, ONE)

    assert collected(work) == [0.0, 0.0]
    assert len(inner) == 1
    assert inner[0] > 0


def relation(compare, kind="bounded"):
    def draws(space):
        return st.builds(lambda size: Example({"x": torch.ones(size, dtype=torch.float64)}, {}), st.integers(1, 3))

    def holds(core, example):
        expected = example.tensors["x"]
        if compare == "exact":
            same(run(core, example), expected, example)
        else:
            close(run(core, example), expected, Terms(expected.clone(), 1), example, sides=1)

    return Relation("identity", kind, "core(x) = x", holds, draws)


def searched(core, compare="bounded"):
    return search(relation(compare), core, Space("float64"), examples=20, seed=0)


def test_a_search_tells_the_worst_of_all_its_examples():
    def worse_for_two(x):
        return x + (0.5 if x.numel() == 2 else 0.25) * BOUND

    done = searched(worse_for_two)
    assert done.finding is None
    assert done.worst_ratio == pytest.approx(0.5, abs=0.2)
    assert done.worst_ratio > searched(lambda x: x + 0.25 * BOUND).worst_ratio
    assert searched(lambda x: x.clone()).worst_ratio == 0.0
    assert searched(lambda x: x.clone(), "exact").worst_ratio is None


def test_a_search_that_convicts_tells_how_far_beyond_the_bound():
    assert searched(lambda x: x + 100 * BOUND).worst_ratio == pytest.approx(100, rel=0.01)
    assert searched(lambda x: x * math.nan).worst_ratio == math.inf


# --- The command ------------------------------------------------------------------------------------------------

TARGETS = """
from opbench.operators.carafe.cores import shift_add

def right(x, mask, *, kernel_size, group_size, scale_factor):
    return shift_add(x, mask, kernel_size=kernel_size, group_size=group_size, scale_factor=scale_factor)

def empty(x, mask, **options):
    return right(x, mask, **options) * float("nan")

def off(x, mask, **options):
    return right(x, mask, **options) * 1.001
"""
LIMITS = Limits(
    examples=4, further_examples=2, search_seconds=20.0, shrink_seconds=1.0, call_seconds=20.0, import_seconds=120.0,
    faults=1,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _by_this_process(monkeypatch):
    """No other imports torch first."""
    monkeypatch.setattr(checking, "Child", CheckingHere)


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    path = tmp_path_factory.mktemp("targets") / "mine.py"
    path.write_text(TARGETS)
    return path


def run_check(target, limits=None, **asked):
    """The command's body; its exit code."""
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in asked.items()}
    return command(CheckRequest(target=target, **given), limits)


def test_json_has_the_worst_ratio_of_each_relation_and_of_all(targets, capfd):
    only = ["definition", "definition-gradients", "repeatable", "adjointness"]
    asked = {"operator": "carafe", "only": only, "dtype": ["float32", "bfloat16"], "as_json": True}
    assert run_check(f"{targets}:right", **asked, limits=LIMITS) == 0
    document = json.loads(capfd.readouterr().out)
    found = {(result["property"], result["dtype"]): result["worst_ratio"] for result in document["results"]}
    assert len(found) == 8
    for (name, _), ratio in found.items():
        assert ratio is None if name == "repeatable" else 0 <= ratio <= 1
    assert set(document["worst_ratios"]) == set(only)
    assert document["worst_ratios"]["repeatable"] is None
    for name in ("definition", "definition-gradients", "adjointness"):
        assert document["worst_ratios"][name] == max(found[name, "float32"], found[name, "bfloat16"])
    assert document["worst_ratio"] == max(ratio for ratio in found.values() if ratio is not None)
    assert document["worst_ratio"] > 0


def test_a_relation_that_fails_has_its_ratio_and_an_infinite_one_stays_infinite(targets):
    def of(name):
        request = Request(f"{targets}:{name}", "carafe", only=("definition",), dtypes=("float32",))
        return check(request, LIMITS)

    (off,) = of("off").results
    assert off.status == "fails"
    assert 1 < off.worst_ratio < math.inf
    empty = of("empty")
    assert empty.results[0].worst_ratio == math.inf
    assert json.loads(as_json(empty))["worst_ratio"] == "Infinity"


def test_a_module_has_the_worst_ratio_of_output_and_gradients(capfd):
    asked = {"operator": "carafe", "arg": ["c=8"], "dtype": ["float32"], "as_json": True}
    assert run_check("opbench.operators.carafe:YoloCARAFE", **asked, limits=LIMITS) == 0
    ratios = json.loads(capfd.readouterr().out)["worst_ratios"]
    assert ratios["state-dict"] is None
    assert 0 < ratios["evaluation"] <= 1
    assert 0 < ratios["training"] <= 1


def test_a_check_in_which_nothing_was_compared_has_no_ratio():
    died = Result("definition", "core = definition", "float32", "died", message="died with SIGSEGV")
    nothing = Conformance(Request("a.py:f", "carafe"), "carafe (function)", (died,), (), "", (), 1.0)
    assert nothing.worst_ratio is None
    assert nothing.worst_ratios == {"definition": None}


def test_what_json_has_no_number_for_is_a_string_wherever_it_stands():
    given = {"a": [math.inf, (1, -math.inf)], "b": {"c": math.nan}, "d": 1.5, "e": None}
    assert plain(given) == {"a": ["Infinity", [1, "-Infinity"]], "b": {"c": "NaN"}, "d": 1.5, "e": None}
