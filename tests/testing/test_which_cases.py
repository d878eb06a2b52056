"""Which cases a test goes through, and that each is proven before it is timed."""

import dataclasses

import pytest
import torch
from torch import nn

from opbench import registry
from opbench.operators.carafe import CARAFE, IMPLEMENTATIONS
from opbench.schema import OpbenchError
from opbench.testing import ProvenCase, cases
from opbench.testing.planning import of_marker, of_suite

TINY = {"tiny": {"N": 1, "C": 4, "H": 5, "W": 6}}
CORE = "carafe_core/tiny/float32/cpu/inference"
SLOT = "upsample2x/tiny/float32/cpu/inference"


@pytest.fixture(autouse=True)
def _declared_for_one_test(monkeypatch):
    registry.load()
    monkeypatch.setattr(registry, "_operators", dict(registry._operators))


def mine(x, mask, **options):
    return IMPLEMENTATIONS["shift-add"].function(x, mask, **options)


def darker(x, mask, **options):
    return mine(x, mask, **options) * 0.99


class Renamed(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.inner = CARAFE(channels)

    def forward(self, x):
        return self.inner(x)


def planned(operator, **asked):
    mark = cases(operator, **{"workloads": TINY, "modes": ("inference",), **asked}).mark
    return of_marker(*mark.args, **mark.kwargs)


def the_case(*asked, **more):
    (one,) = planned(*asked, **more)
    return ProvenCase(one.case)


def test_the_decorator_is_a_mark_that_says_what_was_asked_for():
    mark = cases("carafe", core=mine, workloads=TINY).mark
    assert mark.name == "opbench_cases"
    assert [one.id for one in of_marker(*mark.args, **mark.kwargs)] == [
        f"carafe_core/tiny/float32/cpu/{mode}/carafe[mine]" for mode in ("inference", "training")
    ]


def test_a_core_is_held_to_its_operator_s_definition():
    case = the_case("carafe", core=mine)
    assert case.id == f"{CORE}/carafe[mine]"
    assert case.prove().verdict.correct
    assert case()["output"].shape == (1, 4, 10, 12)


def test_a_wrong_core_fails_and_is_never_called_as_if_it_were_timed():
    case = the_case("carafe", core=darker)
    with pytest.raises(AssertionError, match=r"carafe\[darker\] is incorrect and is not timed: output\["):
        case.prove()
    with pytest.raises(RuntimeError, match="is not proven"):
        case()


def test_a_core_is_put_into_the_slot_s_module_where_that_is_asked_for():
    assert the_case("carafe", core=mine, task="upsample2x").id == f"{SLOT}/carafe[mine]"


def test_a_module_is_held_to_the_operator_s_definition():
    def make(dims):
        return CARAFE(dims["C"], implementation="shift-add")

    case = the_case("carafe", module=make, name="pasted")
    assert case.id == f"{SLOT}/pasted[torch]"
    assert case.prove().verdict.correct


def test_a_module_of_other_parameters_is_told_so():
    case = the_case("carafe", module=lambda dims: Renamed(dims["C"]), name="renamed")
    with pytest.raises(
        AssertionError, match=r"Renamed: its state dict is not that of carafe: it lacks .*opbench_check"
    ):
        case.prove()


def test_one_implementation_or_all_of_an_operator():
    assert [one.id for one in planned("carafe[cpu]", task="carafe_core")] == [f"{CORE}/carafe[cpu]"]
    every = {one.id for one in planned("carafe", task="carafe_core")}
    known = registry.operator("carafe_core", "carafe").implementations
    assert {f"{CORE}/carafe[{name}]" for name in known} == every


def test_an_operator_of_one_s_own_is_declared_once():
    known = registry.operator("upsample2x", "nearest")
    own = dataclasses.replace(known, name="my-nearest", title="")
    assert [one.id for one in planned(own)] == [one.id for one in planned(own)] == [f"{SLOT}/my-nearest[torch]"]


def test_what_can_t_run_here_is_skipped_with_its_reason():
    (one,) = planned("carafe[triton]", task="carafe_core", devices=("cpu",))
    assert one.case is None
    assert one.skipped == "carafe[triton] runs on cuda only"


def test_a_suite_s_cases_are_all_there():
    assert {one.id for one in of_suite("smoke")} >= {"carafe_core/32x12x12/float32/cpu/inference/carafe[unfold]"}


@pytest.mark.parametrize(
    ("operator", "asked", "said"),
    [
        ("carafee", {}, "unknown operator 'carafee'; did you mean 'carafe'?"),
        ("carafe[fast]", {}, "operator 'carafe' has no implementation 'fast' here"),
        ("carafe[cpu]", {"core": mine}, "is an implementation already"),
        ("carafe", {"core": mine, "module": Renamed}, "give one of them"),
        ("carafe", {"core": mine, "workloads": {"a": {"N": 1}}}, "C, H, W missing"),
        ("carafe", {"core": mine, "name": "a/b"}, "expected a word without"),
        ("carafe", {"core": mine, "suite": "yolov8", "workloads": None}, "has no workload of task carafe_core"),
    ],
)
def test_wrong_usage_is_said_in_a_sentence(operator, asked, said):
    with pytest.raises(OpbenchError) as caught:
        planned(operator, **asked)
    assert said in str(caught.value)


def test_a_name_that_another_function_has_is_told_apart_by_its_module():
    other = type(mine)(mine.__code__, mine.__globals__, "mine", mine.__defaults__, mine.__closure__)
    assert the_case("carafe", core=mine).id == the_case("carafe", core=mine).id == f"{CORE}/carafe[mine]"
    assert the_case("carafe", core=other).id == f"{CORE}/carafe[{__name__}.mine]"


def test_random_numbers_of_the_test_stay_as_they_are():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    the_case("carafe", core=mine).prove()
    assert torch.equal(torch.rand(3), expected)


class Benchmark:
    """A fixture `benchmark` that keeps no rounds, as pytest-codspeed's."""

    def __init__(self):
        self.extra_info, self.calls = {}, 0

    def __call__(self, work):
        self.calls += 1
        return work()


def test_what_is_timed_is_proven_counted_and_judged_once_more():
    case, benchmark = the_case("carafe", core=mine), Benchmark()
    case.time(benchmark)
    assert benchmark.calls == 1
    assert benchmark.group == CORE
    assert benchmark.extra_info["case"] == case.id
    assert benchmark.extra_info["macs"] == 4 * 25 * 10 * 12


class Tires:
    """Right for the first calls, and then the same answer without work."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x, mask, **options):
        self.calls += 1
        out = mine(x, mask, **options)
        return out if self.calls < 12 else torch.zeros_like(out)


def test_who_is_wrong_once_the_clock_runs_fails():
    class Long(Benchmark):
        def __call__(self, work):
            return [work() for _ in range(12)][-1]

    case = the_case("carafe", core=Tires(), name="tires")
    with pytest.raises(AssertionError, match="is incorrect after it was timed"):
        case.time(Long())
