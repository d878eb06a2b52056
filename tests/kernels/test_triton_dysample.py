"""DySample in Triton is the definition: every dtype and format, with atomics and without (interpreted)."""

import pytest
import torch
from dysample_cases import EPS, FORMATS, assert_within_rounding, results, tensors
from torch.library import opcheck

from opbench.kernels.triton import dysample as triton_dysample
from opbench.kernels.triton.dysample import dysample_triton
from opbench.operators.dysample import DySample

BOTH_WAYS = pytest.mark.parametrize("deterministic", [False, True], ids=["atomics", "deterministic"])


# --- What it computes -------------------------------------------------------------------------------------------


def is_the_definition(shape, scale, groups, dtype, memory_format, deterministic, spread=2.0):
    def core(x, offset, **options):
        return dysample_triton(x, offset, **options, deterministic=deterministic)

    x, offset, grad = tensors(*shape, scale, groups, dtype=dtype, spread=spread)
    x = x.contiguous(memory_format=memory_format)
    out, grad_x, _ = assert_within_rounding(core, x, offset, grad, scale=scale, groups=groups)
    if x.shape[1] > 1 and x.shape[3] > 1:
        assert out.is_contiguous(memory_format=memory_format)
        assert grad_x.is_contiguous(memory_format=memory_format)


@BOTH_WAYS
@pytest.mark.parametrize(
    ("dtype", "memory_format"),
    [(torch.float32, FORMATS[0]), (torch.float16, FORMATS[1]), (torch.bfloat16, FORMATS[0])],
    ids=str,
)
def test_results_and_gradients_are_the_definitions(interpreted, dtype, memory_format, deterministic):
    interpreted(is_the_definition, (2, 6, 2, 3), 2, 2, dtype, memory_format, deterministic)


@pytest.mark.nightly
@BOTH_WAYS
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("dtype", EPS, ids=str)
def test_results_and_gradients_are_the_definitions_in_every_dtype_and_format(
    interpreted, dtype, memory_format, deterministic
):
    interpreted(is_the_definition, (2, 12, 7, 5), 2, 4, dtype, memory_format, deterministic)


@pytest.mark.parametrize(
    ("shape", "scale", "groups"),
    [
        pytest.param((1, 2, 1, 1), 2, 2, id="one pixel, groups of one channel"),
        pytest.param((1, 2, 1, 40), 2, 1, id="more pixels than a tile"),
        pytest.param((1, 70, 1, 2), 1, 1, id="more channels than a tile, no upsampling"),
        pytest.param((1, 3, 4, 1), 3, 1, id="a column, scale 3"),
    ],
)
def test_sizes_around_the_tiles(interpreted, shape, scale, groups):
    interpreted(is_the_definition, shape, scale, groups, torch.float32, FORMATS[shape[1] > 2], False)


@BOTH_WAYS
def test_offsets_that_leave_the_image(interpreted, deterministic):
    interpreted(is_the_definition, (1, 2, 3, 4), 2, 1, torch.float32, FORMATS[0], deterministic, 30.0)


def holds_samples_at_the_border(bad):
    """Along x: as far as the last column, or the first where the offset is no number; without slope."""
    x, offset, grad = tensors(1, 2, 1, 3, groups=1, spread=0.0)
    offset[:, :4] = bad
    column = x[..., -1:] if bad > 0 else x[..., :1]
    for deterministic in (False, True):
        out, grad_x, grad_offset = results(
            dysample_triton, x, offset, grad, scale=2, groups=1, deterministic=deterministic
        )
        assert torch.equal(out[..., :1].expand_as(out), out)
        assert column.amin() <= out.amin() <= out.amax() <= column.amax()
        assert not grad_offset[:, :4].any()
        kept = grad_x.abs().sum((0, 1, 2)).nonzero().flatten().tolist()
        assert kept == [2 if bad > 0 else 0]


@pytest.mark.parametrize("bad", [100.0, float("inf"), -float("inf"), 1e30, -(2.0**31), float("nan")])
def test_a_sample_held_at_the_border_has_no_slope_along_that_axis(interpreted, bad):
    interpreted(holds_samples_at_the_border, bad)


def takes_no_pixel_that_weighs_nothing():
    x, offset, _ = tensors(1, 4, 2, 4, spread=0.0)
    x[..., 2] = torch.inf
    offset[:, :8] = -50.0
    assert dysample_triton(x, offset, scale=2, groups=2).isfinite().all()


def test_what_is_not_finite_in_one_pixel_stays_with_the_samples_of_its_cell(interpreted):
    interpreted(takes_no_pixel_that_weighs_nothing)


def is_exact_far_out():
    """A thousandth of a pixel would be a multiple of 2**-17 there, were it added to the column."""
    x = (torch.arange(200.0) % 2).view(1, 1, 1, 200)
    offset = torch.zeros(1, 2, 1, 200)
    offset[:, 0] = 0.001
    out = dysample_triton(x, offset, scale=1, groups=1).flatten()[:-1]
    assert torch.equal(out[::2], out[:1].expand(100)), out


def test_a_thousandth_of_a_pixel_is_the_same_200_pixels_out(interpreted):
    interpreted(is_exact_far_out)


