"""What a selfcheck document says of its machine."""

import msgspec
import pytest
from factory import make_selfcheck, make_trial

from opbench.statistics.power import (
    OURS,
    Share,
    allowance,
    decision,
    powers,
    quote,
    sensitivity,
)


def found(method, effect, loaded=None):
    every = powers(make_selfcheck(), 0.02)
    return next(p for p in every if (p.method, p.effect, p.loaded) == (method, effect, loaded))


def test_false_alarms_are_counted_both_ways_and_finds_one_way():
    assert found(OURS, 0.0).called == Share(0, 10)
    assert found("rival", 0.0).called == Share(1, 10), "an improvement of identical code is a false alarm"
    assert found("rival", 0.10).called == Share(0, 10), "an improvement is no find of a slow-down"
    assert found(OURS, 0.10).called == Share(10, 10)


def test_quiet_and_loaded_trials_are_counted_apart_and_together():
    assert [found(OURS, 0.05, loaded).called.of for loaded in (None, False, True)] == [10, 5, 5]


def test_a_slow_down_at_the_minimum_effect_is_undecided_or_found_never_the_same():
    power = found(OURS, 0.02)
    assert power.called.hits + power.undecided.hits == power.called.of == 10


def test_replicas_of_different_work_are_no_comparison():
    assert {power.effect for power in powers(make_selfcheck(), 0.02)} == {0.0, 0.02, 0.05, 0.10}


def test_the_rate_of_none_in_many_is_bounded_by_three_in_as_many():
    assert Share(0, 500).high == pytest.approx(3.69 / 500, rel=0.01)
    assert Share(0, 500).low == 0
    assert Share(500, 500).low == pytest.approx(1 - 3.69 / 500, rel=0.01)


def test_interrupted_rounds_are_left_out():
    clean = make_trial(0.0, 1)
    hit = msgspec.structs.replace(
        clean,
        second_nanoseconds=tuple(t * 9 if i >= 20 else t for i, t in enumerate(clean.second_nanoseconds)),
        interrupted=tuple(range(20, 60)),
    )
    assert decision(hit, 0.02) in ("same", "undecided")
    assert decision(msgspec.structs.replace(hit, interrupted=()), 0.02) == "regressed"


def test_the_allowance_is_the_spread_between_processes():
    trials = [make_trial(None, seed, offset=offset, loaded=False) for seed, offset in enumerate((0.0, 0.02, 0.04))]
    spread = allowance(make_selfcheck(trials))
    assert spread.deviation == pytest.approx(0.02, abs=0.006)
    assert spread.freedom == 2


def test_one_process_gives_no_allowance():
    assert allowance(make_selfcheck([make_trial(None, 0, loaded=False), make_trial(0.0, 1)])) is None


def test_a_louder_machine_detects_less():
    quiet = sensitivity(make_selfcheck(), 0.02, loaded=False)
    loud = sensitivity(
        make_selfcheck([make_trial(0.0, seed, rounds=12, loaded=False) for seed in range(6)]), 0.02, loaded=False
    )
    assert 0.02 < quiet.median < loud.median
    assert quiet.median <= quiet.most


def test_the_quote_names_alarms_finds_and_the_smallest_slow_down():
    sentence = quote(make_selfcheck(), 0.02).sentence
    assert "0 false alarms in 10 comparisons of identical code" in sentence
    assert "10 % slower found in 10 of 10" in sentence
    assert "smallest slow-down found 9 times in 10" in sentence
