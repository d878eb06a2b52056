"""DCNv3's cores against the definition, their exact properties, and what `dcnv3` refuses."""

import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given
from sampling_cases import FEW, Call, answers, calls, one_hot_mask

from opbench.kernels.geometry import Geometry
from opbench.operators.common import sampling
from opbench.operators.dcnv3 import CORES, DCNv3, dcnv3
from opbench.operators.dcnv3.definition import dcnv3_definition
from opbench.operators.dcnv3.terms import dcnv3_terms
from opbench.verify.bounds import judge

EAGER = ("gather", "grid-sample", "cpu")
CORE = pytest.mark.parametrize("name", EAGER)
# These never normalise a coordinate, so whole locations stay whole.
EXACT = pytest.mark.parametrize("name", ["gather", "cpu"])


def settings(**changes):
    plain = {"kernel_size": 3, "stride": 1, "pad": 1, "dilation": 1, "group": 2, "offset_scale": 1.0}
    return {**plain, "remove_center": False, **changes}


def drawn(dtype=torch.float64, spread=2.0, **changes):
    """One fixed call of moderate size: tensors and settings."""
    call = Call(batch=2, height=6, width=5, depth=3, settings=settings(**changes), spread=spread, seed=7)
    return call.tensors(dtype), call.settings


def assert_correct(names, tensors, settings, dtype="float64"):
    exact = [value.double() for value in tensors]
    expected = answers(dcnv3_definition, *exact, **settings)
    terms = dcnv3_terms(*exact, **settings)
    for name in names:
        verdict = judge(answers(CORES[name].function, *tensors, **settings), expected, terms, dtype)
        assert verdict.correct, f"{name}: {verdict.reason}"


# --- Correctness ------------------------------------------------------------------------------------------------------


@FEW
@example(call=Call(1, 1, 1, 1, settings(group=1), 0.5, 0))
@example(call=Call(1, 1, 9, 2, settings(dilation=2, pad=3, stride=2), 2.0, 0))
@given(call=calls())
def test_every_core_equals_the_definition_in_output_and_gradients(call):
    assert_correct(EAGER, call.tensors(), call.settings)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_core_is_as_precise_as_its_inputs(dtype):
    tensors, given = drawn(getattr(torch, dtype))
    assert_correct(EAGER, tensors, given, dtype)


@CORE
def test_half_precision_is_computed_in_float32_and_rounded_once(name):
    (x, offset, mask, _), given = drawn(torch.bfloat16, spread=8.0)
    half = CORES[name].function(x, offset, mask, **given)
    single = CORES[name].function(x.float(), offset.float(), mask.float(), **given)
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, single.bfloat16())


def test_at_whole_locations_every_core_takes_a_derivative_of_either_side():
    tensors, given = drawn(spread=0.0)
    assert_correct(EAGER, tensors, given)


@CORE
def test_numeric_and_analytic_gradients_agree(name):
    call = Call(1, 3, 2, 2, settings(kernel_size=2, pad=0, group=1, offset_scale=0.5), 0.5, 3)
    x, offset, mask, _ = (value.requires_grad_() for value in call.tensors())
    assert torch.autograd.gradcheck(lambda *t: CORES[name].function(*t, **call.settings), (x, offset, mask))


@pytest.mark.slow
@pytest.mark.skipif(CORES["compiled"].missing() is not None, reason=str(CORES["compiled"].missing()))
def test_the_compiled_core_equals_the_definition_in_both_modes():
    core = CORES["compiled"].function
    tensors, given = drawn(torch.float32, stride=2, remove_center=True)
    assert_correct(["compiled"], tensors, given, "float32")
    x, offset, mask, _ = tensors
    with torch.inference_mode():
        out = core(x, offset, mask, **given)
    torch.testing.assert_close(out, CORES["gather"].function(x, offset, mask, **given), rtol=1e-5, atol=1e-5)


