"""Gradients of gradients: each core that is taken by default has those of its definition."""

import pytest
import torch

from opbench.kernels import formulas
from opbench.kernels.cpu.sampling import sample
from opbench.operators.carafe.cores import shift_add
from opbench.operators.carafe.definition import reassembly
from opbench.operators.carafe.function import carafe
from opbench.operators.carafe_downsample.cores import shift_add as strided_shift_add
from opbench.operators.carafe_downsample.definition import reassembly as strided_reassembly
from opbench.operators.common.clamped.cores import cpu as clamped_cpu
from opbench.operators.common.clamped.definition import clamped_definition
from opbench.operators.dcnv3.cores import gather
from opbench.operators.dcnv3.definition import dcnv3_definition
from opbench.operators.dcnv3.function import dcnv3
from opbench.operators.dcnv4.cores import dcnv4_cpu
from opbench.operators.dcnv4.definition import dcnv4_definition
from opbench.operators.dysample.cores import dysample_cpu
from opbench.operators.dysample.definition import sampling as dysample_definition


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


CARAFE = {"kernel_size": 3, "group_size": 2, "scale_factor": 2}
STRIDED = {"kernel_size": 3, "group_size": 2, "stride": 2}
DCNV3 = {
    "kernel_size": 3, "stride": 2, "pad": 1, "dilation": 1, "group": 2, "offset_scale": 0.75, "remove_center": True,
}  # fmt: skip
X_LAST, X_FIRST = noise(2, 5, 4, 4), noise(2, 4, 5, 4)
OF_CARAFE = (X_FIRST, noise(2, 18, 10, 8, seed=1))
OF_DCNV3 = (X_LAST, noise(2, 3, 2, 32, seed=1), noise(2, 3, 2, 16, seed=2))
OF_CLAMPED = (X_FIRST, 2 + 2 * noise(2, 3, 5, 4, seed=1), 2 + 2 * noise(2, 3, 5, 4, seed=2), noise(3, 4, 3, seed=3))
CORES = {
    "carafe": (carafe, reassembly, OF_CARAFE, CARAFE),
    "carafe[shift-add]": (shift_add, reassembly, OF_CARAFE, CARAFE),
    "carafe-downsample": (strided_shift_add, strided_reassembly, (X_FIRST, noise(2, 18, 3, 2, seed=1)), STRIDED),
    "dcnv3": (dcnv3, dcnv3_definition, OF_DCNV3, DCNV3),
    "dcnv3[gather]": (gather, dcnv3_definition, OF_DCNV3, DCNV3),
    "dcnv4": (dcnv4_cpu, dcnv4_definition, (X_LAST, noise(2, 3, 2, 56, seed=1)), DCNV3),
    "dysample": (
        dysample_cpu, dysample_definition, (X_FIRST, noise(2, 16, 5, 4, seed=1)), {"scale": 2, "groups": 2},
    ),
    "clamped": (clamped_cpu, clamped_definition, OF_CLAMPED, {}),
    "clamped twice": (clamped_cpu, clamped_definition, OF_CLAMPED, {"twice": True}),
}  # fmt: skip


