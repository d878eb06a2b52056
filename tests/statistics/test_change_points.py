"""Steps told from noise and from spikes: rates measured on seeded noise of four kinds, light and heavy tailed."""

import itertools
import math
import random
import statistics

import pytest

from opbench.statistics.change_points import LEAST, changes

NOISE = {
    "normal": lambda rng: rng.gauss(0, 1),
    # Student's t with 3 degrees of freedom, scaled to a standard deviation of 1.
    "student-t3": lambda rng: rng.gauss(0, 1) / math.sqrt(rng.gammavariate(1.5, 2)),
    "laplace": lambda rng: rng.choice((-1, 1)) * rng.expovariate(1) / math.sqrt(2),
    # Three runs in a hundred are 10 to 20 standard deviations slow.
    "spiky": lambda rng: rng.gauss(0, 1) + (rng.uniform(10, 20) if rng.random() < 0.03 else 0),
}


def draw(kind, count, deviation, seed, steps=()):
    """`count` values around 1; `steps` are (index, factor): from there on the level is multiplied by it."""
    rng = random.Random(f"{kind}/{count}/{deviation}/{seed}")
    levels = itertools.accumulate((dict(steps).get(index, 1.0) for index in range(count)), lambda a, b: a * b)
    return [level * math.exp(deviation * NOISE[kind](rng)) for level in levels]


def false_alarms(kind, count, series):
    return sum(bool(changes(draw(kind, count, 0.03, seed)).steps) for seed in range(series)) / series


@pytest.mark.parametrize("count", [12, 40])
@pytest.mark.parametrize("kind", NOISE)
def test_of_a_hundred_series_of_noise_at_most_two_show_a_step(kind, count):
    assert false_alarms(kind, count, 500) <= 0.02


@pytest.mark.parametrize(
    ("kind", "allowed"), [("normal", 0.01), ("student-t3", 0.03), ("laplace", 0.03), ("spiky", 0.05)]
)
def test_false_alarms_stay_rare_over_a_hundred_runs(kind, allowed):
    assert false_alarms(kind, 100, 300) <= allowed


def found(kind, count, deviation, factor, series=100):
    """Share of series whose one planted step is the one step found, at most one run off."""
    at = count // 2
    hits = 0
    for seed in range(series):
        steps = changes(draw(kind, count, deviation, seed, [(at, factor)])).steps
        hits += len(steps) == 1 and abs(steps[0].at - at) <= 1
    return hits / series


@pytest.mark.parametrize("kind", NOISE)
@pytest.mark.parametrize("factor", [1.05, 1 / 1.05, 1.10])
def test_a_step_of_5_to_10_percent_is_found_in_noise_of_1_percent(kind, factor):
    assert found(kind, 30, 0.01, factor) >= 0.9


@pytest.mark.parametrize("kind", ["normal", "student-t3", "laplace"])
def test_a_step_of_10_percent_is_found_in_noise_of_3_percent(kind):
    assert found(kind, 60, 0.03, 1.10) >= 0.9


def test_the_levels_of_a_step_are_those_planted():
    (step,) = changes(draw("normal", 60, 0.01, 0, [(30, 1.08)])).steps
    assert step.at == 30
    assert step.before == pytest.approx(1.0, rel=0.01)
    assert step.ratio == pytest.approx(1.08, rel=0.01)


def test_several_steps_are_found_up_and_down():
    steps = changes(draw("student-t3", 90, 0.01, 1, [(20, 1.1), (50, 0.9), (75, 1.06)])).steps
    assert [step.at for step in steps] == [20, 50, 75]


def test_a_revert_after_three_runs_is_two_steps_and_after_two_a_spike():
    quiet = draw("normal", 40, 0.002, 3)
    three = [value * (1.1 if 20 <= index < 23 else 1) for index, value in enumerate(quiet)]
    assert [step.at for step in changes(three).steps] == [20, 23]
    two = [value * (1.1 if 20 <= index < 22 else 1) for index, value in enumerate(quiet)]
    assert not changes(two).steps
    assert changes(two).spikes == (20, 21)


def test_a_spike_is_no_step_however_high():
    values = draw("normal", 40, 0.01, 4)
    values[17] *= 50
    result = changes(values)
    assert not result.steps
    assert result.spikes == (17,)


def test_the_newest_runs_off_their_level_are_undecided_until_there_are_three():
    quiet = draw("normal", 30, 0.002, 5)
    for slow in (1, 2):
        values = [value * (1.1 if index >= 30 - slow else 1) for index, value in enumerate(quiet)]
        result = changes(values)
        assert not result.steps
        assert result.undecided == tuple(range(30 - slow, 30))
    values = [value * (1.1 if index >= 30 - LEAST else 1) for index, value in enumerate(quiet)]
    assert [step.at for step in changes(values).steps] == [30 - LEAST]
    assert not changes(values).undecided


def test_a_step_below_the_minimum_effect_is_none():
    values = [1.0] * 20 + [1.015] * 20
    assert not changes(values).steps
    assert changes(values, minimum_effect=0.01).steps


def test_three_identical_runs_on_either_side_are_enough():
    assert [step.at for step in changes([1.0] * 3 + [1.05] * 3).steps] == [3]


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0], [1.0, 2.0, 3.0]])
def test_too_few_runs_have_no_step(values):
    assert changes(values) == changes([])


def test_the_scale_of_the_values_does_not_matter():
    values = draw("laplace", 50, 0.01, 6, [(25, 1.07)])
    assert [s.at for s in changes([1e-9 * v for v in values]).steps] == [s.at for s in changes(values).steps] == [25]


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_what_has_no_logarithm_is_refused(value):
    with pytest.raises(ValueError, match="finite values above 0"):
        changes([1.0, 1.0, 1.0, value])


def test_ruptures_agrees_on_planted_steps():
    """An independent implementation, told how many steps there are, puts them where ours finds them by itself."""
    ruptures = pytest.importorskip("ruptures", reason="ruptures is not installed")
    import numpy as np

    differences = []
    for seed in range(10):
        values = draw("normal", 80, 0.01, seed, [(25, 1.1), (55, 0.93)])
        theirs = ruptures.Dynp(model="l2", min_size=LEAST, jump=1).fit(np.log(values)).predict(n_bkps=2)[:-1]
        ours = [step.at for step in changes(values).steps]
        assert len(ours) == 2
        differences += [abs(a - b) for a, b in zip(ours, theirs, strict=True)]
    assert statistics.fmean(differences) <= 0.5