# --- Properties -------------------------------------------------------------------------------------------------------


@EXACT
def test_zero_offset_and_one_hot_mask_shift_the_input_exactly(name):
    (x, offset, _, _), given = drawn(spread=0.0)
    out = CORES[name].function(x, offset, one_hot_mask(x, 1, 9, group=2), **given)
    assert torch.equal(out, F.pad(x, (0, 0, 1, 0))[:, :, :-1])


@CORE
def test_zero_offset_and_uniform_mask_average_the_window(name):
    (x, offset, mask, _), given = drawn(spread=0.0)
    out = CORES[name].function(x, offset, torch.full_like(mask, 1 / 9), **given)
    pooled = F.avg_pool2d(x.permute(0, 3, 1, 2), 3, 1, 1, count_include_pad=True).permute(0, 2, 3, 1)
    torch.testing.assert_close(out, pooled, rtol=0, atol=1e-13)


@EXACT
def test_whole_offsets_gather_pixels_exactly(name):
    (x, _, _, _), given = drawn(kernel_size=1, pad=0)
    offset = torch.zeros(2, 6, 5, 4, dtype=x.dtype)
    offset[..., 0], offset[..., 1] = 2, -1
    out = CORES[name].function(x, offset, torch.ones(2, 6, 5, 2, dtype=x.dtype), **given)
    expected = torch.zeros_like(x)
    expected[:, 1:, :3, :3] = x[:, :-1, 2:, :3]
    expected[..., 3:] = x[..., 3:]
    assert torch.equal(out, expected)


@CORE
def test_offset_scale_is_a_change_of_offsets(name):
    (x, offset, mask, _), given = drawn()
    scale = 1.7
    points = torch.tensor([(i - 1.0, j - 1.0) for i in range(3) for j in range(3)], dtype=x.dtype)
    moved = scale * offset.view(*offset.shape[:3], 2, 9, 2) + (scale - 1) * points
    torch.testing.assert_close(
        CORES[name].function(x, offset, mask, **{**given, "offset_scale": scale}),
        CORES[name].function(x, moved.flatten(3), mask, **given),
        rtol=0,
        atol=1e-12,
    )


@EXACT
def test_a_stride_subsamples_exactly(name):
    (x, offset, mask, _), given = drawn()
    whole = CORES[name].function(x, offset, mask, **given)[:, ::2, ::2]
    strided = CORES[name].function(x, offset[:, ::2, ::2], mask[:, ::2, ::2], **{**given, "stride": 2})
    assert torch.equal(whole, strided)


@CORE
def test_explicit_zeros_around_x_are_padding(name):
    (x, offset, mask, _), given = drawn()
    padded = F.pad(x, (0, 0, 1, 1, 1, 1))
    torch.testing.assert_close(
        CORES[name].function(padded, offset, mask, **{**given, "pad": 0}),
        CORES[name].function(x, offset, mask, **given),
        rtol=0,
        atol=1e-12,
    )


@CORE
def test_remove_center_is_a_center_of_zero_weight(name):
    (x, offset, mask, _), given = drawn()
    mask = mask.view(2, 6, 5, 2, 9).clone()
    mask[..., 4] = 0
    full = CORES[name].function(x, offset, mask.flatten(3), **given)
    keep = [p for p in range(9) if p != 4]
    offset = offset.view(2, 6, 5, 2, 9, 2)[..., keep, :].flatten(3)
    removed = CORES[name].function(x, offset, mask[..., keep].flatten(3), **{**given, "remove_center": True})
    torch.testing.assert_close(removed, full, rtol=0, atol=1e-13)


@CORE
def test_groups_are_independent_calls(name):
    (x, offset, mask, _), given = drawn()
    alone = {**given, "group": 1}
    halves = [
        CORES[name].function(
            x[..., 3 * g : 3 * g + 3], offset[..., 18 * g :][..., :18], mask[..., 9 * g :][..., :9], **alone
        )
        for g in range(2)
    ]
    assert torch.equal(CORES[name].function(x, offset, mask, **given), torch.cat(halves, -1))


