"""The benchmark of intervals counts what it says that it counts, on runs whose truth is known."""

import interval_coverage as bench
import pytest
from factory import make_case, make_latency, make_record, make_run

CONTENDERS = {"bilinear[torch]": 2.0, "carafe[cpu]": 6.0, "deconv[torch]": 9.0, "bicubic[torch]": 3.0}


def taken(seed, off=1.0):
    """A run of three visits; `off` moves one contender's every sample, as a bias that no visit shows."""
    nearest = make_record(make_case(), latencies=(make_latency(processes=3, seed=f"base/{seed}"),))
    others = [
        make_record(
            make_case(name),
            latencies=(
                make_latency(ratio=ratio * (off if ratio == 9 else 1), processes=3, seed=f"{name}/{seed}"),
            ),
        )
        for name, ratio in CONTENDERS.items()
    ]  # fmt: skip
    return make_run([nearest, *others])


@pytest.fixture(scope="module")
def runs():
    return [taken(seed) for seed in range(8)]


def test_intervals_of_runs_that_differ_by_chance_hold_their_median(runs):
    found = bench.coverage(runs)
    assert found["intervals"] == len(runs) * len(CONTENDERS)
    assert found["held"] >= 0.9
    assert found["missed"] == 0.0
    assert 0 < found["width"] < 0.05


def test_a_run_that_is_off_is_counted_as_missed(runs):
    found = bench.coverage([*runs, taken(99, off=1.3)])
    assert found["missed"] == pytest.approx(1 / found["intervals"])


def test_runs_that_differ_by_chance_are_called_the_same_and_planted_slow_downs_are_found(runs):
    found = bench.changed(runs)
    assert (found["pairs"], found["compared"]) == (28, 28 * len(CONTENDERS))
    assert found["changed"] <= 0.01
    assert bench.found_plants(runs, 20) == {"planted": 20, "found": 1.0}


def test_the_table_has_a_row_for_each_number_of_threads(runs):
    one = {"runs": 8, **bench.coverage(runs), **bench.changed(runs[:2]), **bench.found_plants(runs[:2], 1)}
    assert len(bench.table({1: one, 2: one}).splitlines()) == 4
