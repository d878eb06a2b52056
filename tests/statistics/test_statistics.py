"""Ratios and their intervals, from raw samples."""

import math
import random
import statistics

import msgspec
import numpy as np
import pytest
from factory import make_latency
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from opbench.statistics.ratios import METHODS, interval, paired_log_ratios, quartiles, ratio, usable_samples

BASELINE = make_latency(1e-3, seed="baseline")


def latency(*processes, method="cpu-wall"):
    return make_latency(samples_seconds=tuple(map(tuple, processes)), method=method)


def test_a_ratio_of_known_samples():
    found = ratio(latency([2.0, 4.0, 6.0, 8.0, 10.0, 12.0]), latency([1.0] * 6))
    assert found.value == pytest.approx(math.sqrt(6 * 8))
    assert (found.low, found.high) == (pytest.approx(2), pytest.approx(12))
    assert (found.rounds, found.processes, found.method) == (6, 1, "order-statistics")


def test_pairing_cancels_what_moves_both_contenders_of_a_round():
    drifting = make_latency(1e-3, ratio=2.0, drift=1.0, noise=0.0)
    found = ratio(drifting, make_latency(1e-3, drift=1.0, noise=0.0))
    assert found.low == pytest.approx(2.0)
    assert found.high == pytest.approx(2.0)
    spread = quartiles(drifting)
    assert spread.upper_seconds > 1.5 * spread.lower_seconds, "the machine did drift"


@pytest.mark.parametrize(("rounds", "method"), [(1, "one-round"), (2, "range"), (5, "range"), (6, "order-statistics")])
def test_the_method_says_how_much_its_interval_is_worth(rounds, method):
    ours = latency([1.0 + i for i in range(rounds)])
    found = ratio(ours, latency([1.0] * rounds))
    assert found.method == method
    assert method in METHODS


def test_a_single_round_claims_no_precision():
    found = ratio(latency([3.0]), latency([1.0]))
    assert (found.low, found.high) == (0.0, math.inf)


def test_few_rounds_give_their_full_range():
    assert interval([0.1, 0.5, 0.2, 0.4]) == (0.1, pytest.approx(0.3), 0.5)


def test_an_interval_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one round"):
        interval([])


@pytest.mark.parametrize("rounds", [6, 7, 20, 100, 999, 1000, 3000])
def test_the_ranks_of_the_interval_are_those_of_the_binomial_distribution(rounds):
    low, _, high = interval(list(range(rounds)))
    outside = int(low)
    assert high == rounds - 1 - outside
    assert 2 * stats.binom.cdf(outside, rounds, 0.5) <= 0.05 < 2 * stats.binom.cdf(outside + 1, rounds, 0.5)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=60))
def test_an_interval_holds_its_median(values):
    low, middle, high = interval(values)
    assert low <= middle <= high
    assert middle == statistics.median(values)


def test_the_interval_of_one_process_covers_the_truth_95_percent_of_the_time():
    draw = random.Random(1)
    trials = 800
    for rounds in (8, 25):
        # Heavy upper tail, as interrupted samples have; its median is exactly 0.
        samples = ([draw.expovariate(1) - math.log(2) for _ in range(rounds)] for _ in range(trials))
        covered = sum(low <= 0 <= high for low, _, high in map(interval, samples))
        assert covered / trials > 0.935


def several_processes(draw, processes, rounds, between, within):
    """Log-ratios whose truth is 0, where each process is off by its own amount."""
    return draw.normal(0, between, (processes, 1)) + draw.normal(0, within, (processes, rounds))