@CORE
def test_batches_are_independent_calls(name):
    (x, offset, mask, _), given = drawn()
    out = CORES[name].function(x, offset, mask, **given)
    for n in range(2):
        one = slice(n, n + 1)
        assert torch.equal(out[one], CORES[name].function(x[one], offset[one], mask[one], **given))


@CORE
def test_samples_out_of_range_give_zero_output_and_zero_gradients(name):
    (x, offset, mask, grad), given = drawn()
    for far in (1e3, -1e3, 1e30, torch.inf, -torch.inf, torch.nan):
        answer = answers(CORES[name].function, x, torch.full_like(offset, far), mask, grad, **given)
        for what, value in answer.items():
            assert not value.any(), f"{what} for offsets of {far}"


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", ["definition", "cpu"])
def test_what_the_mask_holds_for_a_sample_outside_does_not_leak(name, bad):
    (x, offset, mask, grad), given = drawn(dtype=torch.float32)
    core = dcnv3_definition if name == "definition" else CORES[name].function
    pairs = offset.view(*mask.shape, 2).clone()
    outside = torch.rand(mask.shape, generator=torch.Generator().manual_seed(0)) < 0.2
    # Window and pad add up to at most two pixels either way.
    pairs[outside] = torch.tensor((0.0, -10.0))
    want = answers(core, x, pairs.flatten(3), mask.masked_fill(outside, 0), grad, **given)
    got = answers(core, x, pairs.flatten(3), mask.masked_fill(outside, bad), grad, **given)
    for what, value in want.items():
        assert torch.equal(got[what], value), what


@pytest.mark.parametrize("name", ["gather", "grid-sample"])
def test_a_core_that_leaks_says_so(name):
    (x, offset, mask, _), given = drawn()
    out = CORES[name].function(x, torch.full_like(offset, 100), torch.full_like(mask, torch.nan), **given)
    assert out.isnan().any()
    assert "a NaN or infinite mask of a sample outside makes NaN" in CORES[name].note


@CORE
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 1e300])
def test_a_bad_offset_silences_its_own_point_only(name, bad):
    (x, offset, mask, grad), given = drawn()
    hit = torch.rand(mask.shape, generator=torch.Generator().manual_seed(0)) < 0.2
    pairs = offset.view(*mask.shape, 2).clone()
    pairs[..., 1][hit] = bad
    got = answers(CORES[name].function, x, pairs.flatten(3), mask, grad, **given)
    want = answers(CORES[name].function, x, offset, mask.masked_fill(hit, 0), grad, **given)
    assert torch.equal(got["output"], want["output"])
    torch.testing.assert_close(got["x"], want["x"], rtol=0, atol=1e-13)
    assert not got["mask"][hit].any()
    assert not got["offset"].view(*mask.shape, 2)[hit].any()
    assert torch.equal(got["offset"].view(*mask.shape, 2)[~hit], want["offset"].view(*mask.shape, 2)[~hit])


@CORE
def test_a_nan_pixel_reaches_only_samples_of_its_own_cells(name):
    (x, offset, mask, _), given = drawn(kernel_size=1, pad=0, spread=0.0)
    x[:, 0, 0] = torch.nan
    # Output pixel (v, u) samples half a pixel further right and down; the first column samples far outside.
    offset = torch.full_like(offset, 0.5)
    offset[:, :, 0] = -100
    out = CORES[name].function(x, offset, mask, **given)
    assert not out.isnan().any()
    assert not out[:, :, 0].any()


@CORE
def test_inner_products_with_the_gradients_agree(name):
    (x, offset, mask, grad), given = drawn()
    answer = answers(CORES[name].function, x, offset, mask, grad, **given)
    product = (answer["output"] * grad).sum()
    for linear, value in (("x", x), ("mask", mask)):
        torch.testing.assert_close((answer[linear] * value).sum(), product, rtol=1e-12, atol=1e-12)


