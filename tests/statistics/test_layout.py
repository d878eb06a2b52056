"""How far fresh processes of identical code differ, and what that makes of a change."""

import math
import random

import pytest
from factory import make_case, make_counts, make_latency, make_layout, make_record, make_run, make_selfcheck

from opbench.analyse.compare.runs import compare
from opbench.report.comparison import explanations
from opbench.schema import PAIRED
from opbench.statistics.layout import FEW, KINDS, MANY, SEVERAL, UNSEEN, LayoutFloor, floor_of, floors, kind_of

FEWEST, MOST = {"aten.add": 1}, {"aten.add": 16}


def check(*layouts):
    return make_selfcheck(layouts=layouts)


@pytest.mark.parametrize(
    ("dispatched", "kind"),
    [({}, FEW), ({"a": 3}, FEW), ({"a": 3, "b": 1}, SEVERAL), ({"a": 15}, SEVERAL), (MOST, MANY), (None, UNSEEN)],
)
def test_a_contender_s_kind_is_how_much_it_sends_through_the_dispatcher(dispatched, kind):
    assert kind_of(dispatched) == kind


def test_a_floor_is_the_root_mean_square_of_its_kind():
    found = floors(check(make_layout(MANY, 0.03), make_layout(MANY, -0.04, 1), make_layout(FEW, 0.01)))
    assert list(found) == [FEW, MANY]
    assert found[MANY].deviation == pytest.approx(math.sqrt((0.03**2 + 0.04**2) / 2), rel=0.05)
    assert found[MANY].pairs == 2
    assert floors(check()) == {}


def test_what_scatters_within_a_process_is_no_layout():
    loud = []
    for at in range(40):
        draw = random.Random(at)
        first, second = ([1e5 * math.exp(draw.gauss(0, 0.05)) for _ in range(30)] for _ in range(2))
        loud.append(make_layout(FEW, first_nanoseconds=tuple(first), second_nanoseconds=tuple(second)))
    assert floors(check(*loud))[FEW].deviation < 0.006


def test_disturbed_rounds_are_of_no_floor():
    spoilt = make_layout(FEW, 0.01, left_out=tuple(range(10, 30)))
    times = (*spoilt.second_nanoseconds[:10], *(9 * value for value in spoilt.second_nanoseconds[10:]))
    found = floors(check(make_layout(FEW, 0.01, second_nanoseconds=times, left_out=spoilt.left_out)))
    assert found[FEW].deviation == pytest.approx(0.01, abs=0.002)


def test_a_kind_that_was_not_met_has_the_largest_floor():
    known = {FEW: LayoutFloor(FEW, 0.01, 9), MANY: LayoutFloor(MANY, 0.02, 9)}
    assert floor_of(known, FEWEST) == known[FEW]
    assert floor_of(known, None) == known[MANY]
    assert floor_of({}, FEWEST) is None
    assert set(known) < set(KINDS)


def test_more_processes_make_the_least_difference_smaller_and_two_runs_of_their_own_a_larger_one():
    floor = LayoutFloor(FEW, 0.02, 100)
    assert floor.least(3, paired=True) == pytest.approx(1.984 * 0.02 / math.sqrt(3), rel=1e-3)
    assert floor.least(3, paired=False) == pytest.approx(math.sqrt(2) * floor.least(3, paired=True))


def paired(ratio):
    latency = make_latency(ratio=ratio, seed=f"ratio {ratio}", processes=3, rounds=60, noise=0.002)
    record = make_record(make_case("carafe[cpu]"), latencies=(latency,), counts=make_counts(dispatched=MOST))
    run = make_run([record])
    run.environment.details[PAIRED] = "one and the same"
    return run


@pytest.mark.parametrize(("deviation", "decision"), [(0.001, "regressed"), (0.06, "undecided")])
def test_a_change_within_the_floor_is_no_change(deviation, decision):
    known = floors(check(*(make_layout(MANY, sign * deviation, at) for at, sign in enumerate([1, -1] * 10))))
    found = compare(paired(1.0), paired(1.05), floors=known)
    (time,) = found.rows[0].times
    assert time.decision == decision
    assert (time.least > 0.05) == (decision == "undecided")
    assert ("fresh processes of identical code differ" in " ".join(explanations(found))) == (time.least > 0.05)