def second(core, tensors, options, asked=None):
    """The gradients of one number that is made of all first gradients, in the tensors and in the output's gradient."""
    asked = range(len(tensors)) if asked is None else asked
    leaves = [tensor.clone().requires_grad_(index in asked) for index, tensor in enumerate(tensors)]
    out = core(*leaves, **options)
    incoming = noise(*out.shape, seed=9, dtype=out.dtype).requires_grad_()
    wanted = [leaves[index] for index in asked]
    first = torch.autograd.grad(out, wanted, incoming, create_graph=True)
    total = sum((one * noise(*one.shape, seed=20 + i, dtype=one.dtype)).sum() for i, one in enumerate(first))
    return torch.autograd.grad(total, [*wanted, incoming], allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize("name", CORES)
def test_second_derivatives_are_the_definition_s(name):
    core, definition, tensors, options = CORES[name]
    expected = second(definition, tensors, options)
    assert all(float(one.abs().max()) > 0.1 for one in expected)
    for got, wanted in zip(second(core, tensors, options), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["carafe", "dcnv3", "clamped"])
def test_so_they_are_where_some_of_the_inputs_ask(name):
    core, definition, tensors, options = CORES[name]
    for asked in ((0,), (1,)):
        expected = second(definition, tensors, options, asked)
        for got, wanted in zip(second(core, tensors, options, asked), expected, strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["carafe", "carafe[shift-add]", "dcnv3", "dcnv3[gather]"])
def test_differences_of_gradients_agree(name):
    """torch's own check, on an output small enough for it."""
    core, _, _, options = CORES[name]
    if name.startswith("carafe"):
        options = {"kernel_size": 3, "group_size": 1, "scale_factor": 1}
        tensors = noise(1, 1, 2, 2), noise(1, 9, 2, 2, seed=1)
    else:
        options = {**options, "stride": 1, "group": 1, "kernel_size": 1, "pad": 0, "remove_center": False}
        tensors = noise(1, 2, 3, 1), 0.3 + 0.1 * noise(1, 2, 3, 2, seed=1), noise(1, 2, 3, 1, seed=2)
    assert torch.autograd.gradgradcheck(
        lambda *leaves: core(*leaves, **options), [tensor.clone().requires_grad_() for tensor in tensors]
    )


def test_of_half_inputs_they_come_in_their_dtype():
    core, definition, tensors, options = CORES["carafe"]
    narrow = [tensor.bfloat16() for tensor in tensors]
    expected = second(definition, [tensor.double() for tensor in narrow], options)
    for got, wanted in zip(second(core, narrow, options), expected, strict=True):
        assert got.dtype == torch.bfloat16
        assert float((got.double() - wanted).abs().max()) <= 0.05 * float(wanted.abs().max())


def test_a_third_derivative_is_the_definition_s():
    x, mask = OF_CARAFE

    def third(core):
        held = mask.clone().requires_grad_()
        first = torch.autograd.grad((core(x, held, **CARAFE) ** 3).sum(), held, create_graph=True)[0]
        again = torch.autograd.grad((first**2).sum(), held, create_graph=True)[0]
        return torch.autograd.grad(again.sum(), held)[0]

    torch.testing.assert_close(third(carafe), third(reassembly), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("padding", ["zeros", "border", "border-twice"])
@pytest.mark.parametrize("first", ["x", "y"])
def test_the_formula_of_samples_is_the_kernel(padding, first):
    positions = 2 + 3 * noise(2, 3, 4, 12, seed=1)
    weights = noise(2, 3, 4, 6, seed=2)
    positions[0, 0, 0, 0] = torch.nan
    got = formulas.positioned(X_LAST, positions, weights, 2, padding, first)
    torch.testing.assert_close(got, sample(X_LAST, positions, weights, group=2, padding=padding, first=first))


def test_the_formulas_of_logits_take_a_softmax_over_the_taps_or_points():
    """Which the fused kernels fold in."""
    logits = noise(2, 2 * 9 * 4, 5, 4, seed=1)
    mask = torch.nn.functional.pixel_shuffle(logits, 2).unflatten(1, (2, 9)).softmax(2).flatten(1, 2)
    got = formulas.reassembled_from_logits(X_FIRST, logits, 3, 2, 2)
    torch.testing.assert_close(got, reassembly(X_FIRST, mask, **CARAFE))
    x, offset, raw = OF_DCNV3
    shares = raw.unflatten(-1, (2, 8)).softmax(-1).flatten(-2)
    expected = dcnv3_definition(x, offset, shares, **DCNV3)
    torch.testing.assert_close(formulas.windowed_from_logits(x, offset, raw, *DCNV3.values()), expected)
    packed = torch.cat([offset.unflatten(-1, (2, 16)), raw.unflatten(-1, (2, 8))], -1).flatten(-2)
    torch.testing.assert_close(formulas.packed_from_logits(x, packed, *DCNV3.values(), None), expected)


def test_a_tap_outside_the_image_adds_nothing_to_a_second_derivative_whatever_the_mask_holds():
    x, mask = (tensor.clone() for tensor in OF_CARAFE)
    mask[:, 0, 0] = torch.nan  # the tap up and to the left, of the first row
    assert all(one.isfinite().all() for one in second(carafe, (x, mask), CARAFE))


def test_without_a_formula_a_second_derivative_is_refused_rather_than_zero():
    x = noise(1, 4, 3, 3).requires_grad_()
    out = torch.ops.opbench.dysample_core(x, noise(1, 8, 3, 3, seed=1), 2, 1)
    (gradient,) = torch.autograd.grad(out.sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="dysample_core: second derivatives are not implemented"):
        gradient.sum().backward()
