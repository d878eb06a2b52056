"""DySample's kernel on the CPU is the definition, in every dtype and format, on any number of threads."""

import pytest
import torch
from by_day import first_by_day, tried
from dysample_cases import EPS, FORMATS, assert_within_rounding, results, tensors
from torch.library import opcheck

from opbench.kernels.cpu import dysample, jit, processor
from opbench.kernels.cpu.dysample import dysample_cpu
from opbench.operators.dysample.definition import sampling

FIRST, LAST = FORMATS
# Each kind costs a second to compile, so that not every one is in the day's.
DAY = ((torch.float64, FIRST), (torch.float32, FIRST), (torch.float32, LAST), (torch.bfloat16, LAST))
KINDS = [tried(dtype, laid, by_day=(dtype, laid) in DAY) for dtype in EPS for laid in FORMATS]
# Rows shorter and longer than a vector, channels that no vector divides, one pixel, groups of one channel.
SHAPES = ((2, 8, 5, 7, 2, 2), (1, 14, 3, 40, 2, 1), (1, 4, 1, 1, 2, 4))
# Other scales; several vectors of channels at once.
MORE = ((2, 36, 3, 33, 3, 1), (2, 6, 9, 1, 1, 3), (1, 128, 3, 18, 2, 1), (1, 96, 3, 18, 2, 2), (1, 10, 2, 20, 4, 2))


@pytest.mark.parametrize(("dtype", "memory_format"), KINDS)
def test_results_and_gradients_are_the_definitions(dtype, memory_format):
    are_the_definitions(SHAPES, dtype, memory_format)


@pytest.mark.nightly
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("dtype", EPS)
def test_results_and_gradients_are_the_definitions_at_other_scales_and_widths(dtype, memory_format):
    are_the_definitions(MORE, dtype, memory_format)


def are_the_definitions(shapes, dtype, memory_format):
    for *shape, scale, groups in shapes:
        x, offset, grad = tensors(*shape, scale, groups, dtype=dtype)
        x = x.contiguous(memory_format=memory_format)
        out, grad_x, _ = assert_within_rounding(dysample_cpu, x, offset, grad, scale=scale, groups=groups)
        if x.shape[1] > 1 and x.shape[3] > 1:
            assert out.is_contiguous(memory_format=memory_format)
            assert grad_x.is_contiguous(memory_format=memory_format)


