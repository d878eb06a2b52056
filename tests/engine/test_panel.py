"""A panel from build to record: wrong answers are never timed, failures cost their own case alone."""

from types import SimpleNamespace

import pytest
from toy_plan import toy_panel

from opbench.engine.panel import Context, run_panel
from opbench.measure.latency import WallClock
from opbench.measure.throttle import Reading, ThrottleGuard
from opbench.schema import Settings

pytestmark = pytest.mark.usefixtures("toys")

SETTINGS = Settings(suite="toy", precision=0.5, budget_seconds=0.3)


def records(mode, *names):
    panel = toy_panel(mode, *names, N=6, C=4)
    return {record.case.implementation: record for record in run_panel(panel, SETTINGS, Context())}


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_a_right_contender_has_every_measurement(mode):
    record = records(mode, "also-right")["also-right"]
    assert record.outcome == "ok", record.message
    assert record.verdict.correct
    assert record.final_verdict.correct
    assert record.counts.params == 4
    assert record.memory.peak_bytes > 0
    (latency,) = record.latencies
    assert latency.method == "cpu-wall"
    assert all(seconds > 0 for seconds in latency.samples_seconds[0])


@pytest.mark.parametrize("name", ["wrong", "sloppy", "unwritten", "mutates"])
def test_a_wrong_contender_is_incorrect_and_has_no_latency(name):
    found = records("inference", name)
    record = found[name]
    assert record.outcome == "incorrect"
    assert not record.verdict.correct
    assert record.message
    assert record.latencies == ()
    assert record.counts is None
    assert found["right"].outcome == "ok"


def test_the_worst_element_of_a_wrong_contender_is_in_the_record():
    record = records("inference", "wrong")["wrong"]
    worst = record.verdict.worst
    assert worst.tensor == "output"
    assert abs(worst.got / worst.expected) == pytest.approx(1.0005, rel=1e-4)
    assert "rounding explains" in record.message


def test_a_missing_gradient_is_incorrect_in_training_mode_only():
    assert records("inference", "forgets-gradient")["forgets-gradient"].outcome == "ok"
    record = records("training", "forgets-gradient")["forgets-gradient"]
    assert record.outcome == "incorrect"
    assert record.message.startswith("weight: ")


@pytest.mark.parametrize(
    ("name", "outcome", "message"),
    [
        ("raises", "raised", "ValueError: this contender always raises"),
        ("unsupported", "unsupported", "NotImplementedError: float32 is not supported"),
        ("out-of-memory", "out-of-memory", "RuntimeError: "),
    ],
)
def test_a_failure_is_named(name, outcome, message):
    record = records("inference", name)[name]
    assert record.outcome == outcome
    assert record.message.startswith(message)
    assert "\n" not in record.message


def test_one_that_raises_while_timed_is_taken_out_and_the_rest_is_timed():
    found = records("inference", "also-right", "raises-later")
    assert found["raises-later"].outcome == "raised"
    assert found["raises-later"].message == "RuntimeError: worn out"
    assert found["also-right"].outcome == "ok"
    assert found["also-right"].latencies


def test_past_the_cap_of_discarded_samples_the_outcome_is_throttled(monkeypatch):
    readings = iter([Reading(1980.0, 60.0)] * 20)
    gauge = SimpleNamespace(read=lambda: next(readings, Reading(990.0, 91.0, 0x40)))
    guard = ThrottleGuard(gauge, sleep=lambda seconds: None)
    monkeypatch.setattr("opbench.engine.timing.clocks", lambda case, entries: iter([(WallClock(), guard)]))
    monkeypatch.setattr("test_panel.SETTINGS", Settings(suite="toy", precision=1e-9, budget_seconds=2.0))
    record = records("inference", "also-right")["also-right"]
    assert record.outcome == "throttled"
    assert record.latencies == ()
    assert record.verdict.correct
    assert " samples discarded: hardware thermal slowdown, SM clock at 990 MHz" in record.message


def test_a_method_that_is_not_possible_is_noted_and_the_other_one_counts(monkeypatch):
    class Impossible(WallClock):
        method = "cuda-graph-hot"

        def prepare(self, call):
            raise RuntimeError("cannot be captured")

    clocks = [(WallClock(), None), (Impossible(), None)]
    monkeypatch.setattr("opbench.engine.timing.clocks", lambda case, entries: iter(clocks))
    record = records("inference", "also-right")["also-right"]
    assert [latency.method for latency in record.latencies] == ["cpu-wall"]
    assert record.notes == ("cuda-graph-hot: not timed: RuntimeError: cannot be captured",)


def test_the_last_timed_result_is_judged_too():
    record = records("inference", "stale")["stale"]
    assert record.verdict.correct
    assert record.outcome == "incorrect"
    assert not record.final_verdict.correct
    assert record.latencies == ()


def test_every_implementation_gets_the_same_values():
    from opbench.build import build

    found = records("training", "also-right")
    first, second = (build(found[name].case) for name in ("right", "also-right"))
    assert all((first.tensors[name] == second.tensors[name]).all() for name in first.tensors)
    assert (first.grad_output == second.grad_output).all()


def test_samples_are_held_against_the_clock_s_own_book():
    from types import SimpleNamespace

    from opbench.engine.timing import BookedClock

    seconds = iter([1.0, 4.0, 3.0, 2.0])
    clock, call = BookedClock(SimpleNamespace(method="m", sample=lambda call, calls: next(seconds))), object()
    for calls in (1, 2, 1, 1):
        clock.sample(call, calls)
    for samples, agrees in (((2.0, 3.0, 2.0), True), ((2.0, float("nan"), 2.0), True), ((2.0, 0.3, 2.0), False)):
        assert clock.agrees(call, SimpleNamespace(samples_seconds=(samples,))) is agrees
    assert not clock.agrees(call, SimpleNamespace(samples_seconds=((1.0,) * 9,)))
