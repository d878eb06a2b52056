"""Turns in random order, and what is concluded from them under noise as machines make it (simulated, seeded)."""

import math
import random
import statistics

import numpy as np
import pytest

from opbench.measure.pairs import take_turns
from opbench.statistics.change import decide, p_value
from opbench.statistics.intervals import interval
from opbench.statistics.shifts import LEAST_CLEAN, LEAST_ROUNDS, log_ratios, median_shift, shift

MINIMUM = math.log1p(0.02)


class Machine:
    """Slow drift, autocorrelated wander and bursts of another process, in log time, place after place."""

    def __init__(self, seed):
        self.draw = np.random.default_rng(seed)
        places = 4000
        wander = np.zeros(places)
        for place in range(1, places):
            wander[place] = 0.95 * wander[place - 1] + self.draw.normal(0, 0.03)
        bursts = np.zeros(places)
        place = 0
        while place < places:
            place += self.draw.geometric(1 / 40)
            length = self.draw.geometric(1 / 6)
            bursts[place : place + length] += self.draw.uniform(0.3, 1.5)
            place += length
        self.mood = wander + bursts + np.linspace(0, self.draw.normal(0, 0.3), places)
        self.place = 0

    def turn(self, slower=0.0):
        def timed():
            self.place += 1
            return math.exp(self.mood[self.place % 4000] + self.draw.normal(0, 0.03)) * (1 + slower), False

        return timed


class Clock:
    """Each reading is a second later."""

    def __init__(self):
        self.seconds = 0

    def __call__(self):
        self.seconds += 1
        return self.seconds


def trial(seed, slower, rounds=400):
    machine = Machine(seed)
    taken = take_turns(
        machine.turn(),
        machine.turn(slower),
        precision=0.01,
        budget_seconds=rounds,
        order=random.Random(seed),
        now=Clock(),
    )
    found = shift(log_ratios(taken.first, taken.second, taken.interrupted))
    return found, decide(found, p_value(found, MINIMUM), MINIMUM)


def simulated(slower, trials=150):
    return [trial(seed, slower) for seed in range(trials)]


def test_identical_code_is_not_called_changed_on_a_machine_that_drifts_and_bursts():
    found = simulated(0.0)
    assert sum(verdict in ("regressed", "improved") for _, verdict in found) == 0
    assert sum(verdict == "same" for _, verdict in found) > 0.9 * len(found), "and it is not left undecided either"


@pytest.mark.parametrize(("slower", "least"), [(0.05, 0.98), (0.10, 1.0)])
def test_a_planted_slow_down_is_found(slower, least):
    found = simulated(slower)
    assert sum(verdict == "regressed" for _, verdict in found) >= least * len(found)


def test_intervals_cover_the_truth_as_often_as_they_say():
    covered = [low <= math.log1p(0.05) <= high for low, high in (found.interval() for found, _ in simulated(0.05))]
    assert 0.93 <= statistics.fmean(covered) <= 1.0


def test_a_fixed_order_is_fooled_by_what_the_random_order_is_not():
    """A machine whose second place in a round is slower, as after a fresh time slice."""

    def turns(order, seed):
        rng = np.random.default_rng(seed)
        place = [0]

        def timed():
            place[0] += 1
            return (1.1 if place[0] % 2 == 0 else 1.0) * math.exp(rng.normal(0, 0.01)), False

        taken = take_turns(timed, timed, precision=0.001, budget_seconds=200, order=order, now=Clock())
        return shift(log_ratios(taken.first, taken.second, taken.interrupted))

    class Fixed(random.Random):
        def random(self):
            return 0.0

    assert turns(Fixed(), 1).interval()[0] > math.log1p(0.05)
    covered = [low <= 0 <= high for low, high in (turns(random.Random(seed), seed).interval() for seed in range(60))]
    assert statistics.fmean(covered) >= 0.9


def test_bursts_of_one_contenders_own_widen_the_interval():
    rng = np.random.default_rng(5)
    covered = []
    for _ in range(60):
        values = rng.normal(0, 0.04, 120)
        for sign in (1, -1):
            place = 0
            while place < 120:
                place += rng.geometric(1 / 30)
                length = rng.geometric(1 / 8)
                values[place : place + length] += sign * rng.uniform(0.1, 0.6)
                place += length
        low, high = shift(values).interval()
        covered.append(low <= 0 <= high)
    assert statistics.fmean(covered) >= 0.9


