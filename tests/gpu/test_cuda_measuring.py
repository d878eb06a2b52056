"""Measuring on a CUDA device: times that another method confirms, the L2, clocks, memory, and what does not fit."""

import statistics

import pytest
import torch

from opbench import registry
from opbench.build import build
from opbench.engine import gpu
from opbench.engine.panel import Context, run_panel
from opbench.measure.cuda import ColdEvents, HotGraph, TorchDevice
from opbench.measure.latency import calibrate
from opbench.measure.memory import measure_memory
from opbench.measure.throttle import NvmlGauge, ThrottleGuard
from opbench.measure.yardsticks import measure_yardsticks
from opbench.schema import Case, Panel, Settings
from opbench.verify.gate import reference

pytestmark = pytest.mark.gpu


def uuid():
    return f"GPU-{torch.cuda.get_device_properties(0).uuid}"


def median_seconds(clock, call, samples=15):
    clock.prepare(call)
    calls, _ = calibrate(call, clock, 2e-3)
    return statistics.median(clock.sample(call, calls) / calls for _ in range(samples))


def sized(core, contender, dims, *, dtype="float32", mode="inference", spread=None):
    operator, implementation = contender
    task = registry.tasks()[core]
    return Case(core, "test", operator, implementation, {**task.defaults, **dims}, dtype, "cuda", mode, spread)


@pytest.mark.alone
def test_cold_times_agree_with_triton_s_own():
    """A check of the method, not of speed: both flush the L2 and time one call by events, of some 1 ms.

    Medians of the two differ by the clock's resolution (half a microsecond), launch order and drift, a few per cent; a
    flush inside the span or a forgotten synchronisation is off by far more than a quarter.
    """
    from triton.testing import do_bench

    x = torch.rand(1 << 28, device="cuda")
    y = torch.empty_like(x)

    def call():
        return torch.mul(x, 2, out=y)

    ours = median_seconds(ColdEvents(TorchDevice()), call)
    theirs = do_bench(call, return_mode="median") / 1e3
    assert 2e-4 < ours < 2e-2
    assert 0.8 <= ours / theirs <= 1.25


@pytest.mark.alone
def test_hot_times_of_a_long_kernel_agree_with_cold_ones():
    """What does not fit the L2 is as cold when it is hot."""
    x = torch.rand(1 << 28, device="cuda")
    y = torch.empty_like(x)

    def call():
        return torch.mul(x, 2, out=y)

    device = TorchDevice()
    assert 0.8 <= median_seconds(HotGraph(device), call) / median_seconds(ColdEvents(device), call) <= 1.25


@pytest.mark.alone
def test_what_fits_the_l2_is_slower_cold_than_hot():
    x = torch.rand(1 << 20, device="cuda")
    y = torch.empty_like(x)

    def call():
        return torch.mul(x, 2, out=y)

    device = TorchDevice()
    assert median_seconds(ColdEvents(device), call) > median_seconds(HotGraph(device), call)


@pytest.mark.alone
def test_the_copy_yardstick_is_no_faster_than_memory_and_no_slower_than_half_of_the_flush():
    copy, product = measure_yardsticks("cuda", "float32")
    rate = statistics.median(copy.samples)
    assert 1e11 < rate < 2e13
    assert statistics.median(product.samples) > 1e11
    device = TorchDevice()
    begin, end = device.event(), device.event()
    begin.record()
    for _ in range(20):
        device.flush()
    end.record()
    device.synchronize()
    written = 20 * (256 << 20) / (begin.elapsed_time(end) / 1e3)
    assert rate > written / 2


def test_the_guard_reads_clock_and_temperature():
    pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    guard = ThrottleGuard(NvmlGauge(uuid()))
    x = torch.rand(1 << 24, device="cuda")
    guard.settle(lambda: (x.mul_(1.0), torch.cuda.synchronize()))
    reading, _ = guard.judge()
    assert 100 < reading.sm_clock_mhz < 5000
    assert 0 < reading.temperature_celsius < 110
    assert guard.highest_mhz >= reading.sm_clock_mhz


def test_the_device_s_state_is_read():
    state = gpu.state(uuid())
    assert not state["driver"].startswith("not read"), state
    assert float(state["sm clock mhz"]) > 0
    assert float(state["temperature celsius"]) > 0


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    ("core", "contender", "dims", "spread"),
    [
        ("carafe_core", ("carafe", "triton"), {"N": 4, "C": 256, "H": 80, "W": 80}, None),
        ("dcnv3_core", ("dcnv3", "triton"), {"N": 16, "C": 128, "H": 56, "W": 56, "G": 4}, 2.0),
    ],
    ids=["carafe", "dcnv3"],
)
def test_forward_allocates_little_more_than_the_minimum(core, contender, dims, spread, dtype):
    built = build(sized(core, contender, dims, dtype=dtype, spread=spread))
    memory = measure_memory(built)
    least = built.operator.cost(registry.given(built.case)).elements * built.inputs[0].element_size()
    assert memory.method == "cuda-allocator"
    assert memory.held_bytes + memory.peak_bytes <= 1.1 * least


def small_dims(task):
    sizes = {"N": 2, "C": 16, "H": 9, "W": 7, "G": 2}
    return {**task.defaults, **{name: sizes.get(name, 1) for name in task.dims}}


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_every_definition_says_the_same_on_the_gpu_as_on_the_cpu(mode):
    """In float64: the loops that definitions are equal to run on a CPU."""
    registry.load()
    for task in ("upsample2x", "conv3x3", "carafe_core", "dcnv3_core"):
        for operator in registry.operators(task).values():
            implementation = next(iter(operator.implementations))
            spread = 2.0 if registry.tasks()[task].deformable else None
            dims = small_dims(registry.tasks()[task])
            if operator.requires(dims):
                continue
            case = Case(task, "test", operator.name, implementation, dims, "float64", "cuda", mode, spread)
            there = reference(build(case))
            here = reference(build(Case(**{**{f: getattr(case, f) for f in case.__struct_fields__}, "device": "cpu"})))
            for name, expected in here.expected.items():
                got = there.expected[name]
                assert got.device.type == "cuda"
                torch.testing.assert_close(got.cpu(), expected, rtol=1e-9, atol=1e-9, msg=f"{case.id}: {name}")


def panel_of(*cases):
    registry.load()
    return Panel(cases[0].panel_id, "test", cases[0].contender, cases)


SETTINGS = Settings(suite="test", precision=0.1, budget_seconds=0.2)


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_a_panel_is_proven_counted_and_timed_by_both_methods(mode):
    dims = {"N": 2, "C": 32, "H": 20, "W": 24, "G": 2}
    cases = [sized("dcnv3_core", ("dcnv3", name), dims, mode=mode, spread=2.0) for name in ("grid-sample", "triton")]
    for record in run_panel(panel_of(*cases), SETTINGS, Context()):
        assert record.outcome == "ok", (record.case.id, record.message)
        assert record.verdict.correct
        assert record.final_verdict.correct
        assert [latency.method for latency in record.latencies] == ["cuda-events-cold", "cuda-graph-hot"], record.notes
        assert record.memory.method == "cuda-allocator"
    assert any(note.startswith("chose tiles for forward") for note in record.notes)


def test_what_cannot_fit_is_named_and_not_run():
    dims = {"N": 64, "C": 4096, "H": 512, "W": 512}
    cases = [sized("carafe_core", ("carafe", name), dims) for name in ("unfold", "triton")]
    for record in run_panel(panel_of(*cases), SETTINGS, Context(memory_bytes=1 << 40)):
        assert record.outcome == "out-of-memory"
        assert record.message.startswith("not run: predicted to need")
