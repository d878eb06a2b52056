"""The CPU's cores that take logits are a softmax and the definition, in every dtype, layout and width of vector."""

import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.library import opcheck

from opbench.kernels.cpu import carafe as cpu_carafe
from opbench.kernels.cpu import jit, processor, sampling_call
from opbench.kernels.cpu.carafe import carafe_cpu, carafe_cpu_logits
from opbench.kernels.cpu.dcnv3 import dcnv3_cpu, dcnv3_cpu_logits
from opbench.operators.carafe.definition import reassembly
from opbench.operators.dcnv3.definition import dcnv3_definition

EPS = {torch.float64: 2.0**-52, torch.float32: 2.0**-23, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}
FORMATS = {"first": torch.contiguous_format, "last": torch.channels_last}
FEW = settings(max_examples=settings.default.max_examples // 4)
# Kernel size, scale, channels of a group, dtype, formats of x and logits. Few: each has kernels of its own to compile.
PROBLEMS = [
    (3, 1, 3, torch.float32, "first", "first"),
    (5, 2, 4, torch.float64, "first", "last"),
    (3, 3, 6, torch.float32, "last", "last"),
    (3, 2, 16, torch.float32, "last", "first"),
]
DCNV3 = {"kernel_size": 3, "stride": 1, "pad": 1, "dilation": 1, "offset_scale": 1.0, "remove_center": False}


def shuffled(logits, k, g, s):
    """The mask that CARAFE's modules make of what their encoder returns."""
    return F.pixel_shuffle(logits, s).unflatten(1, (g, k * k)).softmax(2).flatten(1, 2)


def over_points(logits, group):
    return logits.unflatten(-1, (group, -1)).softmax(-1).flatten(-2)


def reassembled(x, logits, *, kernel_size, group_size, scale_factor):
    """The definition of the logits' softmax."""
    mask = shuffled(logits, kernel_size, group_size, scale_factor)
    return reassembly(x, mask, kernel_size=kernel_size, group_size=group_size, scale_factor=scale_factor)


def sampled(x, offset, logits, **call):
    return dcnv3_definition(x, offset, over_points(logits, call["group"]), **call)


def results(core, inputs, grad, **call):
    """The output, and the gradients of the inputs."""
    inputs = [t.detach().requires_grad_() for t in inputs]
    out = core(*inputs, **call)
    return out.detach(), *torch.autograd.grad(out, inputs, grad)


def assert_is(definition, core, inputs, grad, **call):
    """Each result is within some roundings of the largest number and, in half types, one of itself, of the definition.

    CARAFE's backward passes weights on in the inputs' dtype.
    """
    got = results(core, inputs, grad, **call)
    expected = results(definition, [t.double().contiguous() for t in inputs], grad.double(), **call)
    dtype = inputs[0].dtype
    rounded = EPS[dtype] if definition is reassembled else 0
    summed_in = 64 * EPS[torch.float64 if dtype == torch.float64 else torch.float32]
    for number, (a, b) in enumerate(zip(got, expected, strict=True)):
        assert a.dtype == dtype
        most = b.abs().amax() if b.numel() else 0.0
        bound = (summed_in + (rounded if number else 0)) * most + EPS[dtype] * b.abs() + torch.finfo(dtype).tiny
        worst = ((a.double() - b).abs() / bound).max().item() if b.numel() else 0.0
        assert worst <= 1, f"result {number} is off by {worst:.3g} times its bound, x {tuple(inputs[0].shape)}, {call}"


def carafe_call(k=3, g=1, s=2):
    return {"kernel_size": k, "group_size": g, "scale_factor": s}


def carafe_tensors(n, c, h, w, k, g, s, *, dtype=torch.float32, format="first", logits="first", seed=0):
    """x and logits, and the output's gradient."""
    generator = torch.Generator().manual_seed(seed)
    x, grad = torch.randn(n, c, h, w, generator=generator), torch.randn(n, c, s * h, s * w, generator=generator)
    encoded = 3 * torch.randn(n, g * k * k * s * s, h, w, generator=generator)
    x, grad = (t.to(dtype).contiguous(memory_format=FORMATS[format]) for t in (x, grad))
    return (x, encoded.to(dtype).contiguous(memory_format=FORMATS[logits])), grad


def dcnv3_tensors(n, h, w, c, group, k=3, *, dtype=torch.float32, seed=0):
    """x, offset and logits, and the output's gradient. Locations keep off whole numbers, where derivatives jump."""
    generator = torch.Generator().manual_seed(seed)
    x, grad = (torch.randn(n, h, w, c, generator=generator) for _ in range(2))
    moves = (torch.randn(n, h, w, group * k * k * 2, generator=generator) * 16).round() / 8 + 1 / 16
    logits = 3 * torch.randn(n, h, w, group * k * k, generator=generator)
    return tuple(t.to(dtype) for t in (x, moves, logits)), grad.to(dtype)


# --- What they compute ------------------------------------------------------------------------------------------------


@FEW
@given(st.data())
def test_carafe_s_results_and_gradients_are_the_definitions(data):
    """Sizes around the vectors' lengths, channels of logits that no vector divides, images smaller than the window."""
    k, s, c, dtype, format, logits = data.draw(st.sampled_from(PROBLEMS))
    g = data.draw(st.integers(1, 3))
    c *= g
    n, h = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 4))
    w = data.draw(st.one_of(st.integers(1, 6), st.sampled_from([7, 8, 9, 15, 16, 17, 31, 33, 64, 70])))
    seed = data.draw(st.integers(0, 99))
    drawn, grad = carafe_tensors(n, c, h, w, k, g, s, dtype=dtype, format=format, logits=logits, seed=seed)
    assert_is(reassembled, carafe_cpu_logits, drawn, grad, **carafe_call(k, g, s))