def modules_agree(style, dyscope):
    """A whole layer, whose core is the kernel, and one with the published steps, in float64."""
    torch.manual_seed(0)
    module = DySample(8, style=style, groups=2, dyscope=dyscope, implementation=dysample_triton).double()
    torch.nn.init.normal_(module.offset.weight, std=0.5)
    other = DySample(8, style=style, groups=2, dyscope=dyscope, implementation="grid-sample").double()
    other.load_state_dict(module.state_dict())
    x, grad = torch.randn(1, 8, 2, 3, dtype=torch.float64), torch.randn(1, 8, 4, 6, dtype=torch.float64)
    answers = []
    for layer in (module, other):
        leaf = x.clone().requires_grad_()
        out = layer(leaf)
        answers.append((out.detach(), *torch.autograd.grad(out, (leaf, *layer.parameters()), grad)))
    for a, b in zip(*answers, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("style", "dyscope"), [("lp", False), ("pl", True)])
def test_a_layer_of_either_style_is_the_published_one(interpreted, style, dyscope):
    interpreted(modules_agree, style, dyscope)


def gradcheck(deterministic):
    x, offset, _ = tensors(1, 2, 2, 3, 2, 1, dtype=torch.float64)

    def core(x, offset):
        return dysample_triton(x, offset, scale=2, groups=1, deterministic=deterministic)

    assert torch.autograd.gradcheck(core, (x.requires_grad_(), offset.requires_grad_()))


@pytest.mark.nightly
@BOTH_WAYS
def test_gradients_are_those_of_finite_differences(interpreted, deterministic):
    interpreted(gradcheck, deterministic)


# --- How it computes --------------------------------------------------------------------------------------------


def strides_change_nothing():
    drawn = dict(zip(("x", "offset", "grad"), tensors(2, 2, 2, 3, groups=1), strict=True))
    expected = results(dysample_triton, *drawn.values(), scale=2, groups=1)
    for name, t in drawn.items():
        n, c, h, w = t.shape
        for other in (
            torch.zeros(n + 1, c + 2, h + 2, w + 3)[1:, 1:-1, 2:, 3:].copy_(t),
            t.transpose(2, 3).contiguous().transpose(2, 3),
        ):
            got = results(dysample_triton, **{**drawn, name: other}, scale=2, groups=1)
            for a, b in zip(got, expected, strict=True):
                assert torch.equal(a, b), name


@pytest.mark.nightly
def test_strides_change_nothing(interpreted):
    interpreted(strides_change_nothing)


def makes_what_is_asked():
    x, offset, grad = tensors(1, 4, 2, 3)
    backward = torch.ops.opbench.dysample_triton_backward
    for deterministic in (False, True):
        every = backward(grad, x, offset, 2, 2, deterministic, [True, True])
        for which in ([True, False], [False, True]):
            some = backward(grad, x, offset, 2, 2, deterministic, which)
            for asked, a, b in zip(which, some, every, strict=True):
                assert torch.equal(a, b) if asked else a.numel() == 0


def test_only_the_gradients_asked_for_are_made(interpreted):
    interpreted(makes_what_is_asked)


def same_in_64_bits():
    for memory_format in FORMATS:
        x, offset, grad = tensors(1, 2, 2, 3)
        x = x.contiguous(memory_format=memory_format)
        expected = results(dysample_triton, x, offset, grad, scale=2, groups=2)
        triton_dysample.spans_64_bits = lambda tensors: True
        try:
            got = results(dysample_triton, x, offset, grad, scale=2, groups=2)
        finally:
            triton_dysample.spans_64_bits = lambda tensors: False
        assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_images_that_need_64_bits_are_computed_alike(interpreted):
    interpreted(same_in_64_bits)


def keeps_torchs_rules():
    x, offset, grad = tensors(1, 4, 2, 2)
    rules = ("test_schema", "test_autograd_registration", "test_faketensor")
    inputs = (x.clone().requires_grad_(), offset.clone().requires_grad_(), 2, 2, None)
    opcheck(torch.ops.opbench.dysample_triton.default, inputs, test_utils=rules)
    backward = (grad, x, offset, 2, 2, None, [True, False])
    opcheck(torch.ops.opbench.dysample_triton_backward.default, backward, test_utils=rules)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert dysample_triton(x.bfloat16(), offset, scale=2, groups=2).dtype == torch.bfloat16


def test_the_operations_keep_torchs_rules(interpreted):
    interpreted(keeps_torchs_rules)


def test_empty_inputs_give_nothing():
    for n, c in ((0, 8), (1, 0)):
        drawn = tensors(n, c)
        for got, like in zip(results(dysample_triton, *drawn, scale=2, groups=2), (drawn[2], *drawn[:2]), strict=True):
            assert got.shape == like.shape
            assert not got.any()


def test_tensors_on_the_cpu_are_refused_with_the_reason():
    pytest.importorskip("triton", reason="triton is not installed")
    x, offset, _ = tensors()
    with pytest.raises(RuntimeError, match=r"tensors on one cuda device, got x on cpu.*move the tensors"):
        dysample_triton(x, offset, scale=2, groups=2)


def test_a_tangent_is_refused():
    x, offset, _ = tensors()
    with pytest.raises(NotImplementedError, match="dysample_triton: forward-mode"):
        torch.func.jvp(lambda value: dysample_triton(value, offset, scale=2, groups=2), (x,), (x,))


def test_inputs_that_do_not_fit_together_are_refused():
    x, offset, _ = tensors()
    with pytest.raises(ValueError, match=r"offset is \(1, 16, 5, 5\); expected \(1, 16, 5, 6\)"):
        dysample_triton(x, offset[..., :5], scale=2, groups=2)
    with pytest.raises(ValueError, match="divisible by groups 3"):
        dysample_triton(x, offset, scale=2, groups=3)
    with pytest.raises(TypeError, match="offset of float32 at least"):
        dysample_triton(x, offset.half(), scale=2, groups=2)
