"""From processes to a verdict: moderation, correction over rows, decisions."""

import math
import random
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from opbench.statistics.change import (
    LEVEL,
    Allowance,
    Evidence,
    decide,
    detectable,
    holm,
    moderation,
    p_value,
    shifts,
)
from opbench.statistics.shifts import Shift

MINIMUM = math.log1p(0.02)
NONE = Allowance(0.0, 10.0, "none")


def processes(values, error=0.003):
    return tuple(Shift(value, error, 20.0) for value in values)


def family(seed, rows, changed=0.0, replicas=3, unlike=0.7):
    """Rows of paired processes whose spreads differ by row; the first is changed. Verdicts in order."""
    rng = np.random.default_rng(seed)
    evidence = []
    for row in range(rows):
        spread = 0.007 * math.exp(unlike * rng.normal())
        true = math.log1p(changed) if row == 0 else 0.0
        evidence.append(Evidence((), processes(true + rng.normal(0, spread, replicas))))
    found = shifts(evidence, NONE)
    adjusted = holm([p_value(one, MINIMUM) for one in found])
    return [decide(one, p, MINIMUM) for one, p in zip(found, adjusted, strict=True)]


def test_a_family_of_identical_rows_raises_an_alarm_at_most_as_often_as_the_level_says():
    alarms = [any(v in ("regressed", "improved") for v in family(seed, rows=40)) for seed in range(150)]
    assert statistics.fmean(alarms) <= LEVEL


def test_three_processes_of_forty_rows_find_ten_percent():
    found = [family(seed, rows=40, changed=0.10)[0] == "regressed" for seed in range(100)]
    assert statistics.fmean(found) >= 0.9


def test_without_borrowing_three_processes_could_not_survive_the_correction():
    """The very point of moderation: two degrees of freedom against forty rows."""
    rng = np.random.default_rng(0)
    alone = []
    for _ in range(100):
        values = math.log1p(0.10) + rng.normal(0, 0.007, 3)
        one = Shift(values.mean(), values.std(ddof=1) / math.sqrt(3), 2.0)
        alone.append(p_value(one, MINIMUM) * 40 <= LEVEL)
    assert statistics.fmean(alone) < 0.5


def test_moderation_finds_the_common_variance_of_like_rows_and_trusts_it():
    rng = np.random.default_rng(1)
    variances = 4e-4 * rng.chisquare(2, 200) / 2
    common, borrowed = moderation(list(variances), [2] * 200)
    assert common == pytest.approx(4e-4, rel=0.25)
    assert borrowed >= 15


def test_moderation_borrows_less_the_less_rows_agree():
    rng = np.random.default_rng(1)
    alike = 4e-4 * rng.chisquare(2, 200) / 2
    _, much = moderation(list(alike), [2] * 200)
    _, little = moderation(list(alike * np.exp(2 * rng.normal(size=200))), [2] * 200)
    assert little < much / 4


def test_three_rows_borrow_nothing():
    assert moderation([1e-4, 2e-4, 3e-4], [2, 2, 2]) == (0.0, 0.0)


def test_two_runs_of_several_processes_are_students_two_sample_t():
    base, head = [0.10, 0.12, 0.11], [0.30, 0.33, 0.30]
    (found,) = shifts([Evidence(processes(base), processes(head))], NONE)
    expected = stats.ttest_ind(head, base)
    low, high = found.interval()
    assert found.value == pytest.approx(statistics.fmean(head) - statistics.fmean(base))
    assert (low, high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_a_single_process_per_run_is_allowed_for_what_it_cannot_show():
    row = Evidence(processes([0.0]), processes([0.05]))
    (unaware,) = shifts([row], NONE)
    (aware,) = shifts([row], Allowance(0.02, 10.0, "assumed"))
    assert unaware.half_width < 0.01
    assert aware.half_width > 2 * 0.02 * math.sqrt(2) * 0.95
    assert unaware.value == aware.value == pytest.approx(0.05)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_is_never_smaller_than_the_p_value_and_never_larger_than_bonferroni(values):
    for raw, adjusted in zip(values, holm(values), strict=True):
        assert raw <= adjusted <= min(1.0, raw * len(values)) or adjusted == max(holm(values))
    ordered = [adjusted for _, adjusted in sorted(zip(values, holm(values), strict=True))]
    assert ordered == sorted(ordered)


def test_holm_of_a_textbook_family():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_the_p_value_is_uniform_at_the_minimum_effect():
    rng = random.Random(4)
    low = [p_value(Shift(rng.gauss(MINIMUM, 0.004), 0.004, 1e6), MINIMUM) <= 0.05 for _ in range(4000)]
    assert statistics.fmean(low) == pytest.approx(0.05, abs=0.012)


def test_nothing_is_read_from_an_infinite_error_or_no_value():
    assert p_value(Shift(0.5, math.inf, 1.0), MINIMUM) == 1.0
    assert p_value(Shift(math.nan, 0.1, 1.0), MINIMUM) == 1.0
    assert decide(Shift(0.5, math.inf, 1.0), 1.0, MINIMUM) == "undecided"


@pytest.mark.parametrize(
    ("value", "error", "adjusted", "verdict"),
    [
        (0.10, 0.01, 0.001, "regressed"),
        (-0.10, 0.01, 0.001, "improved"),
        (0.10, 0.01, 0.2, "undecided"),  # does not survive the correction
        (0.03, 0.01, 0.001, "undecided"),  # the interval reaches into the minimum effect
        (0.0, 0.005, 1.0, "same"),
        (0.01, 0.004, 1.0, "same"),
        (0.0, 0.05, 1.0, "undecided"),
    ],
)
def test_the_decision(value, error, adjusted, verdict):
    assert decide(Shift(value, error, 1e6), adjusted, MINIMUM) == verdict


def test_what_is_called_detectable_is_found_nine_times_in_ten():
    error = 0.006
    effect = math.log1p(detectable(Shift(0.0, error, 1e6), MINIMUM))
    rng = random.Random(2)
    rows = [Shift(rng.gauss(effect, error), error, 1e6) for _ in range(3000)]
    found = [decide(row, p_value(row, MINIMUM), MINIMUM) == "regressed" for row in rows]
    assert statistics.fmean(found) == pytest.approx(0.9, abs=0.02)
