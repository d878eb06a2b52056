"""DCNv3 in Triton is the definition: every dtype, with atomics and without, from mask and from logits (interpreted)."""

import pytest
import torch
from by_day import tried
from falsify import assert_holds
from torch.library import opcheck

from opbench.conformance.strategies import noise
from opbench.kernels.triton import sampling_call
from opbench.kernels.triton.dcnv3 import dcnv3_triton, dcnv3_triton_logits
from opbench.kernels.triton.gathering import takes_atomics
from opbench.operators.dcnv3.definition import dcnv3_definition
from opbench.operators.dcnv3.relations import RELATIONS
from opbench.operators.dcnv3.relations.examples import output_size
from opbench.relations import Example, Space

BY_NAME = {relation.name: relation for relation in RELATIONS}
EPS = {torch.float64: 2.0**-52, torch.float32: 2.0**-23, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}
NAMES = ("out", "grad x", "grad offset", "grad mask")


def arguments(k=3, stride=1, pad=1, dilation=1, group=2, offset_scale=1.0, remove_center=False):
    return {
        "kernel_size": k,
        "stride": stride,
        "pad": pad,
        "dilation": dilation,
        "group": group,
        "offset_scale": offset_scale,
        "remove_center": remove_center,
    }


def tensors(shape, call, *, dtype=torch.float32, spread=2.0):
    """x, offset, mask and the output's gradient. Locations keep off whole numbers, where derivatives jump."""
    n, h, w, c = shape
    ho, wo = output_size(h, w, call)
    samples = call["group"] * (call["kernel_size"] ** 2 - call["remove_center"])
    # Eighths of a pixel off eighths by a sixteenth, also when halved or doubled: exact in every dtype near 0.
    moves = (noise((n, ho, wo, samples * 2), 1) * spread * 8).round() / 8 + 1 / 16
    drawn = noise(shape, 0), moves, noise((n, ho, wo, samples), 2), noise((n, ho, wo, c), 3)
    return tuple(t.to(dtype) for t in drawn)


def results(core, x, offset, mask, grad, **call):
    """The output, and the gradients of x, offset and mask."""
    inputs = [t.detach().requires_grad_() for t in (x, offset, mask)]
    out = core(*inputs, **call)
    return out.detach(), *torch.autograd.grad(out, inputs, grad)


# --- What it computes -------------------------------------------------------------------------------------------


def is_the_definition(shape, call, dtype, deterministic, spread=2.0):
    x, offset, mask, _ = tensors(shape, call, dtype=dtype, spread=spread)

    def core(**given):
        return dcnv3_triton(**given, deterministic=deterministic)

    example = Example({"x": x, "offset": offset, "mask": mask}, call)
    BY_NAME["definition-gradients"].check(core, example)


# By day each dtype one way, and each way by two of them.
@pytest.mark.parametrize(
    ("dtype", "deterministic"),
    [
        tried(dtype, how, id=f"{dtype}-{how}", by_day=at % 2 == how)
        for at, dtype in enumerate(EPS)
        for how in (False, True)
    ],
)
def test_results_and_gradients_are_the_definitions(interpreted, dtype, deterministic):
    interpreted(is_the_definition, (2, 3, 5, 4), arguments(), dtype, deterministic)


@pytest.mark.parametrize(
    ("shape", "call"),
    [
        pytest.param((1, 4, 9, 6), arguments(k=2, stride=2, group=3), id="even window, stride"),
        pytest.param((1, 5, 4, 2), arguments(dilation=2, pad=2, offset_scale=0.7, remove_center=True), id="dilation"),
        pytest.param((1, 3, 4, 3), arguments(k=1, pad=1, group=1), id="one point, and pixels of padding only"),
        pytest.param((1, 9, 10, 2), arguments(k=2, pad=0), id="more pixels than a tile"),
        pytest.param((1, 2, 2, 140), arguments(k=2, pad=0), id="more channels than a tile"),
    ],
)
def test_settings_and_sizes_around_the_tiles(interpreted, shape, call):
    for deterministic in (False, True):
        interpreted(is_the_definition, shape, call, torch.float32, deterministic)


def test_offsets_that_leave_the_image(interpreted):
    for deterministic in (False, True):
        interpreted(is_the_definition, (1, 3, 4, 4), arguments(), torch.float32, deterministic, 30.0)


