"""Compiled for 64-bit ARM, the CPU's kernels compute the definition: their machine code is run by an emulator."""

import pytest
import torch
from by_day import tried
from dysample_cases import FORMATS
from dysample_cases import assert_within_rounding as dysample_within_rounding
from dysample_cases import tensors as dysample_tensors
from emulated import machine
from test_cpu_sampling import assert_within_rounding as sampling_within_rounding
from test_cpu_sampling import tensors as sampling_tensors

from opbench import registry
from opbench.build import TORCH_DTYPES, build
from opbench.kernels.cpu import carafe, launch
from opbench.kernels.cpu.dysample import dysample_cpu
from opbench.kernels.cpu.sampling import PADDINGS
from opbench.schema import Case
from opbench.verify import gate

pytestmark = pytest.mark.skipif(machine.missing() is not None, reason=str(machine.missing()))

DTYPES = ("float32", "float64", "bfloat16", "float16")
# What any 64-bit ARM has; and a server's processor of today, with arithmetic in half precision and other atomics.
PROCESSORS = ("generic", "neoverse-v1")


@pytest.fixture
def emulated(arm, tmp_path, monkeypatch):
    """64-bit ARM, of the processor that the test is parametrised by, in place of this machine's."""
    found = machine.Machine(tmp_path, arm)
    found.take_over(monkeypatch)
    return found


def each(*, by_day=()):
    """Every processor with every dtype: a few seconds each, so by day one pair at most."""
    kinds = [(arm, dtype) for arm in PROCESSORS for dtype in DTYPES]
    return pytest.mark.parametrize(("arm", "dtype"), [tried(*kind, by_day=kind == by_day) for kind in kinds])


def judged(task, operator, dims, dtype, memory_format="contiguous", spread=None):
    """The verdict on output and gradients, by the error bound that is derived for the case."""
    dims = {**registry.tasks()[task].defaults, **dims}
    case = Case(task, "w", operator, "cpu", dims, dtype, "cpu", "training", spread, memory_format=memory_format)
    built = build(case)
    return gate.check(built, gate.reference(built))


def names(emulated):
    """The kernels that were called, without their modules."""
    return {name.split(".")[1] for name in emulated.called}


@each(by_day=("generic", "float32"))
def test_carafe(emulated, dtype):
    dims = {"N": 2, "C": 12, "H": 5, "W": 21, "k": 3, "g": 2, "s": 2}
    verdict = judged("carafe_core", "carafe", dims, dtype)
    assert verdict.correct, verdict
    assert names(emulated) == {"forward", "grad_x", "grad_mask"}


@each()
def test_carafe_channels_last_and_past_the_caches(emulated, dtype, monkeypatch):
    verdict = judged("carafe_core", "carafe", {"N": 1, "C": 24, "H": 4, "W": 9, "k": 3, "g": 3}, dtype, "channels_last")
    assert verdict.correct, verdict
    monkeypatch.setattr(carafe, "STREAM_FROM", 0)
    for memory_format in ("contiguous", "channels_last"):
        dims = {"N": 1, "C": 16, "H": 3, "W": 8, "k": 5, "g": 1, "s": 3}
        verdict = judged("carafe_core", "carafe", dims, dtype, memory_format)
        assert verdict.correct, verdict
    assert set(emulated.called) == {
        f"carafe_{way}.{name}" for way in ("first", "last") for name in ("forward", "grad_x", "grad_mask")
    }


@each()
def test_dcnv3(emulated, dtype):
    dims = {"N": 2, "C": 24, "H": 5, "W": 7, "G": 3}
    verdict = judged("dcnv3_core", "dcnv3", dims, dtype, spread=2.0)
    assert verdict.correct, verdict
    assert names(emulated) >= {"forward", "grad_x", "grad_offset_mask"}


@each()
def test_layers_whose_cores_take_logits(emulated, dtype):
    for memory_format in ("contiguous", "channels_last"):
        dims = {"N": 1, "C": 16, "H": 5, "W": 9, "k_up": 3, "c_mid": 8}
        verdict = judged("upsample2x", "carafe", dims, dtype, memory_format)
        assert verdict.correct, verdict
    verdict = judged("conv3x3", "dcnv3", {"N": 1, "C": 24, "H": 5, "W": 7, "G": 3}, dtype, spread=2.0)
    assert verdict.correct, verdict
    assert "carafe_logits.weights" in emulated.called
    assert "sampling_kernels.grad_offset_mask" in emulated.called


@each()
@pytest.mark.parametrize("padding", PADDINGS)
def test_sampling_at_positions(emulated, dtype, padding):
    for points, depth in ((1, 12), (3, 5)):
        drawn = sampling_tensors(1, 5, 6, 2 * depth, 3, 9, 2, points, dtype=TORCH_DTYPES[dtype])
        sampling_within_rounding(*drawn, group=2, padding=padding, first="y" if points == 3 else "x")
    assert names(emulated) >= {"forward", "grad_x", "grad_offset_mask"}


@each()
def test_dysample(emulated, dtype):
    for memory_format, scale in ((FORMATS[0], 2), (FORMATS[1], 3)):
        x, offset, grad = dysample_tensors(2, 10, 3, 9, scale, 2, dtype=TORCH_DTYPES[dtype])
        x = x.contiguous(memory_format=memory_format)
        dysample_within_rounding(dysample_cpu, x, offset, grad, scale=scale, groups=2)
    assert names(emulated) == {"forward", "grad_image", "grad_offset", "move"}


@pytest.mark.parametrize("arm", ["generic"])
def test_what_reads_past_its_memory_is_found(emulated):
    address = emulated.load("emitted", "counted")
    done = torch.zeros(8, dtype=torch.int64)
    launch.launch(address, [done.data_ptr()], tasks=8, scratch_bytes=0, work=10**9)
    assert done.tolist() == [1] * 8
    with pytest.raises(AssertionError, match="counted, emulated, ended with -11"):
        launch.launch(address, [done.data_ptr()], tasks=10, scratch_bytes=0, work=10**9)
