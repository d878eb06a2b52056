"""The panel's schedule and stopping rules, on a simulated clock: no test here asserts a real time."""

import math
import random

import pytest

from opbench.measure.lanes import LEAST_ROUNDS, stopping_reason
from opbench.measure.latency import LEAST_SHARE, SHORTEST_BLOCK_SECONDS, calibrate, measure_panel, timer_seconds


class SimulatedClock:
    """Each call has a time, the machine has a speed that wanders, and a sample has noise of its own."""

    method = "simulated"

    def __init__(self, seconds, noise=0.0, drift=0.0, seed=1):
        self.seconds, self.noise, self.drift = seconds, noise, drift
        self.random = random.Random(seed)
        self.speed = 1.0
        self.order = []
        self.elapsed = 0.0

    def sample(self, call, calls):
        name = call()
        self.order.append(name)
        self.speed *= math.exp(self.random.gauss(0, self.drift))
        seconds = self.seconds[name] * calls * self.speed * math.exp(self.random.gauss(0, self.noise))
        self.elapsed += seconds
        return seconds

    def now(self):
        return self.elapsed

    def prepare(self, call):
        pass


def run(clock, *, precision=0.01, budget=5.0, baseline="base", least_rounds=1):
    calls = {name: (lambda name=name: name) for name in clock.seconds}
    first = dict.fromkeys(calls, 0.0)
    return measure_panel(
        calls,
        baseline,
        clock=clock,
        precision=precision,
        budget_seconds=budget,
        least_rounds=least_rounds,
        first_call_seconds=first,
        seed=0,
    )


def test_contenders_are_sampled_once_a_round_in_changing_order():
    clock = SimulatedClock({"base": 0.01, "a": 0.02, "b": 0.03}, noise=0.01)
    latencies = run(clock, precision=1e-9, budget=3.0)
    rounds = [clock.order[i : i + 3] for i in range(3, len(clock.order) - 3, 3)]
    assert all(sorted(names) == ["a", "b", "base"] for names in rounds)
    assert len({tuple(names) for names in rounds}) > 3
    assert len({len(latency.samples_seconds[0]) for latency in latencies.values()}) == 1


def test_a_quiet_machine_stops_at_the_precision_asked_for():
    latencies = run(SimulatedClock({"base": 0.01, "a": 0.02}, noise=0.005))
    assert {latency.stop for latency in latencies.values()} == {"precision"}
    assert len(latencies["a"].samples_seconds[0]) >= LEAST_ROUNDS


def test_a_contender_that_is_known_well_enough_stops_while_the_others_go_on():
    clock = SimulatedClock({"base": 0.01, "a": 0.02, "b": 0.03})
    quiet = clock.sample
    clock.sample = lambda call, calls: (
        quiet(call, calls) * (math.exp(clock.random.gauss(0, 0.2)) if call() == "b" else 1.0)
    )
    latencies = run(clock, budget=2.0)
    assert latencies["a"].stop == "precision"
    rounds = {name: len(latency.samples_seconds[0]) for name, latency in latencies.items()}
    assert rounds["a"] < rounds["b"] == rounds["base"]


def test_the_budget_ends_a_panel_that_never_gets_precise():
    latencies = run(SimulatedClock({"base": 0.01, "a": 0.02}, noise=0.5), precision=1e-6, budget=1.0)
    assert {latency.stop for latency in latencies.values()} == {"budget"}


