"""Intervals over visits: of nominal 95 % ones how many hold the truth, by simulation at sizes that machines show."""

import math

import numpy as np
import pytest
from factory import make_latency

from opbench.statistics.intervals import interval
from opbench.statistics.ratios import METHODS, ratio
from opbench.statistics.visits import over_visits

TRIALS, VISITS, ROUNDS = 1000, 3, 20
SCATTER_OF_ROUNDS = 0.02


def visits(draw, between, tail):
    """Log-ratios whose truth is 0: each visit is off by its own amount, and rounds have a long upper tail."""
    own = draw.standard_t(3, (VISITS, 1)) / math.sqrt(3) if tail == "heavy" else draw.normal(0, 1, (VISITS, 1))
    rounds = SCATTER_OF_ROUNDS * (draw.exponential(1, (VISITS, ROUNDS)) - math.log(2))
    return between * own + rounds


def bootstrapped(draw, logs, times=100):
    """The percentiles of a hierarchical bootstrap over visits and rounds."""
    chosen = logs[draw.integers(0, VISITS, (times, VISITS))]
    again = np.take_along_axis(chosen, draw.integers(0, ROUNDS, chosen.shape), 2)
    return np.percentile(np.median(again, 2).mean(1), (2.5, 97.5))


@pytest.mark.parametrize("tail", ["normal", "heavy"])
@pytest.mark.parametrize("between", [0.0, 0.002, 0.01, 0.05])
def test_nominal_95_percent_intervals_hold_the_truth(between, tail):
    draw = np.random.default_rng(5)
    found = [over_visits(visits(draw, between, tail).tolist()) for _ in range(TRIALS)]
    assert sum(low <= 0 <= high for low, _, high in found) / TRIALS >= 0.935
    assert all(low <= middle <= high for low, middle, high in found)


def test_a_bootstrap_of_three_visits_or_their_rounds_pooled_would_not():
    draw = np.random.default_rng(6)
    trials, resampled, pooled = 300, 0, 0
    for _ in range(trials):
        logs = visits(draw, SCATTER_OF_ROUNDS, "normal")
        low, high = bootstrapped(draw, logs)
        resampled += low <= 0 <= high
        low, _, high = interval(logs.ravel().tolist())
        pooled += low <= 0 <= high
    assert resampled / trials < 0.85
    assert pooled / trials < 0.7


def test_visits_that_agree_by_luck_claim_no_more_than_their_rounds():
    rounds = [-0.03, -0.02, -0.01, 0.0, 0.01, 0.02, 0.03]
    low, middle, high = over_visits([rounds] * 3)
    alone_low, _, alone_high = interval(rounds)
    assert middle == 0.0
    assert high == pytest.approx(alone_high / math.sqrt(3))
    assert low == pytest.approx(alone_low / math.sqrt(3))


def test_without_any_noise_the_interval_is_the_figure():
    assert over_visits([[0.5] * 8] * 3) == (0.5, 0.5, 0.5)


def test_visits_of_a_single_round_stand_for_themselves():
    low, middle, high = over_visits([[0.1], [0.2], [0.3]])
    assert middle == pytest.approx(0.2)
    assert high - middle == pytest.approx(4.303 * 0.1 / math.sqrt(3), rel=1e-3)
    assert low == pytest.approx(2 * middle - high)


def test_one_visit_in_another_phase_widens_the_interval_and_leaves_the_figure():
    low, middle, high = over_visits([[0.0] * 8, [0.0] * 8, [0.5] * 8])
    assert middle == 0.0
    assert low < 0.0 < 0.5 < high


@pytest.mark.parametrize("given", [[], [[0.1] * 8]])
def test_fewer_than_two_visits_have_no_interval(given):
    with pytest.raises(ValueError, match="at least two"):
        over_visits(given)


def test_the_only_visit_of_several_is_called_so():
    alone = make_latency(samples_seconds=((2.0,) * 8, (), ()))
    found = ratio(alone, make_latency(samples_seconds=((1.0,) * 8, (1.0,) * 8, (1.0,) * 8)))
    assert (found.method, found.processes) == ("one-visit", 1)
    assert "another visit may lie outside" in METHODS[found.method]
    assert "another visit may lie outside" in METHODS["order-statistics"]
