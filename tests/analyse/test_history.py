"""Series of a case over runs: which runs belong to one, in which order, and what changed where."""

import datetime
import random

import pytest
from factory import make_case, make_counts, make_environment, make_failure, make_latency, make_record, make_run

from opbench.analyse.history.digest import digest
from opbench.analyse.history.series import QUANTITIES, case_ids, series
from opbench.documents import render
from opbench.schema import Artifact

CASE = make_case("carafe[cpu]").id


def run_of(index, record=None, *, ratio=2.0, torch="2.6.0", **changes):
    """A baseline and a contender, `index` hours after the first run; ratios differ by 0.5 % from run to run."""
    noise = random.Random(index).gauss(1, 0.005)
    record = record or make_record(make_case("carafe[cpu]"), ratio=ratio * noise)
    started = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(hours=index)
    environment = make_environment(**{"commit": f"{index:040x}", "versions": {"torch": torch}, **changes})
    return make_run([make_record(make_case()), record], started=started.isoformat(), environment=environment)


def of(runs, **options):
    return series([digest(run, render(run)) for run in runs], **{"case": CASE, **options})


def ratio_of(runs):
    (found,) = of(runs, quantities=("ratio",))
    return found


def test_there_is_one_series_a_quantity_that_was_recorded():
    exported = make_record(make_case("carafe[cpu]"), artifact=Artifact("torch.onnx", 1000, 10, 0.1))
    assert [one.quantity for one in of([run_of(0, exported)])] == list(QUANTITIES)
    assert "artifact_bytes" not in [one.quantity for one in of([run_of(0)])]


def test_points_carry_the_commit_the_ratio_with_its_interval_and_the_outcome():
    point = ratio_of([run_of(0)]).points[0]
    assert point.low < point.value < point.high
    assert point.value == pytest.approx(2.0, rel=0.02)
    assert (point.commit, point.outcome, point.started[:10]) == ("0" * 40, "ok", "2026-01-01")


def test_absolute_seconds_stand_beside_with_their_quartiles():
    (found,) = of([run_of(0)], quantities=("seconds",))
    assert found.points[0].low < found.points[0].value < found.points[0].high
    assert found.points[0].value == pytest.approx(2e-3, rel=0.1)


def test_a_planted_step_is_found_at_its_run_with_what_else_changed_there():
    runs = [
        run_of(index, ratio=2.0 if index < 12 else 2.2, torch="2.6.0" if index < 12 else "2.7.0") for index in range(24)
    ]
    (change,) = ratio_of(runs).changes
    assert change.at == 12
    assert change.ratio == pytest.approx(1.1, rel=0.01)
    assert change.surroundings == ("torch 2.6.0 -> 2.7.0",)


def test_a_machine_that_slows_down_as_a_whole_is_no_change_of_the_ratio():
    def slow(index):
        seconds = 1e-3 if index < 10 else 2e-3
        records = [
            make_record(make_case(), seconds=seconds),
            make_record(make_case("carafe[cpu]"), seconds=seconds, ratio=2),
        ]
        return make_run(records, started=run_of(index).started)

    runs = [slow(index) for index in range(20)]
    assert not ratio_of(runs).changes
    (seconds,) = of(runs, quantities=("seconds",))
    assert [change.at for change in seconds.changes] == [10]


def test_a_failure_is_a_point_without_a_value_that_breaks_no_series():
    runs = [run_of(index, ratio=2.0 if index < 10 else 2.3) for index in range(20)]
    runs[4] = run_of(4, make_failure(make_case("carafe[cpu]"), "crashed"))
    found = ratio_of(runs)
    assert (found.points[4].value, found.points[4].missing) == (None, "crashed")
    assert [change.at for change in found.changes] == [10], "an index of points, failures counted"


def test_a_case_that_fails_in_every_run_has_no_series():
    assert not of([run_of(0, make_failure(make_case("carafe[cpu]"), "crashed"))], quantities=("ratio",))


def test_a_baseline_that_failed_leaves_the_ratio_out_and_says_so():
    run = make_run([make_failure(make_case(), "timed-out"), make_record(make_case("carafe[cpu]"))])
    found = ratio_of([run_of(0), run])
    assert {point.missing for point in found.points} == {"", "baseline timed-out"}


def test_machines_are_never_joined():
    runs = [run_of(0), run_of(1, threads=1), run_of(2)]
    found = of(runs, quantities=("ratio",))
    assert len({one.machine for one in found}) == len(found) == 2
    assert sorted(len(one.points) for one in found) == [1, 2]


def test_timing_methods_are_never_joined():
    other = make_record(make_case("carafe[cpu]"), latencies=(make_latency(method="fallback"),))
    assert [one.method for one in of([run_of(0), run_of(1, other)], quantities=("seconds",))] == [
        "cpu-wall",
        "fallback",
    ]


def test_a_name_that_stood_for_other_dimensions_is_left_out_and_counted():
    wide = make_case("carafe[cpu]", dims={"N": 1, "C": 64, "H": 20, "W": 20})
    found = ratio_of([run_of(0, make_record(wide)), run_of(1), run_of(2)])
    assert (len(found.points), found.redefined) == (2, 1)
    assert found.case.dims["C"] == 256


def test_any_difference_of_a_count_is_a_change():
    runs = [
        run_of(index, make_record(make_case("carafe[cpu]"), counts=make_counts(params=params)))
        for index, params in enumerate((0, 100, 100, 101))
    ]
    (found,) = of(runs, quantities=("params",))
    assert [(change.at, change.before, change.after) for change in found.changes] == [(1, 0, 100), (3, 100, 101)]
    assert found.changes[0].ratio is None, "nothing is a multiple of 0"


def test_a_single_run_is_a_series_of_one_point():
    found = ratio_of([run_of(0)])
    assert len(found.points) == 1
    assert not found.changes


def test_no_runs_are_no_series():
    assert series([]) == ()
    assert case_ids([]) == ()


def test_without_a_case_every_case_has_its_series():
    found = of([run_of(0), run_of(1)], case=None, quantities=("ratio",))
    assert [one.case.contender for one in found] == ["nearest[torch]", "carafe[cpu]"]
