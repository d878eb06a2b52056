"""DCNv4 in Triton is the definition, and bit for bit DCNv3's kernel on the layout's parts (interpreted)."""

import pytest
import torch
from test_triton_dcnv3 import EPS, arguments
from torch.library import opcheck

from opbench.conformance.strategies import noise
from opbench.kernels.dcnv4_packed import pack, unpack
from opbench.kernels.triton import sampling_call
from opbench.kernels.triton.dcnv3 import dcnv3_triton, dcnv3_triton_logits
from opbench.kernels.triton.dcnv4 import dcnv4_triton, dcnv4_triton_logits
from opbench.operators.dcnv3.relations.examples import output_size
from opbench.operators.dcnv4 import DCNv4
from opbench.operators.dcnv4.definition import dcnv4_definition

BOTH_WAYS = pytest.mark.parametrize("deterministic", [False, True], ids=["atomics", "deterministic"])
SOFTMAX = pytest.mark.parametrize("logits", [False, True], ids=["masks", "logits"])
CORES = {False: (dcnv4_triton, dcnv3_triton), True: (dcnv4_triton_logits, dcnv3_triton_logits)}


def points(call):
    return call["kernel_size"] ** 2 - call["remove_center"]


def tensors(shape, call, *, dtype=torch.float32, spread=2.0, more=0):
    """x, offset_mask whose padding is NaN, and the output's gradient.

    Locations keep off whole numbers, where derivatives jump; `more` numbers follow the padding.
    """
    n, h, w, c = shape
    ho, wo = output_size(h, w, call)
    samples = call["group"] * points(call)
    moves = (noise((n, ho, wo, samples * 2), 1) * spread * 8).round() / 8 + 1 / 16
    packed = pack(moves, noise((n, ho, wo, samples), 2), call["group"])
    packed = torch.cat((packed, packed.new_zeros(n, ho, wo, more)), 3)
    packed[..., 3 * samples :] = torch.nan
    return noise(shape, 0).to(dtype), packed.to(dtype), noise((n, ho, wo, c), 3).to(dtype)


def results(core, x, offset_mask, grad, **call):
    """The output, and the gradients of x and offset_mask."""
    leaves = [t.detach().requires_grad_() for t in (x, offset_mask)]
    out = core(*leaves, **call)
    return out.detach(), *torch.autograd.grad(out, leaves, grad)


def softmaxed(core):
    """The core, on masks that are a softmax of those given."""

    def function(x, offset_mask, **call):
        offset, logits = unpack(offset_mask, call["group"], points(call))
        mask = logits.unflatten(3, (call["group"], -1)).softmax(4).flatten(3)
        return core(x, pack(offset, mask, call["group"]), **call)

    return function


# --- What it computes -------------------------------------------------------------------------------------------


def is_the_definition(shape, call, dtype, logits, deterministic, spread=2.0):
    drawn = tensors(shape, call, dtype=dtype, spread=spread)
    got = results(CORES[logits][0], *drawn, **call, deterministic=deterministic)
    definition = softmaxed(dcnv4_definition) if logits else dcnv4_definition
    expected = results(definition, *(t.double() for t in drawn), **call)
    summed_in = EPS[torch.float64 if dtype == torch.float64 else torch.float32]
    kept = 3 * call["group"] * points(call)
    for name, a, b in zip(("out", "grad x", "grad offset_mask"), got, expected, strict=True):
        assert (a.dtype, a.shape) == (dtype, b.shape)
        if name == "grad offset_mask":
            assert not a[..., kept:].any(), "the padding has no gradient"
            a, b = a[..., :kept], b[..., :kept]
        bound = 64 * summed_in * b.abs().amax() + EPS[dtype] * b.abs() + torch.finfo(dtype).tiny
        worst = ((a.double() - b).abs() / bound).max().item()
        assert worst <= 1, f"{name} is off by {worst:.3g} times its bound"


@SOFTMAX
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_results_and_gradients_are_the_definitions(interpreted, dtype, logits):
    interpreted(is_the_definition, (2, 2, 3, 6), arguments(), dtype, logits, False)


