"""Paired differences over seeds, against values worked out by hand."""

import math

import pytest

from opbench.study.differences import (
    POINTS,
    changes,
    estimate,
    loss_curves,
    loss_differences,
    paired,
    standings,
    step_ratio,
)
from opbench.study.document import Contender, Metric, SlotChange, StudyResult, Training


def contender(name, **changed):
    settings = {"implementation": "torch", "dims": {}, "params": 1, "slot_params": 0, "macs": 1, "slot_macs": 0}
    return Contender(name=name, operator=name, **{**settings, **changed})


def training(name, seed, score, losses=(1.0, 0.5), changes=()):
    return Training(name, "scored", 0.01, seed, losses, {"score": score}, changes)


def result(trainings, *, steps=2):
    return StudyResult(
        name="toy", title="A toy", question="?", task="toy", baseline="base", data="none", network="none", slots=1,
        steps=steps, batch=1, schedule="flat", rates=(0.01,), search_seed=9, seeds=(0, 1, 2),
        metrics=(Metric("score", "score", "dB", 2),), loss_title="loss", planned=8,
        contenders=(contender("base"), contender("other")),
        trainings=tuple(trainings),
    )  # fmt: skip


def test_the_interval_of_three_values_is_students_by_hand():
    # mean 2, standard deviation 1, t(2 degrees, 97.5 %) = 4.302653, half width 4.302653 / sqrt(3) = 2.484138
    found = estimate([1.0, 2.0, 3.0])
    assert found.value == pytest.approx(2)
    assert (found.low, found.high) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-6)
    assert not found.decided


def test_differences_are_taken_seed_by_seed():
    # 10, 20, 30 against 9, 18.5, 29: differences 1, 1.5, 1; mean 7/6, deviation 0.288675; half 0.717109
    found = paired({0: 10.0, 1: 20.0, 2: 30.0}, {2: 29.0, 0: 9.0, 1: 18.5})
    assert found.value == pytest.approx(7 / 6)
    assert found.high - found.value == pytest.approx(4.302653 * 0.288675 / math.sqrt(3), abs=1e-5)
    assert found.decided


def test_a_seed_that_only_one_has_is_no_pair():
    assert paired({0: 2.0, 1: 5.0, 7: 100.0}, {0: 1.0, 1: 3.0}).seeds == 2


def test_one_seed_gives_no_interval_and_none_gives_nothing():
    assert (estimate([3.0]).low, estimate([3.0]).high) == (-math.inf, math.inf)
    assert estimate([]) is None
    assert estimate([math.nan]) is None


def test_a_training_that_diverged_is_counted_and_left_out():
    scores = [training("base", seed, 10.0) for seed in range(3)]
    scores += [training("other", 0, 11.0), training("other", 1, math.nan), training("other", 2, 12.0)]
    base, other = standings(result(scores), "score")
    assert base.difference is None
    assert other.diverged == 1
    assert other.difference.value == pytest.approx(1.5)
    assert other.difference.seeds == 2


def test_curves_average_the_steps_of_a_point_and_compare_the_same_seeds():
    steps = 2 * POINTS
    flat, falling = (2.0,) * steps, tuple(1.0 + index % 2 for index in range(steps))
    both = [training("base", seed, 0.0, flat) for seed in (0, 1)]
    both += [training("other", seed, 0.0, falling) for seed in (0, 1)]
    curves = [point for point in loss_curves(result(both, steps=steps)) if point.contender == "other"]
    differences = list(loss_differences(result(both, steps=steps)))
    assert len(curves) == len(differences) == POINTS
    assert [point.step for point in curves[:2]] == [1.5, 3.5]
    assert {point.estimate.value for point in curves} == {1.5}
    assert {point.estimate.value for point in differences} == {-0.5}
    assert {point.contender for point in differences} == {"other"}


def test_changes_are_told_per_slot_over_seeds():
    scored = [
        training("other", seed, 0.0, changes=(SlotChange(1, "spread", 0.0, after), SlotChange(2, "spread", 1.0, 5.0)))
        for seed, after in enumerate((1.0, 2.0, 3.0))
    ]
    (first, before, after), (second, _, _) = changes(result(scored), "other", "spread")
    assert (first, before, after.value, second) == (1, 0.0, 2.0, 2)


def test_the_ratio_of_steps_is_the_median_of_paired_rounds():
    base = contender("base", step_seconds=(1.0, 2.0, 4.0, 1.0, 1.0, 1.0))
    other = contender("other", step_seconds=(2.0, 4.0, 8.0, 3.0, 1.0, 2.0))
    found = step_ratio(other, base)
    assert found.value == pytest.approx(2)
    assert (found.low, found.high) == pytest.approx((1, 3))
    assert step_ratio(contender("other"), base) is None