def test_drift_moves_both_and_leaves_the_ratio():
    clock = SimulatedClock({"base": 0.01, "a": 0.02}, noise=0.002, drift=0.05)
    latencies = run(clock)
    base, a = (latencies[name].samples_seconds[0] for name in ("base", "a"))
    ratios = sorted(x / y for x, y in zip(a, base, strict=True))
    assert ratios[len(ratios) // 2] == pytest.approx(2.0, rel=0.05)


def test_without_a_baseline_every_contender_uses_its_budget():
    latencies = run(SimulatedClock({"a": 0.01, "b": 0.02}), baseline=None, budget=0.02)
    assert {latency.stop for latency in latencies.values()} == {"budget"}


def test_a_block_is_long_against_the_timer():
    clock = SimulatedClock({"a": 3e-7})
    calls, seconds = calibrate(lambda: "a", clock, SHORTEST_BLOCK_SECONDS)
    assert seconds == pytest.approx(calls * 3e-7)
    assert SHORTEST_BLOCK_SECONDS <= calls * 3e-7 < 3 * SHORTEST_BLOCK_SECONDS
    assert timer_seconds() < SHORTEST_BLOCK_SECONDS


def test_a_long_call_is_its_own_block():
    assert calibrate(lambda: "a", SimulatedClock({"a": 1.0}), SHORTEST_BLOCK_SECONDS) == (1, 1.0)


def test_a_fast_contender_is_seen_for_a_share_of_the_slowest_one_s_block():
    latencies = run(SimulatedClock({"base": 2.5, "a": 0.01}), budget=3.0)
    assert latencies["base"].calls_per_sample == 1
    assert latencies["a"].calls_per_sample == 2.5 * LEAST_SHARE / 0.01


def test_the_least_rounds_are_measured_however_long_they_take():
    clock = SimulatedClock({"base": 2.0, "a": 0.01}, noise=0.1)
    latencies = run(clock, precision=1e-9, budget=0.1, least_rounds=6)
    assert [len(latency.samples_seconds[0]) for latency in latencies.values()] == [6, 6]
    assert {latency.stop for latency in latencies.values()} == {"budget"}


def test_noise_that_more_rounds_do_not_reduce_is_a_plateau():
    half_widths = []
    values = [0.0, 1.0] * 200  # an interval that never narrows
    reasons = [stopping_reason(values[: n + 1], half_widths, 0.01) for n in range(200)]
    first = next(i for i, reason in enumerate(reasons) if reason)
    assert reasons[first] == "plateau"
    assert first >= 60


def test_too_few_rounds_are_never_precise():
    half_widths = []
    assert stopping_reason([0.0], half_widths, 0.5) is None
    assert stopping_reason([0.0, 0.0], half_widths, 0.5) is None


class JumpingClock(SimulatedClock):
    """A clock that is set while it is read: every fifth sample is `jump` seconds off, and so is the time."""

    def __init__(self, seconds, jump, **changes):
        super().__init__(seconds, **changes)
        self.jump = jump

    def sample(self, call, calls):
        seconds = super().sample(call, calls)
        if len(self.order) % 5:
            return seconds
        self.elapsed += self.jump
        return seconds + self.jump


def test_a_clock_that_jumps_back_costs_the_samples_it_spoils():
    latencies = run(JumpingClock({"base": 0.01, "a": 0.02}, -3.0, noise=0.005), precision=1e-6)
    base, a = (latencies[name].samples_seconds[0] for name in ("base", "a"))
    assert len(base) == len(a)
    assert any(math.isnan(sample) for sample in (*base, *a))
    ratios = sorted(x / y for x, y in zip(a, base, strict=True) if not math.isnan(x / y))
    assert ratios[len(ratios) // 2] == pytest.approx(2.0, rel=0.05)


def test_a_clock_that_never_reaches_the_deadline_does_not_run_for_ever():
    clock = JumpingClock({"base": 0.01, "a": 0.02}, -0.3)
    latencies = run(clock, budget=1.0, baseline=None)  # without one, only the budget stops a contender
    assert clock.elapsed < 0
    assert {latency.stop for latency in latencies.values()} == {"budget"}


def test_a_clock_that_jumps_ahead_ends_the_budget_early():
    latencies = run(JumpingClock({"base": 0.01, "a": 0.02}, 3600.0, noise=0.1), precision=1e-9)
    assert {latency.stop for latency in latencies.values()} == {"budget"}


def test_a_clock_that_stands_still_is_refused():
    with pytest.raises(RuntimeError, match="this clock stands still"):
        calibrate(lambda: "a", SimulatedClock({"a": 0.0}), SHORTEST_BLOCK_SECONDS)


def test_a_replica_keeps_to_the_block_that_was_calibrated():
    clock = SimulatedClock({"base": 1e-4, "a": 0.02})
    calls = {name: (lambda name=name: name) for name in clock.seconds}
    latencies = measure_panel(
        calls, "base", clock=clock, precision=0.01, budget_seconds=1.0, first_call_seconds=dict.fromkeys(calls, 0.0),
        seed=0, calls_per_sample={"base": 77},
    )  # fmt: skip
    assert latencies["base"].calls_per_sample == 77
    assert latencies["a"].calls_per_sample == 1
    assert clock.order[0] == "base"  # warmed up all the same


def test_whose_turn_it_is_is_said_before_every_block():
    clock = SimulatedClock({"base": 0.01, "a": 0.02})
    said = []

    class Watch:
        def before(self, name):
            said.append((len(clock.order), name))

        def after(self, name):
            assert clock.order[-1] == name

    calls = {name: (lambda name=name: name) for name in clock.seconds}
    measure_panel(
        calls, "base", clock=clock, precision=0.01, budget_seconds=1.0, first_call_seconds=dict.fromkeys(calls, 0.0),
        seed=0, watch=Watch(),
    )  # fmt: skip
    assert all(clock.order[position] == name for position, name in said)
    assert len(said) == len(clock.order)