def test_an_output_past_the_caches_is_the_same():
    """From so many bytes on it is streamed; and rows whose vectors would lie askew are not."""
    for w in (256, 250):
        x, offset, grad = tensors(1, 32, 40, w)
        assert 4 * grad.numel() >= dysample.STREAM_FROM
        expected = sampling(x.double(), offset.double(), scale=2, groups=2)
        out = dysample_cpu(x, offset, scale=2, groups=2)
        torch.testing.assert_close(out.double(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("which", [[True, False], [False, True]])
def test_only_the_gradients_asked_for_are_made(which):
    x, offset, grad = tensors()
    every = torch.ops.opbench.dysample_cpu_backward(grad, x, offset, 2, 2, [True, True])
    some = torch.ops.opbench.dysample_cpu_backward(grad, x, offset, 2, 2, which)
    for asked, a, b in zip(which, some, every, strict=True):
        assert torch.equal(a, b) if asked else a.numel() == 0


@pytest.mark.parametrize("what", ["x", "offset", "grad"])
def test_strides_change_nothing(what):
    drawn = dict(zip(("x", "offset", "grad"), tensors(2, 12, 5, 20, 2, 3), strict=True))
    expected = results(dysample_cpu, *drawn.values(), scale=2, groups=3)
    t = drawn[what]
    n, c, h, w = t.shape
    for other in (
        torch.zeros(n + 1, c + 2, h + 2, w + 3)[1:, 1:-1, 2:, 3:].copy_(t),
        torch.zeros(n, c, h, 2 * w)[..., ::2].copy_(t),
        t.transpose(2, 3).contiguous().transpose(2, 3),
    ):
        got = results(dysample_cpu, **{**drawn, what: other}, scale=2, groups=3)
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_a_sample_held_at_the_border_has_no_slope_along_that_axis():
    x, offset, grad = tensors(1, 8, 4, 5, spread=0.0)
    offset[:, :8] = 100.0  # x of every sample
    out, grad_x, grad_offset = results(dysample_cpu, x, offset, grad, scale=2, groups=2)
    assert torch.equal(out[..., :1].expand_as(out), out)
    assert not grad_x[..., :-1].any()
    assert not grad_offset[:, :8].any()
    assert grad_offset[:, 8:].any()


def test_what_is_not_finite_in_one_pixel_stays_with_the_samples_of_its_cell():
    x, offset, _ = tensors(1, 8, 4, 6, spread=0.0)
    x[:, :, :, 3] = torch.inf
    offset[:, :8] = 100.0
    assert dysample_cpu(x, offset, scale=2, groups=2).isfinite().all()


def test_empty_inputs_give_nothing():
    for n, c in ((0, 8), (1, 0)):
        drawn = tensors(n, c)
        for got, like in zip(results(dysample_cpu, *drawn, scale=2, groups=2), (drawn[2], *drawn[:2]), strict=True):
            assert got.shape == like.shape
            assert not got.any()


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("dtype", first_by_day((torch.float32, torch.bfloat16, torch.float64)))
def test_every_run_gives_the_same_bits_on_any_number_of_threads(threads, dtype, groups, memory_format):
    x, *rest = tensors(2, 48 * groups, 11, 37, 2, groups, dtype=dtype)
    drawn = x.contiguous(memory_format=memory_format), *rest
    threads(1)
    expected = results(dysample_cpu, *drawn, scale=2, groups=groups)
    for number in (2, 3, 8, 64):
        threads(number)
        got = results(dysample_cpu, *drawn, scale=2, groups=groups)
        assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("shape", first_by_day(((16, 32), (32, 16), (16, 16))), ids=str)
def test_processors_with_shorter_vectors_get_the_same_results(monkeypatch, shape, memory_format):
    monkeypatch.setattr(jit, "_addresses", {})
    sources = jit._sources()
    monkeypatch.setattr(jit, "_sources", lambda: f"{sources} with shorter vectors {shape}")
    for module in (jit, dysample):
        monkeypatch.setattr(module, "target", lambda: processor.VectorUnit(*shape))
    x, *rest = tensors(1, 20, 5, 11)
    assert_within_rounding(dysample_cpu, x.contiguous(memory_format=memory_format), *rest, scale=2, groups=2)


def test_the_operations_keep_torchs_rules():
    x, offset, grad = tensors()
    rules = ("test_schema", "test_autograd_registration", "test_faketensor")
    inputs = (x.requires_grad_(), offset.requires_grad_(), 2, 2)
    opcheck(torch.ops.opbench.dysample_cpu.default, inputs, test_utils=rules)
    backward = (grad, x.detach(), offset.detach(), 2, 2, [True, True])
    opcheck(torch.ops.opbench.dysample_cpu_backward.default, backward, test_utils=rules)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert dysample_cpu(x.bfloat16(), offset, scale=2, groups=2).dtype == torch.bfloat16


def test_a_tangent_is_refused():
    x, offset, _ = tensors()
    with pytest.raises(NotImplementedError, match="dysample_cpu: forward-mode"):
        torch.func.jvp(lambda value: dysample_cpu(value, offset, scale=2, groups=2), (x,), (x,))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"offset": torch.zeros(1, 16, 5, 5)}, ValueError, r"offset is \(1, 16, 5, 5\); expected \(1, 16, 5, 6\)"),
        ({"offset": torch.zeros(1, 16, 5, 6).double()}, TypeError, "offset torch.float64; expected"),
        ({"x": torch.zeros(8, 5, 6)}, ValueError, r"expected \(N, C, H, W\)"),
        ({"x": torch.zeros(1, 8, 5, 6, dtype=torch.int32)}, TypeError, "int32"),
        ({"x": torch.zeros(1, 8, 0, 6)}, ValueError, "expected a pixel at least"),
        ({"groups": 3}, ValueError, "divisible by groups 3"),
        ({"scale": 0}, ValueError, "scale 0"),
    ],
)
def test_inputs_that_do_not_fit_together_are_refused(change, error, message):
    x, offset, _ = tensors()
    with pytest.raises(error, match=message):
        dysample_cpu(**{"x": x, "offset": offset, "scale": 2, "groups": 2, **change})