def test_rounds_end_when_the_interval_is_narrow_enough():
    rng = random.Random(1)
    quiet = take_turns(
        lambda: (math.exp(rng.gauss(0, 1e-4)), False),
        lambda: (math.exp(rng.gauss(0, 1e-4)), False),
        precision=0.01,
        budget_seconds=10_000,
        order=random.Random(0),
        now=Clock(),
    )
    assert quiet.stop == "precision"
    assert len(quiet.first) == len(quiet.second) == LEAST_ROUNDS


def test_rounds_end_with_the_budget():
    rng = random.Random(1)
    loud = take_turns(
        lambda: (math.exp(rng.gauss(0, 1)), False),
        lambda: (math.exp(rng.gauss(0, 1)), False),
        precision=0.001,
        budget_seconds=50,
        order=random.Random(0),
        now=Clock(),
    )
    assert loud.stop == "budget"
    assert len(loud.first) == 49


def test_a_round_with_an_interrupted_block_is_taken_again_whole_and_counted():
    answers = iter([(9.0, True), (1.0, False)] + [(1.0, False)] * 100)
    others = iter([2.0] + [1.0] * 100)
    taken = take_turns(
        lambda: next(answers),
        lambda: (next(others), False),
        precision=0.5,
        budget_seconds=3,
        order=random.Random(0),
        now=Clock(),
    )
    assert taken.retaken == 1
    assert taken.interrupted == []
    assert 9.0 not in taken.first
    assert 2.0 not in taken.second, "the block beside the interrupted one is no pair of the one that replaces it"


def test_a_machine_that_disturbs_every_round_costs_half_of_the_budget_more_and_is_said():
    taken = take_turns(
        lambda: (1.0, True),
        lambda: (1.0, False),
        precision=0.5,
        budget_seconds=20,
        order=random.Random(0),
        now=Clock(),
    )
    assert taken.interrupted == list(range(29))
    assert taken.clean == 0
    assert taken.retaken == 3 * 29


@pytest.mark.parametrize("block", [0.0, -1.0])
def test_a_clock_that_stands_still_or_jumps_back_ends_the_rounds_all_the_same(block):
    taken = take_turns(
        lambda: (block, True),
        lambda: (block, True),
        precision=0.5,
        budget_seconds=0.01,
        order=random.Random(0),
        now=lambda: 0.0,
    )
    assert 2 <= len(taken.first) < 1000
    assert log_ratios(taken.first, taken.second, taken.interrupted) == []


def test_rounds_that_stay_interrupted_are_kept_raw_and_left_out():
    first = [1.0] * (LEAST_CLEAN + 1)
    second = [1.1] * LEAST_CLEAN + [50.0]
    assert log_ratios(first, second, [LEAST_CLEAN]) == pytest.approx([math.log(1.1)] * LEAST_CLEAN)


def test_where_too_few_rounds_are_whole_all_are_taken():
    assert len(log_ratios([1.0] * 10, [2.0] * 10, list(range(5)))) == 10


def test_a_shift_is_known_the_better_the_more_rounds_there_are():
    rng = np.random.default_rng(1)
    values = rng.normal(0.1, 0.03, 4000)
    few, many = shift(values[:40]), shift(values)
    assert many.half_width < few.half_width / 5
    assert abs(many.value - 0.1) < 0.003


def test_one_round_says_nothing():
    found = shift([0.3])
    assert found.value == 0.3
    assert found.error == math.inf


def test_the_median_stays_where_a_busy_machine_pulls_the_mean_of_pairs_away():
    """A third of the rounds hit one side only: contenders of different work are not exchangeable."""
    rng = np.random.default_rng(2)
    values = rng.normal(0.0, 0.02, 300)
    values[rng.random(300) < 0.33] += 1.5
    values = list(values)
    low, high = median_shift(values).interval()
    assert low <= 0.02
    assert high >= 0
    assert abs(median_shift(values).value) < abs(shift(values).value)


def test_the_medians_interval_is_at_least_the_one_the_report_shows():
    values = list(np.random.default_rng(3).normal(0, 0.05, 25))
    low, middle, high = interval(values)
    found = median_shift(values)
    assert found.value == middle
    assert found.interval()[0] <= low
    assert found.interval()[1] >= high
