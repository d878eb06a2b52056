"""CUDA timing around the device, on a simulated one; the same on a real one where there is one."""

import math

import pytest
import torch
from simulated_gpu import FLUSH_SECONDS, FULL_MHZ, LAUNCH_SECONDS, SimulatedGpu

from opbench.measure.cuda import WARM_UP_SECONDS, WARMED_SECONDS, ColdEvents, HotGraph, TorchDevice
from opbench.measure.latency import measure_panel
from opbench.measure.throttle import (
    DISCARDS_AT_MOST,
    PAUSE_SECONDS,
    SETTLED_READINGS,
    NvmlGauge,
    ThrottleGuard,
    beyond_cap,
)

KERNEL_SECONDS = 1e-3


def guarded(gpu):
    return ThrottleGuard(gpu, gpu.sleep)


def measured(gpu, clock, guard, *, seconds=(KERNEL_SECONDS, 3 * KERNEL_SECONDS), budget=2.0):
    calls = {name: gpu.kernel(cost) for name, cost in zip(("base", "other"), seconds, strict=True)}
    for call in calls.values():
        clock.prepare(call)
    return measure_panel(
        calls, "base", clock=clock, precision=1e-9, budget_seconds=budget,
        first_call_seconds=dict.fromkeys(calls, 0.0), seed=0, guard=guard,
    )  # fmt: skip


def test_each_cold_call_has_its_own_events_and_the_flush_is_outside_of_them():
    gpu = SimulatedGpu()
    seconds = ColdEvents(gpu).sample(gpu.kernel(KERNEL_SECONDS), 3)
    assert gpu.log == ["flush", "event", "call", "event"] * 3 + ["synchronize"]
    assert seconds == pytest.approx(3 * 2 * KERNEL_SECONDS)  # cold each time, and no flush in it
    assert gpu.device > 3 * (2 * KERNEL_SECONDS + FLUSH_SECONDS) * 0.99


def test_hot_replays_are_between_one_pair_of_events_and_never_flushed():
    gpu = SimulatedGpu()
    clock, call = HotGraph(gpu), gpu.kernel(KERNEL_SECONDS)
    clock.prepare(call)
    assert gpu.log.count("capture") == 1
    gpu.log.clear()
    assert clock.sample(call, 5) == pytest.approx(5 * KERNEL_SECONDS, rel=0.01)
    assert gpu.log == ["event", *["call"] * 5, "event", "synchronize"]


def test_a_launch_gap_is_in_neither():
    gpu = SimulatedGpu()
    clock, call = ColdEvents(gpu), gpu.kernel(LAUNCH_SECONDS)
    assert clock.sample(call, 1) == pytest.approx(2 * LAUNCH_SECONDS, rel=0.5)


def test_a_call_that_can_not_be_captured_is_not_timed_hot():
    gpu = SimulatedGpu()
    gpu.capture = lambda call: (_ for _ in ()).throw(RuntimeError("operation not permitted when stream is capturing"))
    with pytest.raises(RuntimeError, match="capturing"):
        HotGraph(gpu).prepare(gpu.kernel(KERNEL_SECONDS))


def test_the_two_methods_have_keys_of_their_own():
    gpu = SimulatedGpu()
    latencies = [measured(gpu, clock(gpu), None)["other"] for clock in (ColdEvents, HotGraph)]
    assert [latency.method for latency in latencies] == ["cuda-events-cold", "cuda-graph-hot"]
    cold, hot = (min(latency.samples_seconds[0]) for latency in latencies)
    assert cold == pytest.approx(2 * hot, rel=0.01)


def test_the_block_is_calibrated_on_the_device_s_time():
    gpu = SimulatedGpu()
    latencies = measured(gpu, HotGraph(gpu), None, seconds=(1e-5, KERNEL_SECONDS))
    assert 200 <= latencies["base"].calls_per_sample <= 300  # 2 ms of 10 us, with a fifth to spare
    assert latencies["other"].calls_per_sample in (2, 3)


def test_the_warm_up_lasts_until_the_clock_stands_still():
    rising = [300.0, 600.0, 900.0, 1500.0, 1800.0, FULL_MHZ]
    gpu = SimulatedGpu(rising)
    guard = guarded(gpu)
    assert guard.settle(gpu.kernel(KERNEL_SECONDS))
    assert gpu.mhz == guard.highest_mhz == FULL_MHZ
    assert gpu.log.count("call") >= len(rising) + SETTLED_READINGS - 1


def test_a_clock_that_never_settles_is_given_up_on():
    gpu = SimulatedGpu([1000.0, 1090.0] * 200)
    assert not guarded(gpu).settle(gpu.kernel(KERNEL_SECONDS))


def test_clock_and_temperature_are_kept_beside_every_sample():
    gpu = SimulatedGpu(temperature=71.0)
    guard = guarded(gpu)
    for latency in measured(gpu, ColdEvents(gpu, guard), guard).values():
        (samples,) = latency.samples_seconds
        assert latency.sm_clock_mhz == ((FULL_MHZ,) * len(samples),)
        assert latency.temperature_celsius == ((71.0,) * len(samples),)