@FEW
@given(st.data())
def test_dcnv3_s_results_and_gradients_are_the_definitions(data):
    """Windows that fill no vector, one, and more; blocks that end within a row."""
    k = data.draw(st.sampled_from([1, 2, 3, 4, 5]))
    group = data.draw(st.integers(1, 5))
    depth, dtype = data.draw(st.sampled_from([(1, torch.float64), (8, torch.float32), (16, torch.float32)]))
    c = group * depth
    n, h, w = data.draw(st.integers(1, 2)), data.draw(st.integers(k, 6)), data.draw(st.integers(k, 40))
    drawn, grad = dcnv3_tensors(n, h, w, c, group, k, dtype=dtype, seed=data.draw(st.integers(0, 99)))
    call = {**DCNV3, "kernel_size": k, "pad": k // 2, "group": group}
    if k % 2 == 0:  # the output has a row and a column more
        drawn = (drawn[0][:, :-1, :-1], *drawn[1:])
    assert_is(sampled, dcnv3_cpu_logits, drawn, grad, **call)


@pytest.mark.parametrize(("k", "s", "w", "format"), [(3, 5, 40, "first"), (17, 1, 20, "last"), (5, 2, 200, "first")])
def test_large_windows_and_scales(k, s, w, format):
    drawn, grad = carafe_tensors(1, 5, 3, w, k, 1, s, format=format, logits=format)
    assert_is(reassembled, carafe_cpu_logits, drawn, grad, **carafe_call(k, 1, s))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_dtypes_are_computed_with_in_float32(dtype):
    for format, w in product(FORMATS, (5, 32)):
        drawn, grad = carafe_tensors(1, 32, 9, w, 3, 2, 2, dtype=dtype, format=format, logits=format)
        assert_is(reassembled, carafe_cpu_logits, drawn, grad, **carafe_call(3, 2, 2))
    drawn, grad = dcnv3_tensors(1, 8, 13, 64, 4, dtype=dtype)
    assert_is(sampled, dcnv3_cpu_logits, drawn, grad, **DCNV3, group=4)


@pytest.mark.parametrize("format", FORMATS)
def test_a_softmax_of_large_or_infinite_logits_is_torch_s(format):
    (x, logits), _ = carafe_tensors(1, 2, 3, 18, 3, 1, 2, format=format, logits=format)
    even = carafe_cpu_logits(x, logits * 0, **carafe_call())
    assert torch.equal(carafe_cpu_logits(x, logits * 0 + 3e38, **carafe_call()), even)
    for bad in (math.inf, math.nan, -math.inf):
        logits[0, 7, 1, 4] = bad
        mask = shuffled(logits, 3, 1, 2)
        expected = carafe_cpu(x, mask, **carafe_call())
        torch.testing.assert_close(carafe_cpu_logits(x, logits, **carafe_call()), expected, equal_nan=True)


def test_a_softmax_of_large_or_infinite_logits_is_torch_s_in_dcnv3():
    (x, offset, logits), _ = dcnv3_tensors(1, 4, 9, 8, 2)
    call = {**DCNV3, "group": 2}
    even = dcnv3_cpu_logits(x, offset, logits * 0, **call)
    assert torch.equal(dcnv3_cpu_logits(x, offset, logits * 0 + 3e38, **call), even)
    for bad in (math.inf, math.nan, -math.inf):
        logits[0, 2, 4, 7] = bad
        expected = dcnv3_cpu(x, offset, over_points(logits, 2), **call)
        torch.testing.assert_close(dcnv3_cpu_logits(x, offset, logits, **call), expected, equal_nan=True)


# --- How they are called ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [(True, False), (False, True)])
def test_only_the_gradients_asked_for_are_made(wanted):
    (x, logits), grad = carafe_tensors(1, 4, 5, 9, 3, 1, 2)
    both = results(carafe_cpu_logits, (x, logits), grad, **carafe_call())[1:]
    found = torch.ops.opbench.carafe_cpu_logits_backward(grad, x, logits, 3, 1, 2, list(wanted))
    for one, expected, asked in zip(found, both, wanted, strict=True):
        assert one.equal(expected) if asked else one.numel() == 0


@pytest.mark.parametrize("wanted", [(True, False, False), (False, True, False), (False, False, True)])
def test_only_the_gradients_asked_for_are_made_in_dcnv3(wanted):
    inputs, grad = dcnv3_tensors(1, 5, 9, 8, 2)
    every = results(dcnv3_cpu_logits, inputs, grad, **DCNV3, group=2)[1:]
    found = torch.ops.opbench.dcnv3_cpu_logits_backward(grad, *inputs, 3, 1, 1, 1, 2, 1.0, False, list(wanted))
    for one, expected, asked in zip(found, every, wanted, strict=True):
        assert one.equal(expected) if asked else one.numel() == 0


def test_logits_of_any_strides_and_inputs_that_stay():
    (x, logits), grad = carafe_tensors(2, 4, 5, 19, 3, 2, 2)
    expected = results(carafe_cpu_logits, (x, logits), grad, **carafe_call(g=2))
    wide = torch.zeros(2, 72, 5, 40)
    wide[..., 1:39:2] = logits
    for other in (
        wide[..., 1:39:2],
        F.pad(logits, (2, 3))[..., 2:-3],
        logits.transpose(2, 3).contiguous().transpose(2, 3),
    ):
        before = other.clone()
        got = results(carafe_cpu_logits, (x, other), grad, **carafe_call(g=2))
        assert all(a.equal(b) for a, b in zip(got, expected, strict=True))
        assert other.equal(before)
        assert got[2].is_contiguous()


def test_dcnv3_s_logits_may_be_a_slice():
    (x, offset, logits), grad = dcnv3_tensors(1, 5, 9, 8, 2)
    expected = results(dcnv3_cpu_logits, (x, offset, logits), grad, **DCNV3, group=2)
    got = results(dcnv3_cpu_logits, (x, offset, F.pad(logits, (3, 4))[..., 3:-4]), grad, **DCNV3, group=2)
    assert all(a.equal(b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("format", FORMATS)
def test_every_run_gives_the_same_bits_on_any_number_of_threads(threads, format):
    carafe_inputs, carafe_grad = carafe_tensors(2, 12, 11, 37, 5, 2, 2, format=format, logits=format)
    dcnv3_inputs, dcnv3_grad = dcnv3_tensors(2, 11, 13, 64, 4)

    def found():
        return (
            *results(carafe_cpu_logits, carafe_inputs, carafe_grad, **carafe_call(5, 2)),
            *results(dcnv3_cpu_logits, dcnv3_inputs, dcnv3_grad, **DCNV3, group=4),
        )

    threads(1)
    expected = found()
    for number in (1, 2, 3, 8):
        threads(number)
        assert all(a.equal(b) for a, b in zip(found(), expected, strict=True))


@pytest.mark.parametrize("shape", [(32, 16), (16, 32)], ids=["256 bit", "128 bit"])
def test_processors_with_shorter_vectors_get_the_same_results(monkeypatch, shape):
    monkeypatch.setattr(jit, "_addresses", {})
    sources = jit._sources()
    monkeypatch.setattr(jit, "_sources", lambda: f"{sources} with shorter vectors {shape}")
    for module in (jit, cpu_carafe, sampling_call):
        monkeypatch.setattr(module, "target", lambda: processor.VectorUnit(*shape))
    for format in FORMATS:
        drawn, grad = carafe_tensors(1, 12, 4, 21, 3, 1, 2, format=format, logits=format)
        assert_is(reassembled, carafe_cpu_logits, drawn, grad, **carafe_call())
    drawn, grad = dcnv3_tensors(1, 7, 11, 32, 2)
    assert_is(sampled, dcnv3_cpu_logits, drawn, grad, **DCNV3, group=2)


@pytest.mark.parametrize("shape", [(0, 4, 3, 3), (1, 0, 3, 3), (1, 4, 0, 3), (1, 4, 3, 0), (1, 4, 1, 1)])
def test_empty_and_smallest_inputs(shape):
    drawn, grad = carafe_tensors(*shape, 3, 2, 2, dtype=torch.float64)
    if drawn[0].numel():
        assert_is(reassembled, carafe_cpu_logits, drawn, grad, **carafe_call(g=2))
    else:  # torch's own pixel shuffle has no gradient there
        out, *gradients = results(carafe_cpu_logits, drawn, grad, **carafe_call(g=2))
        assert out.shape == grad.shape
        for gradient, given in zip(gradients, drawn, strict=True):
            assert gradient.equal(torch.zeros_like(given))


def test_the_operations_keep_torchs_rules():
    for format in FORMATS:
        (x, logits), _ = carafe_tensors(1, 4, 3, 5, 3, 1, 2, dtype=torch.float64, format=format, logits=format)
        opcheck(torch.ops.opbench.carafe_cpu_logits, (x.requires_grad_(), logits.requires_grad_(), 3, 1, 2))
    inputs, _ = dcnv3_tensors(1, 3, 4, 4, 2, dtype=torch.float64)
    opcheck(torch.ops.opbench.dcnv3_cpu_logits, (*(t.requires_grad_() for t in inputs), 3, 1, 1, 1, 2, 1.0, False))


@pytest.mark.parametrize("core", [carafe_cpu_logits, dcnv3_cpu_logits])
def test_forward_mode_is_refused(core):
    inputs, _ = carafe_tensors(1, 4, 3, 5, 3, 1, 2) if core is carafe_cpu_logits else dcnv3_tensors(1, 3, 4, 4, 2)
    call = carafe_call() if core is carafe_cpu_logits else {**DCNV3, "group": 2}
    with pytest.raises(NotImplementedError, match=core.__name__):
        torch.func.jvp(lambda x: core(x, *inputs[1:], **call), inputs[:1], (torch.ones_like(inputs[0]),))


def test_inputs_that_do_not_fit_together_are_refused():
    (x, logits), _ = carafe_tensors(1, 4, 3, 5, 3, 1, 2)
    with pytest.raises(ValueError, match=r"logits is \(1, 9, 6, 10\); expected \(1, 36, 3, 5\)"):
        carafe_cpu_logits(x, F.pixel_shuffle(logits, 2), **carafe_call())
    with pytest.raises(TypeError, match=r"logits torch\.float64"):
        carafe_cpu_logits(x, logits.double(), **carafe_call())