def is_the_definition_of_softmax(shape, call, dtype, deterministic):
    x, offset, logits, grad = tensors(shape, call, dtype=dtype)

    def fused(*tensors, **call):
        return dcnv3_triton_logits(*tensors, **call, deterministic=deterministic)

    def unfused(x, offset, logits, **call):
        return dcnv3_definition(x, offset, logits.unflatten(3, (call["group"], -1)).softmax(4).flatten(3), **call)

    got = results(fused, x, offset, logits, grad, **call)
    expected = results(unfused, *(t.double() for t in (x, offset, logits, grad)), **call)
    summed_in = EPS[torch.float64 if dtype == torch.float64 else torch.float32]
    for name, a, b in zip(NAMES, got, expected, strict=True):
        assert a.dtype == dtype
        bound = 64 * summed_in * b.abs().amax() + EPS[dtype] * b.abs() + torch.finfo(dtype).tiny
        worst = ((a.double() - b).abs() / bound).max().item()
        assert worst <= 1, f"{name} is off by {worst:.3g} times its bound"


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=str)
def test_from_logits_it_is_softmax_and_the_definition(interpreted, dtype, deterministic):
    interpreted(is_the_definition_of_softmax, (1, 3, 4, 4), arguments(), dtype, deterministic)


def ignores_what_is_not_in_the_image(bad):
    """Neither an infinite mask nor an infinite pixel is felt where a sample doesn't count, nor where it is nowhere."""
    call = arguments(k=1, pad=0, group=1)
    x, offset, mask, grad = tensors((1, 2, 3, 2), call)
    offset = torch.zeros_like(offset)
    offset[0, 0, 0, 0], offset[0, 1, 1, 1] = bad, -bad
    offset[0, 0, 2] = torch.tensor([1.0, 0.0])  # exactly at W, where a sample no longer counts
    offset[0, 1, 0] = torch.tensor([-1.0, 0.0])  # exactly at -1
    where = ([0, 0, 1, 1], [0, 2, 0, 1])
    mask[0, where[0], where[1]] = torch.inf
    x[0, 0, 0] = torch.nan
    for core in (dcnv3_triton, dcnv3_triton_logits):
        for deterministic in (False, True):
            got = results(core, x, offset, mask, grad, **call, deterministic=deterministic)
            if core is dcnv3_triton:
                assert not got[0][0, where[0], where[1]].any(), "a sample nowhere gives 0"
                assert all(g[0, where[0], where[1]].eq(0).all() for g in got[2:]), "and has no gradient"
                assert got[1].isfinite().all(), "nor has x there"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e30, -(2.0**31)])
def test_samples_outside_and_nowhere_contribute_nothing(interpreted, bad):
    interpreted(ignores_what_is_not_in_the_image, bad)


def weighs_only_corners_in_the_image():
    """Half a sample lies outside: an infinite mask times what isn't there would be NaN."""
    call = arguments(k=1, pad=0, group=1)
    x, mask = torch.ones(1, 1, 1, 2), torch.full((1, 1, 1, 1), torch.inf)
    out = dcnv3_triton(x, torch.tensor([-0.5, -0.5]).view(1, 1, 1, 2), mask, **call)
    assert torch.equal(out, torch.full_like(out, torch.inf)), out


def test_corners_outside_have_no_weight(interpreted):
    interpreted(weighs_only_corners_in_the_image)


def is_exact_far_out():
    call = arguments(k=1, stride=1000, pad=0, group=1)
    x = torch.arange(5000.0).view(1, 1, 5000, 1) % 2
    offset = torch.tensor([0.001, 0.0]).expand(1, 1, 5, 2)
    out = dcnv3_triton(x, offset, torch.ones(1, 1, 5, 1), **call).flatten()
    assert torch.equal(out, out[0].expand(5)), out


def test_a_thousandth_of_a_pixel_is_the_same_4000_pixels_out(interpreted):
    interpreted(is_exact_far_out)


SMALL = {"N": 1, "H": 2, "W": 3, "kernel_size": 2, "dilation": 1, "group": 2}


def holds(relation, dtype, fixed, number, deterministic):
    def core(*tensors, **given):
        return dcnv3_triton(*tensors, **given, deterministic=deterministic)

    assert_holds(BY_NAME[relation], core, Space(dtype, fixed=fixed), number)


@pytest.mark.parametrize(
    ("relation", "deterministic"),
    [("layouts", False), ("layouts", True), ("gradient-subsets", False), ("whole-locations", False)],
)
def test_it_meets_the_relations_that_its_indexing_endangers(interpreted, relation, deterministic):
    interpreted(holds, relation, "float32", SMALL, 1, deterministic)


@pytest.mark.nightly
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("relation", BY_NAME)
def test_it_meets_every_relation(interpreted, relation, deterministic):
    interpreted(holds, relation, "float32", {"N": 1}, 3, deterministic)


def gradcheck(deterministic):
    call = arguments(k=2, pad=0, group=1, offset_scale=0.7)
    x, offset, mask, _ = tensors((1, 2, 3, 2), call, dtype=torch.float64)

    def core(x, offset, mask):
        return dcnv3_triton(x, offset, mask, **call, deterministic=deterministic)

    assert torch.autograd.gradcheck(core, tuple(t.requires_grad_() for t in (x, offset, mask)))


@pytest.mark.nightly
@pytest.mark.parametrize("deterministic", [False, True])
def test_gradients_are_those_of_finite_differences(interpreted, deterministic):
    interpreted(gradcheck, deterministic)