def test_throttled_samples_are_discarded_in_their_place_and_waited_out():
    gpu = SimulatedGpu()
    guard = guarded(gpu)
    clock = ColdEvents(gpu, guard)
    calls = {"base": gpu.kernel(KERNEL_SECONDS)}
    clock.prepare(calls["base"])
    gpu.clocks = [FULL_MHZ] * 4 + [990.0] * 3 + [FULL_MHZ]
    before = gpu.slept
    latency = measure_panel(
        calls, None, clock=clock, precision=0.01, budget_seconds=1.0, first_call_seconds={"base": 0.0}, seed=0,
        guard=guard,
    )["base"]  # fmt: skip
    (samples,) = latency.samples_seconds
    assert [position for position, sample in enumerate(samples) if math.isnan(sample)] == [4, 5, 6]
    assert latency.stop == "budget"
    assert gpu.slept - before == pytest.approx(3 * PAUSE_SECONDS)
    good = [sample for sample, mhz in zip(samples, latency.sm_clock_mhz[0], strict=True) if mhz == FULL_MHZ]
    assert sorted(good)[len(good) // 2] == pytest.approx(2 * KERNEL_SECONDS)


def test_past_the_cap_the_case_is_throttled_and_never_timed_on():
    gpu = SimulatedGpu()
    guard = guarded(gpu)
    clock = ColdEvents(gpu, guard)
    call = gpu.kernel(KERNEL_SECONDS)
    clock.prepare(call)
    gpu.clocks = [900.0]
    latencies = measure_panel(
        {"base": call}, "base", clock=clock, precision=0.01, budget_seconds=1e6, first_call_seconds={"base": 0.0},
        seed=0, guard=guard,
    )  # fmt: skip
    assert latencies["base"].stop == "throttled"
    assert len(latencies["base"].samples_seconds[0]) == DISCARDS_AT_MOST + 1
    assert guard.why == "SM clock at 900 MHz where 1980 MHz were reached, 60 degrees Celsius"


def test_the_baseline_is_not_convicted_of_the_others_throttling():
    gpu = SimulatedGpu()
    guard = guarded(gpu)
    clock = ColdEvents(gpu, guard)
    calls = {"base": gpu.kernel(KERNEL_SECONDS), "hot": gpu.kernel(KERNEL_SECONDS)}
    for call in calls.values():
        clock.prepare(call)
    turn = {"name": ""}

    class Watch:
        def before(self, name):
            gpu.clocks = [900.0] if name == "hot" else []
            turn["name"] = name

        def after(self, name):
            assert turn["name"] == name

    latencies = measure_panel(
        calls, "base", clock=clock, precision=1e-9, budget_seconds=1e6, first_call_seconds=dict.fromkeys(calls, 0.0),
        seed=0, guard=guard, watch=Watch(),
    )  # fmt: skip
    assert {name: latency.stop for name, latency in latencies.items()} == {"base": "budget", "hot": "throttled"}
    assert not any(math.isnan(sample) for sample in latencies["base"].samples_seconds[0])


@pytest.mark.parametrize(
    ("reasons", "said"),
    [(0x08, "hardware slowdown"), (0x20, "software thermal"), (0x40, "hardware thermal"), (0x80, "power brake")],
)
def test_a_reason_that_nvml_gives_is_enough_at_the_full_clock(reasons, said):
    gpu = SimulatedGpu()
    guard = guarded(gpu)
    assert guard.judge()[1] is False
    gpu.reasons = reasons
    assert guard.judge()[1] is True
    assert said in guard.why


@pytest.mark.parametrize("reasons", [0x01, 0x02, 0x04, 0x10])
def test_idleness_and_clocks_that_were_asked_for_are_no_throttling(reasons):
    gpu = SimulatedGpu()
    gpu.reasons = reasons
    assert guarded(gpu).judge()[1] is False


def test_a_boost_step_is_no_throttling():
    gpu = SimulatedGpu([FULL_MHZ, FULL_MHZ - 15, FULL_MHZ - 150, FULL_MHZ - 210])
    guard = guarded(gpu)
    assert [guard.judge()[1] for _ in range(4)] == [False, False, False, True]


def test_the_cap_is_a_number_and_a_share():
    assert not beyond_cap(DISCARDS_AT_MOST, DISCARDS_AT_MOST)
    assert beyond_cap(DISCARDS_AT_MOST + 1, DISCARDS_AT_MOST + 1)
    assert not beyond_cap(100, 200)
    assert beyond_cap(101, 200)


def test_a_clock_that_steps_up_and_down_stands_still():
    gpu = SimulatedGpu([1965.0, FULL_MHZ] * 200)
    assert guarded(gpu).settle(gpu.kernel(KERNEL_SECONDS))
    assert gpu.log.count("call") <= 2 * SETTLED_READINGS


def test_the_device_is_warmed_up_once_and_each_contender_after_that_briefly():
    gpu = SimulatedGpu()
    clock = ColdEvents(gpu, guarded(gpu))
    spent = []
    for _ in range(3):
        before = gpu.host
        clock.prepare(gpu.kernel(KERNEL_SECONDS))
        spent.append(gpu.host - before)
    assert spent[0] >= WARM_UP_SECONDS
    assert all(WARMED_SECONDS <= seconds <= 2 * WARMED_SECONDS for seconds in spent[1:])


@pytest.mark.gpu
def test_a_real_device_is_flushed_timed_and_replayed():
    x = torch.rand(1 << 20, device="cuda")
    guard = ThrottleGuard(NvmlGauge(f"GPU-{torch.cuda.get_device_properties(0).uuid}"))
    device = TorchDevice()

    def call():
        return x * 2

    for clock in (ColdEvents(device, guard), HotGraph(device, guard)):
        clock.prepare(call)
        latency = measure_panel(
            {"a": call}, None, clock=clock, precision=0.1, budget_seconds=0.3, first_call_seconds={"a": 0.0}, seed=0,
            guard=guard,
        )["a"]  # fmt: skip
        assert latency.method == clock.method
        assert all(seconds > 0 for seconds in latency.samples_seconds[0] if not math.isnan(seconds))
        assert len(latency.sm_clock_mhz[0]) == len(latency.samples_seconds[0])
        assert latency.temperature_celsius[0][0] > 0
