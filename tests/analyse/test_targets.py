"""Targets against what a run measured: the value, its interval, and which side of the target it lies on."""

import pytest
from factory import make_case, make_counts, make_failure, make_latency, make_memory, make_record, make_run

from opbench.analyse.standings import standings
from opbench.analyse.targets import judge
from opbench.schema import FirstCall, Target, Yardstick

BASE, FAST = make_case(), make_case("carafe[cpu]")
EXACT = {"rounds": 20, "noise": 0.0, "drift": 0.0}


def record(case, seconds, **changes):
    return make_record(case, latencies=(make_latency(seconds, **EXACT),), **changes)


def target(quantity="speed-up", **changes):
    fields = {"task": "upsample2x", "workload": "yolov8n-p5", "contender": "carafe[cpu]", "at_least": 10.0}
    return Target(quantity=quantity, **{**fields, **changes})


def judged(one, *records, **changes):
    run = make_run(records or [record(BASE, 1.0), record(FAST, 0.05)], targets=(one,), **changes)
    (found,) = judge(run, standings(run))
    return found


def test_a_speed_up_is_the_baselines_latency_over_the_contenders():
    found = judged(target())
    assert (found.value, found.low, found.high) == pytest.approx((20, 20, 20))
    assert (found.met, found.against) == ("met", "nearest[torch]")


def test_a_speed_up_may_be_against_another_than_the_baseline():
    other = make_case("carafe[unfold]")
    found = judged(target(against="carafe[unfold]"), record(BASE, 1.0), record(FAST, 0.05), record(other, 0.2))
    assert (found.value, found.against, found.met) == (pytest.approx(4), "carafe[unfold]", "missed")


def test_a_deformable_upsampler_is_meant_with_its_spread_on_either_side():
    spread = {"spread": 2.0, "variant": ("spread=2px",)}
    fast, other = (make_case(f"dysample[{name}]", **spread) for name in ("cpu", "grid-sample"))
    assert fast.contender == "dysample[cpu]/spread=2px"
    asked = target(contender="dysample[cpu]", against="dysample[grid-sample]", at_least=3.0)
    found = judged(asked, record(BASE, 1.0), record(fast, 0.05), record(other, 0.2))
    assert (found.value, found.against, found.met) == (pytest.approx(4), "dysample[grid-sample]", "met")


@pytest.mark.parametrize(
    ("ratios", "met"),
    [((0.04, 0.05), "met"), ((0.2, 0.3), "missed"), ((0.05, 0.3), "undecided"), ((0.0625, 0.0999), "met")],
)
def test_met_and_missed_need_the_whole_interval(ratios, met):
    latency = make_latency(samples_seconds=(tuple(ratios * 4),))
    base = make_latency(samples_seconds=((1.0,) * 8,))
    records = [make_record(BASE, latencies=(base,)), make_record(FAST, latencies=(latency,))]
    found = judged(target(), *records)
    assert found.met == met
    assert (found.low, found.high) == pytest.approx((1 / ratios[1], 1 / ratios[0]))


def test_the_roofline_is_the_slower_of_bytes_and_macs_and_takes_both_intervals():
    counts = make_counts(10**9, min_bytes=10**9)
    yardsticks = (
        Yardstick("copy", "cpu", "float32", "bytes/second", (1e9, 2e9, 4e9)),
        Yardstick("matmul", "cpu", "float32", "macs/second", (100e9,)),
    )
    records = [record(BASE, 9.0), record(FAST, 2.0, counts=counts)]
    found = judged(target("roofline", at_least=None, at_most=10.0), *records, yardsticks=yardsticks)
    assert (found.value, found.low, found.high) == pytest.approx((4, 2, 8))
    assert found.met == "met"


def test_in_training_the_least_traffic_is_twice_that_of_forward():
    base, fast = (make_case(name, mode="training") for name in ("nearest[torch]", "carafe[cpu]"))
    records = [record(base, 9.0), record(fast, 2.0, counts=make_counts(1, min_bytes=10**9))]
    yardsticks = (
        Yardstick("copy", "cpu", "float32", "bytes/second", (2e9,)),
        Yardstick("matmul", "cpu", "float32", "macs/second", (100e9,)),
    )
    one = target("roofline", mode="training", at_least=None, at_most=1.5)
    found = judged(one, *records, yardsticks=yardsticks)
    assert (found.value, found.met) == (pytest.approx(2), "missed")


def test_memory_is_all_that_lives_over_the_least_bytes():
    memory = make_memory(peak_bytes=300, held_bytes=700)
    one = target("memory", at_least=None, at_most=1.1)
    records = [record(BASE, 1.0), record(FAST, 1.0, memory=memory, counts=make_counts(1, min_bytes=800))]
    found = judged(one, *records)
    assert (found.value, found.low, found.high, found.met) == (1.25, 1.25, 1.25, "missed")


@pytest.mark.parametrize(("quantity", "value"), [("first-call-cold", 2.0), ("first-call-cached", 0.2)])
def test_a_first_call_is_the_median_and_range_of_fresh_processes(quantity, value):
    calls = (FirstCall(FAST.id, (1.0, 2.0, 3.5), (0.1, 0.2, 0.35)),)
    found = judged(target(quantity, at_least=None, at_most=1.5 * value), first_calls=calls)
    assert (found.value, found.low, found.high) == pytest.approx((value, value / 2, 1.75 * value))
    assert found.met == "undecided"


@pytest.mark.parametrize(
    ("one", "records", "missing"),
    [
        (target(workload="elsewhere"), (), "no such panel in this run"),
        (target(contender="carafe[triton]"), (), "carafe[triton] is not in this panel"),
        (target(), (record(BASE, 1.0), make_failure(FAST, "incorrect")), "carafe[cpu] incorrect"),
        (target(), (make_failure(BASE, "raised"), record(FAST, 1.0)), "nearest[torch] raised"),
        (target(against="x[y]"), (), "x[y] is not in this panel"),
        (
            target("memory"),
            (record(BASE, 1.0), record(FAST, 1.0, memory=make_memory(held_bytes=None))),
            "memory was not measured",
        ),
        (target("first-call-cold"), (), "the first call was not measured"),
    ],
)
def test_what_was_not_measured_says_why_and_is_never_met(one, records, missing):
    found = judged(one, *records)
    assert (found.met, found.missing, found.value) == ("not measured", missing, None)


def test_without_yardsticks_there_is_no_roofline():
    assert judged(target("roofline"), yardsticks=()).missing == "no yardstick"


def test_a_target_speaks_of_every_spread_of_its_panel():
    records = [
        record(make_case(name, spread=spread), seconds)
        for spread in (0.5, 2.0)
        for name, seconds in (("nearest[torch]", 1.0), ("carafe[cpu]", 0.05 * spread))
    ]
    run = make_run(records, targets=(target(),))
    assert [found.value for found in judge(run, standings(run))] == pytest.approx([40, 10])