# --- How it computes --------------------------------------------------------------------------------------------


def same_in_64_bits():
    call = arguments(k=2, pad=0)
    drawn = tensors((1, 3, 4, 4), call)
    cores = (dcnv3_triton, dcnv3_triton_logits)
    expected = [results(core, *drawn, **call) for core in cores]
    sampling_call.spans_64_bits = lambda tensors: True
    try:
        for core, before in zip(cores, expected, strict=True):
            for a, b in zip(results(core, *drawn, **call), before, strict=True):
                assert torch.equal(a, b)
    finally:
        sampling_call.spans_64_bits = lambda tensors: False


def test_images_that_need_64_bits_are_computed_alike(interpreted):
    interpreted(same_in_64_bits)


def keeps_torchs_rules():
    small = arguments(k=2, pad=0, group=1)
    x, offset, mask, grad = tensors((1, 2, 2, 4), small)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    call = (*small.values(), None)
    for name in ("dcnv3_triton", "dcnv3_triton_logits"):
        forward, backward = (getattr(torch.ops.opbench, f"{name}{suffix}").default for suffix in ("", "_backward"))
        inputs = [t.clone().requires_grad_() for t in (x, offset, mask)]
        opcheck(forward, (*inputs, *call), test_utils=tests)
        for wanted in ([True, True, True], [False, True, False]):
            opcheck(backward, (grad, x, offset, mask, *call, wanted), test_utils=tests)


def test_the_operations_keep_torchs_rules(interpreted):
    interpreted(keeps_torchs_rules)


@pytest.fixture
def deterministic_algorithms():
    yield torch.use_deterministic_algorithms
    torch.use_deterministic_algorithms(False)


def test_atomics_are_what_is_taken_unless_torch_or_the_call_says_otherwise(deterministic_algorithms):

    def takes(deterministic):
        return takes_atomics("dcnv3_triton", deterministic)

    assert (takes(None), takes(True), takes(False)) == (True, False, True)
    deterministic_algorithms(True)
    assert (takes(None), takes(True), takes(False)) == (False, False, True)
    deterministic_algorithms(True, warn_only=True)
    with pytest.warns(UserWarning, match="^dcnv3_triton adds up .* not deterministic: pass deterministic=True"):
        assert takes(None)


@pytest.mark.parametrize(("n", "c", "k"), [(0, 4, 3), (1, 0, 3), (1, 4, 1)])
def test_empty_inputs_and_windows_give_zeros(n, c, k):
    call = arguments(k=k, pad=k // 2, remove_center=k == 1)
    drawn = tensors((n, 3, 4, c), call)
    for got, like in zip(results(dcnv3_triton, *drawn, **call), (drawn[3], *drawn[:3]), strict=True):
        assert got.shape == like.shape
        assert not got.any()


def test_tensors_on_the_cpu_are_refused_with_the_reason():
    pytest.importorskip("triton", reason="triton is not installed")
    x, offset, mask, _ = tensors((1, 2, 2, 4), arguments())
    with pytest.raises(RuntimeError, match=r"tensors on one cuda device, got x on cpu.*move the tensors"):
        dcnv3_triton(x, offset, mask, **arguments())


def test_under_autocast_inputs_meet_in_the_widest_of_their_dtypes():
    x, offset, mask, _ = tensors((0, 2, 2, 4), arguments())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert dcnv3_triton(x.bfloat16(), offset, mask.bfloat16(), **arguments()).dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"offset": torch.zeros(1, 4, 4, 36)}, ValueError, r"offset is \(1, 4, 4, 36\); expected \(1, 4, 5, 36\)"),
        ({"mask": torch.zeros(1, 4, 5, 9)}, ValueError, r"mask is \(1, 4, 5, 9\); expected \(1, 4, 5, 18\)"),
        ({"mask": torch.zeros(1, 4, 5, 18).double()}, TypeError, "one floating dtype"),
        ({"x": torch.zeros(4, 5, 8)}, ValueError, r"expected \(N, H, W, C\)"),
        ({"x": torch.zeros(1, 4, 1, 1).expand(1, 4, 2**29, 1), "group": 1}, ValueError, r"below 2\*\*29"),
        ({"group": 3}, ValueError, "divisible by group 3"),
        ({"kernel_size": 2, "remove_center": True}, ValueError, "odd kernel_size"),
        ({"stride": 0}, ValueError, "stride 0"),
        ({"pad": 0, "dilation": 3}, ValueError, "at least 7"),
    ],
)
def test_inputs_that_do_not_fit_together_are_refused(change, error, message):
    x, offset, mask, _ = tensors((1, 4, 5, 8), arguments())
    with pytest.raises(error, match=message):
        dcnv3_triton(**{"x": x, "offset": offset, "mask": mask, **arguments(), **change})