@pytest.mark.parametrize("between", [0.0, 0.01, 0.1])
def test_the_interval_over_processes_covers_the_truth_however_much_processes_differ(between):
    draw, trials, covered, pooled = np.random.default_rng(2), 600, 0, 0
    for _ in range(trials):
        logs = several_processes(draw, 3, 12, between, within=0.02)
        found = ratio(latency(*np.exp(logs)), latency(*np.ones_like(logs)))
        covered += found.low <= 1 <= found.high
        low, _, high = interval(logs.ravel().tolist())
        pooled += low <= 0 <= high
    assert found.method == "process-medians"
    assert covered / trials > 0.93
    if between == 0.1:
        assert pooled / trials < 0.7, "pooling rounds would claim a precision that processes do not have"


def test_several_processes_are_reported_as_such():
    found = ratio(make_latency(ratio=3.0, processes=3, seed="ours"), make_latency(processes=3, seed="theirs"))
    assert (found.processes, found.rounds) == (3, 60)
    assert found.low < 3.0 < found.high


def test_a_discarded_sample_takes_its_round_out():
    throttled = latency([2.0, math.nan, 2.0, 0.0, 2.0, math.inf, 2.0])
    found = ratio(throttled, latency([1.0] * 7))
    assert found.rounds == 4
    assert found.value == pytest.approx(2.0)
    assert quartiles(throttled).samples == 4


def test_a_contender_that_stopped_early_pairs_with_the_rounds_it_has():
    assert paired_log_ratios(latency([2.0, 2.0]), latency([1.0, 1.0, 9.0])) == ((math.log(2), math.log(2)),)


def test_samples_without_a_single_pair_have_no_ratio():
    assert ratio(latency([math.nan]), latency([1.0])) is None
    assert ratio(latency([]), latency([])) is None
    assert quartiles(latency([])) is None


def test_two_timing_methods_are_never_paired():
    with pytest.raises(ValueError, match="cuda-events-cold"):
        ratio(latency([1.0], method="cuda-events-cold"), latency([1.0], method="cuda-graph-hot"))


def test_quartiles_are_over_all_processes():
    found = quartiles(latency([1.0, 2.0], [3.0, 4.0, 5.0]))
    assert (found.lower_seconds, found.median_seconds, found.upper_seconds, found.samples) == (2.0, 3.0, 4.0, 5)


def test_processes_that_disagree_wildly_have_no_upper_end():
    found = ratio(latency([1e12] * 6, [1e-12] * 6), latency([1e-12] * 6, [1e12] * 6))
    assert found.value == pytest.approx(1.0)
    assert (found.low < 1e-300, found.high) == (True, math.inf)


@pytest.mark.parametrize("sample", [1e-300, 1e300, -1.0])
def test_what_no_clock_can_have_measured_is_no_sample(sample):
    assert ratio(latency([sample] * 6), latency([1.0] * 6)) is None
    assert quartiles(latency([sample])) is None


def test_the_same_samples_give_the_same_interval():
    ours, theirs = (make_latency(ratio=r, processes=4, seed=r) for r in (1.3, 1.0))
    assert ratio(ours, theirs) == ratio(ours, theirs)


@pytest.mark.parametrize("odd", [math.nan, 0.0, -1.0, math.inf, 1e-13, 1e13])
def test_samples_looked_at_together_give_what_each_alone_gives(odd):
    """Where all are times they are not looked at one by one."""
    ours, theirs = make_latency(ratio=2.0, seed=1), make_latency()
    (pairs,) = paired_log_ratios(ours, theirs)
    (mine,), (other,) = ours.samples_seconds, theirs.samples_seconds
    assert pairs == tuple(math.log(a) - math.log(b) for a, b in zip(mine, other, strict=True))
    assert usable_samples(ours) == list(mine)
    spoilt = msgspec.structs.replace(ours, samples_seconds=((*mine[:3], odd, *mine[4:]),))
    assert paired_log_ratios(spoilt, theirs) == ((*pairs[:3], *pairs[4:]),)
    assert paired_log_ratios(theirs, spoilt) == (tuple(-pair for pair in (*pairs[:3], *pairs[4:])),)
    assert usable_samples(spoilt) == [*mine[:3], *mine[4:]]