@pytest.mark.nightly
@SOFTMAX
@BOTH_WAYS
@pytest.mark.parametrize("dtype", EPS, ids=str)
def test_results_and_gradients_are_the_definitions_in_every_dtype(interpreted, dtype, logits, deterministic):
    interpreted(is_the_definition, (2, 4, 5, 12), arguments(group=4), dtype, logits, deterministic)


@pytest.mark.parametrize(
    ("shape", "call"),
    [
        pytest.param((1, 2, 3, 6), arguments(remove_center=True, group=3), id="no centre, no multiple of 8"),
        pytest.param((1, 5, 4, 2), arguments(k=2, stride=2, dilation=2, offset_scale=0.7), id="window"),
        pytest.param((1, 1, 1, 5), arguments(k=1, pad=0, group=1), id="one pixel, one point"),
        pytest.param((1, 2, 2, 140), arguments(k=2, pad=0), id="more channels than a tile"),
    ],
)
def test_settings_and_widths(interpreted, shape, call):
    interpreted(is_the_definition, shape, call, torch.float32, False, call["remove_center"])


def is_dcnv3_on_the_parts(shape, call, dtype, logits, deterministic):
    packed_core, parts_core = CORES[logits]

    def apart(x, offset_mask, **call):
        return parts_core(x, *unpack(offset_mask, call["group"], points(call)), **call)

    drawn = tensors(shape, call, dtype=dtype, more=3)
    got = results(packed_core, *drawn, **call, deterministic=deterministic)
    expected = results(apart, *drawn, **call, deterministic=deterministic)
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b)


@SOFTMAX
def test_it_is_dcnv3_s_kernel_on_the_parts(interpreted, logits):
    interpreted(is_dcnv3_on_the_parts, (1, 2, 2, 3), arguments(k=2, group=3), torch.bfloat16, logits, logits)


@pytest.mark.nightly
@SOFTMAX
@BOTH_WAYS
@pytest.mark.parametrize("dtype", EPS, ids=str)
def test_it_is_dcnv3_s_kernel_on_the_parts_in_every_dtype(interpreted, dtype, deterministic, logits):
    call = arguments(group=3, remove_center=True)
    interpreted(is_dcnv3_on_the_parts, (2, 3, 4, 6), call, dtype, logits, deterministic)


def copies_nothing():
    """Offsets and masks are read where they lie: what the launcher is given are views of the packed tensor."""
    call = arguments(k=2)
    x, packed, grad = tensors((1, 2, 2, 2), call)
    seen = []
    launch = sampling_call.launch

    def record(kernel, candidates, programs, tensors, *rest, **more):
        seen.append({name: tensor.untyped_storage().data_ptr() for name, tensor in tensors.items()})
        launch(kernel, candidates, programs, tensors, *rest, **more)

    sampling_call.launch = record
    try:
        _, _, grad_packed = results(dcnv4_triton, x, packed, grad, **call)
    finally:
        sampling_call.launch = launch
    assert len(seen) == 2
    place, result = packed.untyped_storage().data_ptr(), grad_packed.untyped_storage().data_ptr()
    assert all(tensors["offset"] == tensors["mask"] == place for tensors in seen)
    assert seen[1]["grad_offset"] == seen[1]["grad_mask"] == result


def test_the_packed_layout_is_neither_unpacked_nor_packed(interpreted):
    interpreted(copies_nothing)


