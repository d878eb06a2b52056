"""The machine's limits: beyond the caches, within them, and by the fastest route."""

import math

import pytest
import torch
from factory import make_latency

from opbench.measure import yardsticks
from opbench.measure.yardsticks import ASSUMED_CACHES, cache_bytes, measure_yardsticks
from opbench.report.limits import of_roofline
from opbench.schema import Case, Counted, Counts, Yardstick
from opbench.statistics.roofline import implausible, roofline

CASE = Case("carafe_core", "w", "carafe", "cpu", {}, "float32", "cpu", "inference")


def counts(min_bytes, macs=0):
    unseen = Counted(None)
    return Counts(0, macs, min_bytes, unseen, unseen, unseen, unseen)


def machine(cached=True):
    sticks = [
        Yardstick("copy", "cpu", "float32", "bytes/second", (1e9,)),
        Yardstick("matmul", "cpu", "float32", "macs/second", (1e9,)),
    ]
    if cached:
        sticks.insert(1, Yardstick("copy-cached", "cpu", "float32", "bytes/second", (1e10,), 1 << 20))
    return sticks


def test_caches_are_read_from_the_system(tmp_path):
    for index, (level, kind, size) in enumerate(
        [("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "2048K"), ("3", "Unified", "300M")]
    ):
        (tmp_path / f"index{index}").mkdir()
        for name, text in (("level", level), ("type", kind), ("size", size)):
            (tmp_path / f"index{index}" / name).write_text(text + "\n")
    assert cache_bytes(tmp_path) == (2 << 20, 300 << 20)


def test_a_system_that_says_nothing_has_caches_all_the_same(tmp_path):
    assert cache_bytes(tmp_path) == ASSUMED_CACHES


def test_what_fits_the_caches_is_held_to_the_copy_within_them():
    assert roofline(machine(), CASE, counts(1 << 20)).seconds == pytest.approx((1 << 20) / 1e10)
    assert roofline(machine(), CASE, counts((1 << 20) + 1)).seconds == pytest.approx((1 << 20) / 1e9, rel=1e-3)


def test_a_document_without_the_copy_in_the_caches_keeps_its_limit():
    assert roofline(machine(cached=False), CASE, counts(1 << 20)).seconds == pytest.approx((1 << 20) / 1e9)


@pytest.mark.parametrize(("seconds", "said"), [(0.49e-4, True), (0.51e-4, False), (1.0, False)])
def test_below_half_of_the_least_time_a_latency_is_implausible(seconds, said):
    limit = roofline(machine(), CASE, counts(1 << 20 - 1, macs=100_000))
    assert limit.seconds == pytest.approx(1e-4)
    latency = make_latency(rounds=9, seconds=seconds)
    assert bool(implausible(limit, latency)) is said


def test_a_yardstick_disturbed_in_half_of_its_samples_convicts_nobody():
    disturbed = [1e8] * 11 + [1e10] * 10
    sticks = [*machine(cached=False)[1:], Yardstick("copy", "cpu", "float32", "bytes/second", tuple(disturbed))]
    limit = roofline(sticks, CASE, counts(10**6))
    assert limit.seconds == pytest.approx(1e-2)
    assert implausible(limit, make_latency(rounds=9, seconds=6e-5)) == ""
    assert implausible(limit, make_latency(rounds=9, seconds=4e-5))


def test_a_yardstick_disturbed_in_all_but_one_of_its_samples_convicts_nobody():
    sticks = [*machine(cached=False)[1:], Yardstick("copy", "cpu", "float32", "bytes/second", (1e8,) * 20 + (1e10,))]
    limit = roofline(sticks, CASE, counts(10**6))
    assert implausible(limit, make_latency(rounds=9, seconds=6e-5)) == ""
    assert implausible(limit, make_latency(rounds=9, seconds=4e-5))


def test_without_a_limit_nothing_is_implausible():
    assert implausible(None, make_latency(rounds=3)) == ""


def test_each_yardstick_is_a_rate(monkeypatch):
    monkeypatch.setattr(yardsticks, "LEAST_COPY_BYTES", {"cpu": 1 << 20})
    monkeypatch.setattr(yardsticks, "cache_bytes", lambda: (64 << 10, 1 << 20))
    monkeypatch.setattr(yardsticks, "MATMUL_SIZES", {"cpu": (32, 64)})
    yardsticks._copies.cache_clear()
    try:
        found = measure_yardsticks("cpu", "bfloat16")
    finally:
        yardsticks._copies.cache_clear()
    assert [one.name for one in found] == ["copy", "copy-cached", "matmul"]
    assert all(0 < sample < math.inf for one in found for sample in one.samples)
    assert [one.fits_bytes for one in found] == [None, 1 << 20, None]


def test_a_product_takes_the_faster_route(monkeypatch):
    asked = []
    real = yardsticks._product
    monkeypatch.setattr(yardsticks, "MATMUL_SIZES", {"cpu": (16,)})
    monkeypatch.setattr(yardsticks, "_tried", lambda route, device: 1.0 if route == torch.float16 else 0.1)
    monkeypatch.setattr(
        yardsticks, "_product", lambda size, route, device: asked.append(route) or real(size, route, device)
    )
    yardsticks._products("cpu", torch.float16)
    assert asked == [torch.float32]


def test_the_copy_stays_within_the_memory_that_is_allowed(monkeypatch):
    sizes = []
    monkeypatch.setattr(yardsticks, "cache_bytes", lambda: (1 << 20, 300 << 20))
    monkeypatch.setattr(yardsticks, "_copy_rates", lambda size, repeats, device: sizes.append(size) or (1.0,))
    yardsticks._copies.cache_clear()
    yardsticks._copies("cpu", 1, 1 << 30)
    yardsticks._copies("cpu", 1, 1 << 40)
    yardsticks._copies.cache_clear()
    assert sizes[0] == 128 << 20
    assert sizes[2] == 300 << 20


@pytest.mark.parametrize(("seconds", "samples"), [(1e-4, yardsticks.SAMPLES), (0.1, yardsticks.LEAST_SAMPLES)])
def test_slow_yardsticks_take_fewer_samples_and_never_the_first(monkeypatch, seconds, samples):
    taken = iter([99.0, *[seconds] * 100])
    monkeypatch.setattr(yardsticks, "_seconds", lambda call, device: next(taken))
    assert yardsticks._sampled(lambda: None, "cpu") == [seconds] * samples


@pytest.mark.parametrize(("seconds", "said"), [(2e-3, "50 %"), (1e-3, "100 %"), (0.8e-3, "125 %, limit too low")])
def test_what_is_faster_than_its_limit_shows_that_the_limit_was_too_low(seconds, said):
    limit = roofline(machine(cached=False), CASE, counts(10**6))
    assert of_roofline(limit, seconds) == said


def test_without_a_limit_nothing_is_said_of_it():
    assert of_roofline(None, 1.0) == of_roofline(roofline(machine(), CASE, counts(1)), None) == "not measured"
