"""CARAFE in Triton is the definition, in every dtype and memory format, from a mask and from logits (interpreted)."""

import pytest
import torch
import torch.nn.functional as F
from falsify import assert_holds
from torch.library import opcheck

from opbench.conformance.strategies import noise
from opbench.kernels.triton import carafe as triton_carafe
from opbench.kernels.triton.carafe import carafe_triton, carafe_triton_logits
from opbench.operators.carafe.definition import reassembly
from opbench.operators.carafe.relations import RELATIONS
from opbench.relations import Example, Space

BY_NAME = {relation.name: relation for relation in RELATIONS}
EPS = {torch.float64: 2.0**-52, torch.float32: 2.0**-23, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}
FORMATS = {"first": torch.contiguous_format, "last": torch.channels_last}


def arguments(k=3, g=1, s=2):
    return {"kernel_size": k, "group_size": g, "scale_factor": s}


def tensors(shape, call, *, dtype=torch.float32, format="first", logits=False):
    """x, mask (or logits) and the output's gradient."""
    (n, c, h, w), (k, g, s) = shape, call.values()
    x, grad = noise((n, c, h, w), 0), noise((n, c, s * h, s * w), 1)
    x, grad = (t.to(dtype).contiguous(memory_format=FORMATS[format]) for t in (x, grad))
    mask = noise((n, g * k * k * s * s, h, w) if logits else (n, g * k * k, s * h, s * w), 2)
    return x, mask.to(dtype), grad


def results(core, x, mask, grad, **call):
    """The output, and the gradients of x and mask."""
    x, mask = x.detach().requires_grad_(), mask.detach().requires_grad_()
    out = core(x, mask, **call)
    return out.detach(), *torch.autograd.grad(out, (x, mask), grad)


# --- What it computes -------------------------------------------------------------------------------------------


def is_the_definition(shape, call, dtype, format):
    x, mask, _ = tensors(shape, call, dtype=dtype, format=format)
    BY_NAME["definition-gradients"].check(carafe_triton, Example({"x": x, "mask": mask}, call))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("dtype", EPS, ids=str)
def test_results_and_gradients_are_the_definitions(interpreted, dtype, format):
    interpreted(is_the_definition, (2, 4, 2, 5), arguments(g=2), dtype, format)


@pytest.mark.parametrize(
    ("shape", "call"),
    [
        pytest.param((1, 70, 1, 3), arguments(), id="more channels than a tile"),
        pytest.param((1, 3, 1, 40), arguments(s=1), id="more parents than a tile"),
        pytest.param((1, 2, 2, 3), arguments(s=3), id="more children than a tile"),
        pytest.param((1, 2, 2, 3), arguments(k=7, s=1), id="a window larger than the image"),
        pytest.param((1, 2, 2, 2), arguments(k=1, s=2), id="a window of one tap"),
    ],
)
def test_sizes_around_the_tiles(interpreted, shape, call):
    for format in FORMATS:
        interpreted(is_the_definition, shape, call, torch.float32, format)


def is_the_definition_of_softmax(shape, call, dtype, format):
    x, logits, grad = tensors(shape, call, dtype=dtype, format=format, logits=True)

    def unfused(x, logits, **call):
        shuffled = F.pixel_shuffle(logits, call["scale_factor"]).unflatten(1, (call["group_size"], -1))
        return reassembly(x, shuffled.softmax(2).flatten(1, 2), **call)

    got = results(carafe_triton_logits, x, logits, grad, **call)
    expected = results(unfused, x.double(), logits.double(), grad.double(), **call)
    summed_in = EPS[torch.float64 if dtype == torch.float64 else torch.float32]
    for name, a, b in zip(("out", "grad x", "grad logits"), got, expected, strict=True):
        assert a.dtype == dtype
        bound = 64 * summed_in * b.abs().amax() + EPS[dtype] * b.abs() + torch.finfo(dtype).tiny
        worst = ((a.double() - b).abs() / bound).max().item()
        assert worst <= 1, f"{name} is off by {worst:.3g} times its bound"
    assert got[0].stride() == grad.stride()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=str)
def test_from_logits_it_is_pixel_shuffle_softmax_and_the_definition(interpreted, dtype, format):
    interpreted(is_the_definition_of_softmax, (1, 4, 2, 3), arguments(g=2), dtype, format)


def test_from_logits_of_other_scales(interpreted):
    interpreted(is_the_definition_of_softmax, (1, 2, 2, 2), arguments(k=1, s=3), torch.float32, "first")


def ignores_infinite_gradients_outside():
    """In an image of one pixel all taps but the middle one are outside."""
    x, mask, grad = tensors((1, 2, 1, 1), arguments())
    grad_mask = results(carafe_triton, x, mask, grad * torch.inf, **arguments())[2]
    assert not grad_mask[:, [0, 1, 2, 3, 5, 6, 7, 8]].any()


def test_taps_outside_have_no_gradient_even_if_the_output_s_is_infinite(interpreted):
    interpreted(ignores_infinite_gradients_outside)


