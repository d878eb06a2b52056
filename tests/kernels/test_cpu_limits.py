"""The CPU kernels at the edges of docs/reference/kernel-limits.md: sizes, indices, strides, alignment, threads."""

import mmap
import sys

import pytest
import test_cpu_carafe
import test_cpu_dcnv3
import test_cpu_dcnv4
import test_cpu_sampling
import torch
from dysample_cases import results as dysample_results
from dysample_cases import tensors as dysample_tensors

from opbench.kernels.cpu import carafe, dysample, launch, layout, processor
from opbench.kernels.cpu.carafe import carafe_cpu
from opbench.kernels.cpu.dcnv3 import dcnv3_cpu
from opbench.kernels.cpu.dcnv4 import dcnv4_cpu
from opbench.kernels.cpu.dysample import dysample_cpu
from opbench.kernels.cpu.processor import VectorUnit
from opbench.kernels.cpu.sampling import sample

WINDOW = {"kernel_size": 3, "stride": 1, "pad": 1, "dilation": 1, "group": 2, "offset_scale": 1.0,
          "remove_center": False}  # fmt: skip


def reserved(elements, dtype):
    """A vector of zeros that takes addresses alone: memory is taken as a page of it is written."""
    if sys.platform != "linux":
        pytest.skip("how addresses are reserved without memory is known of Linux alone")
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)  # named from 3.12 on
    return torch.frombuffer(mmap.mmap(-1, elements * dtype.itemsize, flags=flags), dtype=dtype)


# --- Sizes ------------------------------------------------------------------------------------------------------------


def on_paper(*shape):
    return torch.empty(shape, device="meta")


def carafe_of(side, *, s=2):
    return torch.ops.opbench.carafe_cpu(on_paper(1, 1, 1, side), on_paper(1, 9, s, s * side), 3, 1, s)


def dcnv3_of(side):
    offset, mask = on_paper(1, 3, side + 2, 18), on_paper(1, 3, side + 2, 9)
    return torch.ops.opbench.dcnv3_cpu(on_paper(1, 1, side, 1), offset, mask, 3, 1, 2, 1, 1, 1.0, False)


def dcnv4_of(side):
    packed = on_paper(1, 3, side + 2, 32)
    return torch.ops.opbench.dcnv4_cpu(on_paper(1, 1, side, 1), packed, 3, 1, 2, 1, 1, 1.0, False)


def dysample_of(side):
    return torch.ops.opbench.dysample_cpu(on_paper(1, 1, 1, side), on_paper(1, 32, 1, side), 4, 1)


def positions_of(side):
    return torch.ops.opbench.sampling_cpu(on_paper(1, side, 1, 1), on_paper(1, 1, 1, 2), None, 1, "zeros", "x")


@pytest.mark.parametrize(
    ("call", "greatest"),
    [
        (carafe_of, 2**30 - 4),  # (side + 3) x 2 < 2**31
        (dcnv3_of, 2**29 - 8),  # side + 2 x 2 + 1 x (3 - 1) + 1 < 2**29
        (dcnv4_of, 2**29 - 8),
        (dysample_of, 2**27 - 1),  # side x 4 < 2**29
        (positions_of, 2**24 - 1),
    ],
)
def test_the_greatest_side_is_taken_and_one_more_is_refused(call, greatest):
    call(greatest)
    with pytest.raises(ValueError, match=r"below 2\*\*|less than 2\*\*29"):
        call(greatest + 1)


@pytest.mark.parametrize("core", [dcnv3_cpu, dcnv4_cpu])
def test_the_last_pixel_of_the_widest_image_is_sampled_exactly_and_the_next_is_outside(core):
    width, stride = 2**29 - 2, 2**28
    x = reserved(width, torch.float64).view(1, 1, width, 1)
    x[..., -1, :], x[..., 0, :], x[..., stride, :] = 3.0, 5.0, 7.0
    call = {**WINDOW, "kernel_size": 1, "pad": 0, "group": 1, "stride": stride}
    for columns, expected in (((width - 1, width - 1), [3, 3]), ((0, stride), [5, 7]), ((width, -1), [0, 0])):
        moves = torch.tensor([[[[columns[0], 0], [columns[1] - stride, 0]]]], dtype=x.dtype)
        mask = torch.ones(1, 1, 2, 1, dtype=x.dtype)
        given = (moves, mask) if core is dcnv3_cpu else (torch.cat((moves, mask), -1),)
        assert core(x, *given, **call).flatten().tolist() == expected