def modules_agree():
    torch.manual_seed(0)
    module = DCNv4(6, group=3, center_feature_scale=True, implementation=dcnv4_triton).double()
    torch.nn.init.normal_(module.offset_mask.weight)
    other = DCNv4(6, group=3, center_feature_scale=True, implementation="gather").double()
    other.load_state_dict(module.state_dict())
    x = torch.randn(1, 2, 3, 6, dtype=torch.float64)
    for name, a, b in zip(
        ("out", "x", *dict(module.named_parameters())), answered(module, x), answered(other, x), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")


def answered(layer, x):
    leaf = x.clone().requires_grad_()
    out = layer(leaf)
    return out.detach(), *torch.autograd.grad(out.square().sum(), (leaf, *layer.parameters()))


def test_a_layer_computes_the_same_with_it(interpreted):
    interpreted(modules_agree)


def gradcheck(logits, deterministic):
    call = arguments(k=2, pad=0, offset_scale=0.7)
    x, packed, _ = tensors((1, 2, 3, 4), call, dtype=torch.float64)

    def core(x, packed):
        return CORES[logits][0](x, packed, **call, deterministic=deterministic)

    packed = packed.nan_to_num(0)
    assert torch.autograd.gradcheck(core, (x.requires_grad_(), packed.requires_grad_()))


@pytest.mark.nightly
@SOFTMAX
@BOTH_WAYS
def test_gradients_are_those_of_finite_differences(interpreted, logits, deterministic):
    interpreted(gradcheck, logits, deterministic)


# --- How it computes --------------------------------------------------------------------------------------------


def strides_change_nothing():
    call = arguments(k=2)
    x, packed, grad = tensors((2, 2, 3, 4), call)
    n, h, w, c = packed.shape
    expected = results(dcnv4_triton, x, packed, grad, **call)
    for other in (
        torch.zeros(n + 1, h, w + 3, c + 5)[1:, :, 2:-1, 3:-2],
        torch.zeros(n, h, w, 2 * c)[..., ::2],
        torch.zeros(n, c, h, w).permute(0, 2, 3, 1),
    ):
        got = results(dcnv4_triton, x, other.copy_(packed), grad, **call)
        assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.nightly
def test_strides_change_nothing(interpreted):
    interpreted(strides_change_nothing)


def makes_what_is_asked():
    call = arguments(k=2)
    x, packed, grad = tensors((1, 2, 2, 2), call)
    backward = torch.ops.opbench.dcnv4_triton_backward
    for deterministic in (False, True):
        every = backward(grad, x, packed, *call.values(), deterministic, [True, True])
        for wanted in ([True, False], [False, True]):
            some = backward(grad, x, packed, *call.values(), deterministic, wanted)
            for asked, a, b in zip(wanted, some, every, strict=True):
                assert torch.equal(a, b) if asked else a.numel() == 0


def test_only_the_gradients_asked_for_are_made(interpreted):
    interpreted(makes_what_is_asked)


def keeps_torchs_rules():
    small = arguments(k=2, pad=0, group=1)
    x, packed, grad = tensors((1, 2, 2, 4), small)
    packed = packed.nan_to_num(0)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    call = (*small.values(), None)
    for name in ("dcnv4_triton", "dcnv4_triton_logits"):
        forward, backward = (getattr(torch.ops.opbench, f"{name}{suffix}").default for suffix in ("", "_backward"))
        opcheck(forward, (x.clone().requires_grad_(), packed.clone().requires_grad_(), *call), test_utils=tests)
        opcheck(backward, (grad, x, packed, *call, [False, True]), test_utils=tests)


def test_the_operations_keep_torchs_rules(interpreted):
    interpreted(keeps_torchs_rules)


@pytest.mark.parametrize(("n", "c", "k"), [(0, 4, 3), (1, 0, 3), (1, 4, 1)])
def test_empty_inputs_and_windows_give_zeros(n, c, k):
    call = arguments(k=k, pad=k // 2, remove_center=k == 1)
    drawn = tensors((n, 3, 4, c), call, more=8)
    for core in (dcnv4_triton, dcnv4_triton_logits):
        for got, like in zip(results(core, *drawn, **call), (drawn[2], *drawn[:2]), strict=True):
            assert got.shape == like.shape
            assert not got.any()


def test_inputs_that_do_not_fit_together_are_refused():
    x, packed, _ = tensors((1, 4, 5, 8), arguments())
    with pytest.raises(ValueError, match="with M >= 54"):
        dcnv4_triton(x, packed[..., :53], **arguments())
    with pytest.raises(ValueError, match=r"expected \(1, 4, 5, 36\)"):
        dcnv4_triton(x, packed[:, :, 1:], **arguments())
    with pytest.raises(TypeError, match="one floating dtype"):
        dcnv4_triton(x, packed.double(), **arguments())
    with torch.autograd.forward_ad.dual_level(), pytest.raises(NotImplementedError, match="forward-mode"):
        dcnv4_triton(torch.autograd.forward_ad.make_dual(x, x), packed, **arguments())