def extreme_logits():
    x, logits, _ = tensors((1, 2, 1, 2), arguments(), logits=True)
    out = carafe_triton_logits(x, logits * 0 + 3e38, **arguments())
    even = carafe_triton_logits(x, logits * 0, **arguments())
    assert torch.equal(out, even), "a softmax of equal logits is even, however large they are"


def test_the_softmax_does_not_overflow(interpreted):
    interpreted(extreme_logits)


SMALL = {"N": 1, "H": 2, "W": 3, "kernel_size": 3, "group_size": 1, "scale_factor": 2}


def holds(relation, dtype, fixed, number):
    assert_holds(BY_NAME[relation], carafe_triton, Space(dtype, fixed=fixed), number)


@pytest.mark.parametrize("relation", ["outside-taps", "layouts", "gradient-layouts", "gradient-subsets"])
def test_it_meets_the_relations_that_its_indexing_endangers(interpreted, relation):
    interpreted(holds, relation, "float32", SMALL, 1)


@pytest.mark.nightly
@pytest.mark.parametrize("relation", BY_NAME)
def test_it_meets_every_relation(interpreted, relation):
    interpreted(holds, relation, "float32", {"N": 1}, 2)


def gradcheck():
    x, mask, _ = tensors((1, 2, 1, 2), arguments(s=1), dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x, mask: carafe_triton(x, mask, **arguments(s=1)), (x.requires_grad_(), mask.requires_grad_())
    )


@pytest.mark.nightly
def test_gradients_are_those_of_finite_differences(interpreted):
    interpreted(gradcheck)


# --- How it computes --------------------------------------------------------------------------------------------


def same_in_64_bits():
    drawn = {logits: tensors((1, 4, 2, 3), arguments(), logits=logits) for logits in (False, True)}
    cores = {False: carafe_triton, True: carafe_triton_logits}
    expected = {logits: results(cores[logits], *drawn[logits], **arguments()) for logits in drawn}
    triton_carafe.spans_64_bits = lambda tensors: True
    try:
        for logits, core in cores.items():
            for a, b in zip(results(core, *drawn[logits], **arguments()), expected[logits], strict=True):
                assert torch.equal(a, b)
    finally:
        triton_carafe.spans_64_bits = lambda tensors: False


def test_images_that_need_64_bits_are_computed_alike(interpreted):
    interpreted(same_in_64_bits)


def keeps_torchs_rules():
    call = arguments().values()
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    for logits, name in ((False, "carafe_triton"), (True, "carafe_triton_logits")):
        x, mask, grad = tensors((1, 2, 1, 2), arguments(), format="last", logits=logits)
        forward, backward = (getattr(torch.ops.opbench, f"{name}{suffix}").default for suffix in ("", "_backward"))
        opcheck(forward, (x.clone().requires_grad_(), mask.clone().requires_grad_(), *call), test_utils=tests)
        stats = forward(x, mask, *call)[1:] if logits else ()
        opcheck(backward, (grad, x, mask, *stats, *call, [True, False]), test_utils=tests)


def test_the_operations_keep_torchs_rules(interpreted):
    interpreted(keeps_torchs_rules)


@pytest.mark.parametrize("shape", [(0, 4, 3, 3), (1, 0, 3, 3), (1, 4, 0, 3)])
def test_empty_inputs(shape):
    x, mask, grad = tensors(shape, arguments())
    for got, like in zip(results(carafe_triton, x, mask, grad, **arguments()), (grad, x, mask), strict=True):
        assert got.shape == like.shape
        assert not got.any()


def test_tensors_on_the_cpu_are_refused_with_the_reason():
    pytest.importorskip("triton", reason="triton is not installed")
    x, mask, _ = tensors((1, 2, 1, 2), arguments())
    with pytest.raises(RuntimeError, match=r"tensors on one cuda device, got .*x on cpu.*move the tensors"):
        carafe_triton(x, mask, **arguments())


def test_under_autocast_inputs_meet_in_the_widest_of_their_dtypes():
    x, mask, _ = tensors((0, 2, 1, 2), arguments())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert carafe_triton(x.bfloat16(), mask, **arguments()).dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"mask": torch.zeros(1, 9, 4, 5)}, ValueError, r"mask is \(1, 9, 4, 5\); expected \(1, 9, 4, 6\)"),
        ({"mask": torch.zeros(1, 9, 4, 6).double()}, TypeError, "one floating dtype"),
        ({"x": torch.zeros(4, 2, 3)}, ValueError, r"expected \(N, C, H, W\)"),
        ({"group_size": 3}, ValueError, "divisible by group_size 3"),
        ({"kernel_size": 2}, ValueError, "odd kernel_size"),
        ({"scale_factor": 0}, ValueError, "scale_factor 0"),
    ],
)
def test_inputs_that_do_not_fit_together_are_refused(change, error, message):
    x, mask, _ = tensors((1, 4, 2, 3), arguments())
    with pytest.raises(error, match=message):
        carafe_triton(**{"x": x, "mask": mask, **arguments(), **change})


def test_logits_of_a_mask_s_shape_are_refused():
    x, mask, _ = tensors((1, 4, 2, 3), arguments())
    with pytest.raises(ValueError, match=r"logits is \(1, 9, 4, 6\); expected \(1, 36, 2, 3\)"):
        carafe_triton_logits(x, mask, **arguments())