def test_the_last_pixel_at_which_positions_are_exact_is_sampled():
    width = 2**24 - 1
    x = reserved(width, torch.float32).view(1, 1, width, 1)
    x[..., -1, :] = 3.0
    positions = torch.tensor([[[[width - 1.0, 0.0], [float(width), 0.0], [width - 2.0, 0.0]]]])
    assert sample(x, positions).flatten().tolist() == [3, 0, 0]
    assert sample(x, positions, padding="border").flatten().tolist() == [3, 3, 0]


@pytest.mark.parametrize("far", [2.0**29, 2.0**31, 2.0**32 + 2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_displacement_that_leaves_32_bits_is_outside(far, dtype):
    x = torch.ones(1, 4, 6, 2, dtype=dtype)
    call = {**WINDOW, "kernel_size": 1, "pad": 0, "group": 1}
    for sign in (1, -1):
        moves = torch.tensor([sign * far, 0.0], dtype=dtype).expand(1, 4, 6, 2).contiguous()
        assert not dcnv3_cpu(x, moves, torch.ones(1, 4, 6, 1, dtype=dtype), **call).any()


def test_a_kernel_of_more_points_than_a_block_holds():
    call = test_cpu_dcnv3.arguments(k=18, pad=9, group=1)
    test_cpu_dcnv3.assert_within_rounding(*test_cpu_dcnv3.tensors(1, 2, 3, 4, call, dtype=torch.float32), **call)


# --- Strides ----------------------------------------------------------------------------------------------------------

CARAFE = {"kernel_size": 3, "group_size": 2, "scale_factor": 2}
PACKED = test_cpu_dcnv4.drawn(2, 3, 7, 4, WINDOW)
CALLS = {
    "carafe": (
        lambda *given: test_cpu_carafe.results(carafe_cpu, *given, **CARAFE),
        test_cpu_carafe.tensors(2, 4, 3, 9, 3, 2, 2, dtype=torch.float32),
    ),
    "carafe-channels-last": (
        lambda *given: test_cpu_carafe.results(carafe_cpu, *given, **CARAFE),
        test_cpu_carafe.tensors(2, 4, 3, 9, 3, 2, 2, dtype=torch.float32, format="last"),
    ),
    "dcnv3": (
        lambda *given: test_cpu_dcnv3.results(dcnv3_cpu, *given, **WINDOW),
        test_cpu_dcnv3.tensors(2, 3, 7, 8, WINDOW, dtype=torch.float32),
    ),
    "dcnv4": (
        lambda *given: test_cpu_dcnv4.results(dcnv4_cpu, *given, **WINDOW),
        (PACKED[0], PACKED[1].nan_to_num(0.0), PACKED[2]),
    ),
    "dysample": (
        lambda *given: dysample_results(dysample_cpu, *given, scale=2, groups=2),
        dysample_tensors(2, 4, 3, 9, 2, 2),
    ),
    "positions": (
        lambda *given: test_cpu_sampling.results(sample, *given, group=2),
        test_cpu_sampling.tensors(2, 3, 5, 8, 3, 7, 2, 3),
    ),
}  # fmt: skip


def apart(t, axis):
    """The same values, with more than 2**31 elements from one index of an axis to the next."""
    order = sorted((other for other in range(t.dim()) if other != axis), key=lambda other: -t.stride(other))
    strides, step = [0] * t.dim(), 1
    for other in reversed(order):
        strides[other], step = step, step * t.shape[other]
    strides[axis] = 2**31 + 3
    last = sum((size - 1) * stride for size, stride in zip(t.shape, strides, strict=True))
    return reserved(last + 1, t.dtype).as_strided(t.shape, strides).copy_(t)


@pytest.mark.parametrize("name", CALLS)
def test_strides_may_be_longer_than_32_bits_hold(name):
    call, given = CALLS[name]
    expected = call(*given)
    for which, t in enumerate(given):
        for axis in range(4):
            if t.stride(axis) == 1:
                continue
            far = [*given]
            far[which] = apart(t, axis)
            for got, want in zip(call(*far), expected, strict=True):
                torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", CALLS)
def test_strides_may_be_zero(name):
    """Any tensor, repeated along any axis without a copy of it."""
    call, given = CALLS[name]
    for which, t in enumerate(given):
        for axis in range(4):
            repeated, copied = [*given], [*given]
            repeated[which] = t.narrow(axis, 0, 1).expand(t.shape)
            copied[which] = torch.empty_like(t).copy_(repeated[which])
            for got, want in zip(call(*repeated), call(*copied), strict=True):
                torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


def test_an_image_of_long_strides_is_laid_out_by_pixels_and_back():
    x = torch.randn(2, 3, 4, 9, generator=torch.Generator().manual_seed(0))
    for axis in range(3):
        far = apart(x, axis)
        image = layout.pixels(far)
        assert torch.equal(image[:, 0], x.permute(0, 2, 3, 1))
        layout.planes(image * 2, far)
        assert torch.equal(far, x * 2)


# --- Alignment --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [carafe, dysample])
def test_an_output_that_begins_askew_is_stored_as_usual(module, monkeypatch):
    name = module.__name__.rpartition(".")[2]
    call, given = CALLS[name]
    expected = call(*given)
    monkeypatch.setattr(module, "STREAM_FROM", 0)
    output = module.output

    def askew(*arguments):
        like = output(*arguments)
        return torch.empty(like.numel() + 1, dtype=like.dtype)[1:].view(like.shape)

    monkeypatch.setattr(module, "output", askew)
    for got, want in zip(call(*given), expected, strict=True):
        assert torch.equal(got, want)


def test_an_output_goes_past_the_caches_from_4_mib_on_where_its_vectors_lie_even():
    whole = torch.empty(2**20 + 16)
    start = -whole.data_ptr() % 64 // 4
    large = whole[start : start + 2**20]
    assert large.nbytes == 4 << 20
    assert carafe._streams(large, 16)
    assert not carafe._streams(large[:-1], 16)
    assert not carafe._streams(whole[start + 1 :][: 2**20], 16)


# --- Vectors and threads ----------------------------------------------------------------------------------------------

AVX512 = ["+avx512f", "+avx512bw", "+avx512dq", "+avx512vl", "+avx2", "+fma"]


@pytest.mark.parametrize(
    ("features", "triple", "unit"),
    [
        (AVX512, "x86_64-unknown-linux-gnu", VectorUnit(64, 32)),
        (AVX512[1:], "x86_64-unknown-linux-gnu", VectorUnit(32, 16)),
        (["+avx2", "-fma"], "x86_64-unknown-linux-gnu", VectorUnit(16, 16)),
        (["+neon"], "aarch64-unknown-linux-gnu", VectorUnit(16, 32)),
        ([], "arm64-apple-darwin23", VectorUnit(16, 32)),
        ([], "powerpc64le-unknown-linux-gnu", VectorUnit(16, 16)),
    ],
)
def test_the_width_of_vectors_follows_from_the_processor(monkeypatch, features, triple, unit):
    llvm, *rest = processor.machine()
    monkeypatch.setattr(processor, "machine", lambda: (llvm, *rest))
    monkeypatch.setattr(processor, "host", lambda: ("", features))
    monkeypatch.setattr(llvm, "get_process_triple", lambda: triple)
    assert processor.target.__wrapped__() == unit


@pytest.mark.parametrize(
    ("work", "tasks", "expected"), [(1_999_999, 99, 1), (2_000_000, 99, 2), (10**9, 3, 3), (10**9, 99, 5)]
)
def test_a_further_thread_is_used_for_each_million_multiply_adds(monkeypatch, work, tasks, expected):
    used = []
    monkeypatch.setattr(launch, "_function", lambda address: lambda values: used.append(1))
    monkeypatch.setattr(launch, "team", lambda: lambda address, values, threads, flags: used.append(threads))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    launch.launch(0, [], tasks=tasks, scratch_bytes=0, work=work)
    assert used == [expected]