def test_an_empty_batch_goes_through_the_module():
    module = DCNv3(8, group=2, implementation="grid-sample")
    assert module(torch.randn(0, 6, 5, 8)).shape == (0, 6, 5, 8)


@CORE
def test_an_empty_batch_gives_an_empty_output(name):
    (x, offset, mask, _), given = drawn()
    leaves = [value[:0].clone().requires_grad_() for value in (x, offset, mask)]
    out = dcnv3(*leaves, **given, implementation=name)
    assert out.shape == (0, 6, 5, 6)
    gradients = torch.autograd.grad(out.sum(), leaves)
    assert [g.shape for g in gradients] == [leaf.shape for leaf in leaves]


@CORE
def test_any_subset_of_inputs_may_require_gradients(name):
    (x, offset, mask, grad), given = drawn()
    whole = answers(CORES[name].function, x, offset, mask, grad, **given)
    for wanted in ("x", "offset", "mask"):
        tensors = {"x": x.clone(), "offset": offset.clone(), "mask": mask.clone()}
        tensors[wanted].requires_grad_()
        out = CORES[name].function(*tensors.values(), **given)
        assert torch.equal(torch.autograd.grad(out, tensors[wanted], grad)[0], whole[wanted])


@CORE
def test_strided_inputs_give_the_same_bits_and_stay_as_they_were(name):
    (x, offset, mask, grad), given = drawn()
    expected = answers(CORES[name].function, x, offset, mask, grad, **given)
    spaced = [torch.stack((value, value), 1)[:, 0] for value in (x, offset, mask)]
    permuted = [value.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1) for value in (x, offset, mask)]
    before = [value.clone() for value in spaced]
    assert torch.equal(CORES[name].function(*spaced, **given), expected["output"])
    assert all(torch.equal(a, b) for a, b in zip(spaced, before, strict=True))
    assert torch.equal(CORES[name].function(*permuted, **given), expected["output"])


def test_gather_computes_the_same_bits_every_time():
    (x, offset, mask, grad), given = drawn(torch.float32, spread=0.5)
    first = answers(CORES["gather"].function, x, offset, mask, grad, **given)
    second = answers(CORES["gather"].function, x, offset, mask, grad, **given)
    assert all(torch.equal(first[what], second[what]) for what in first)


def test_gather_keeps_only_its_inputs_for_backward():
    (x, offset, mask, _), given = drawn()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.data_ptr()), lambda t: t):
        CORES["gather"].function(x.requires_grad_(), offset, mask, **given)
    assert set(saved) == {x.data_ptr(), offset.data_ptr(), mask.data_ptr()}


def test_gather_switches_to_64_bit_row_numbers_where_32_are_too_few(monkeypatch):
    (x, offset, mask, grad), given = drawn()
    narrow = answers(CORES["gather"].function, x, offset, mask, grad, **given)
    monkeypatch.setattr(sampling, "INT32_ROWS", 10)
    wide = answers(CORES["gather"].function, x, offset, mask, grad, **given)
    assert all(torch.equal(narrow[what], wide[what]) for what in narrow)
    geometry = Geometry(**given)
    assert sampling.cells(offset, mask, geometry, 6, 5)[0].dtype == torch.int64


# --- The checked entry ------------------------------------------------------------------------------------------------


def test_auto_and_a_callable_of_ones_own_run():
    (x, offset, mask, _), given = drawn()
    chosen = "gather" if CORES["cpu"].missing() else "cpu"
    expected = CORES[chosen].function(x, offset, mask, **given)
    assert torch.equal(dcnv3(x, offset, mask, **given), expected)
    assert torch.equal(
        dcnv3(x, offset, mask, **given, implementation=dcnv3_definition), dcnv3_definition(x, offset, mask, **given)
    )


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"kernel_size": (3, 3)}, TypeError, "kernel_size: expected one int for both axes, got (3, 3)"),
        ({"kernel_size": True}, TypeError, "kernel_size: expected one int"),
        ({"kernel_size": 0}, ValueError, "kernel_size: expected at least 1, got 0"),
        ({"stride": 0}, ValueError, "stride: expected at least 1, got 0"),
        ({"pad": -1}, ValueError, "pad: expected at least 0, got -1"),
        ({"dilation": 1.5}, TypeError, "dilation: expected one int"),
        ({"offset_scale": "1"}, TypeError, "offset_scale: expected a number, got '1'"),
        ({"remove_center": 2}, ValueError, "remove_center: expected True or False, got 2"),
        ({"kernel_size": 4, "remove_center": True}, ValueError, "even size 4 has no centre; use an odd kernel_size"),
        ({"kernel_size": 1, "remove_center": True}, ValueError, "nothing would be sampled"),
        ({"group": 4}, ValueError, "divisible into 4 groups, got 6 channels in shape (2, 6, 5, 6) (N, H, W, C)"),
        ({"pad": 0}, ValueError, "offset: expected shape (2, 4, 3, 36) = (N, Ho, Wo, G*P*2) for x (2, 6, 5, 6)"),
        ({"stride": 2}, ValueError, "got (2, 6, 5, 36); predict it at the output's size"),
        ({"kernel_size": 9}, ValueError, "6 x 5 pixels padded by 1 are smaller than the window of 9 pixels"),
        ({"remove_center": True}, ValueError, "expected shape (2, 6, 5, 32)"),
        ({"implementation": "gathr"}, ValueError, "did you mean 'gather'? (known: auto, compiled, cpu, "),
        ({"implementation": None}, TypeError, "expected a name or a callable with the core's signature, got None"),
    ],
)
def test_wrong_settings_are_refused_with_what_to_do(change, error, message):
    (x, offset, mask, _), given = drawn()
    with pytest.raises(error, match=re.escape(message)):
        dcnv3(x, offset, mask, **{**given, **change})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": lambda t: t[0]}, ValueError, "x: expected 4 axes, channels last (N, H, W, C), got shape (6, 5, 6)"),
        ({"x": lambda t: t.tolist()}, TypeError, "x: expected a torch.Tensor, got list"),
        ({"x": lambda t: t.long()}, TypeError, "x: expected float64, float32, bfloat16 or float16, got torch.int64"),
        ({"mask": lambda t: t.float()}, TypeError, "mask: expected x's dtype torch.float64, got torch.float32"),
        ({"offset": lambda t: t.to("meta")}, ValueError, "offset: expected x's device cpu, got meta"),
        ({"offset": lambda t: t[:1]}, ValueError, "offset: expected shape (2, 6, 5, 36)"),
        ({"mask": lambda t: t[..., :9]}, ValueError, "mask: expected shape (2, 6, 5, 18) = (N, Ho, Wo, G*P)"),
    ],
)
def test_wrong_tensors_are_refused_by_name(change, error, message):
    (x, offset, mask, _), given = drawn()
    tensors = {"x": x, "offset": offset, "mask": mask}
    tensors = {name: change.get(name, lambda t: t)(value) for name, value in tensors.items()}
    with pytest.raises(error, match=re.escape(message)):
        dcnv3(*tensors.values(), **given)


@CORE
def test_an_axis_of_one_pixel_may_have_any_stride(name):
    x, offset = torch.ones(1, 1, 1, 2).permute(0, 3, 1, 2), torch.zeros(1, 2, 1, 2)
    given = settings(kernel_size=1, pad=0, group=1)
    assert CORES[name].function(x, offset, torch.ones(1, 2, 1, 1), **given).tolist() == [[[[1.0]], [[1.0]]]]
