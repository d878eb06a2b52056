"""The rivals of task `upsample2x`: each torch module is its definition, and costs what the CARAFE paper says."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opbench import registry
from opbench.operators.carafe.paper_flops import paper_flops
from opbench.operators.deconv import DECONV
from opbench.operators.interpolation import INTERPOLATIONS
from opbench.operators.interpolation.cost import FORMULAS
from opbench.operators.interpolation.definition import bicubic_axis, bilinear_axis
from opbench.operators.pixel_shuffle import PIXEL_SHUFFLE
from opbench.operators.spatial_attention import ATTENTION

RIVALS = (*INTERPOLATIONS, DECONV, PIXEL_SHUFFLE, ATTENTION)
NAMES = [rival.name for rival in RIVALS]
LINEAR = [rival.name for rival in RIVALS if rival.terms is not None]


def rival(name):
    return registry.operator("upsample2x", name)


def tensors_of(name, dims, seed=0):
    """A rival's module in float64 and every tensor it computes with, by name."""
    module = rival(name).module(dims, rival(name).implementations["torch"]).double()
    generator = torch.Generator().manual_seed(seed)
    x = rival(name).inputs(dims, 0.0, generator)["x"]
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module, {"x": x, **{key: value.detach().clone() for key, value in module.state_dict().items()}}


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15)
@given(N=st.integers(1, 2), C=st.integers(1, 3), H=st.integers(1, 5), W=st.integers(1, 5), seed=st.integers(0, 99))
def test_module_and_its_gradients_are_the_definition_s(name, N, C, H, W, seed):
    dims = {"N": N, "C": C, "H": H, "W": W}
    module, tensors = tensors_of(name, dims, seed)
    leaves = {key: value.requires_grad_() for key, value in tensors.items()}
    expected = rival(name).definition(dims, leaves, True)
    x = tensors["x"].detach().clone().requires_grad_()
    got = module(x)
    assert got.shape == (N, C, 2 * H, 2 * W)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-13)
    grad_output = torch.randn(got.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    own = {"x": x, **dict(module.named_parameters())}
    gradients = torch.autograd.grad(got, [own[key] for key in leaves], grad_output)
    expected_gradients = torch.autograd.grad(expected, list(leaves.values()), grad_output)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-11, atol=1e-12)


def test_interpolations_of_two_pixels_worked_out_by_hand():
    dims = {"N": 1, "C": 1, "H": 1, "W": 2}
    x = torch.tensor([0.0, 1.0], dtype=torch.float64).view(1, 1, 1, 2)
    rows = {name: rival(name).definition(dims, {"x": x}, False)[0, 0, 0].tolist() for name in NAMES[:3]}
    # Keys' weights at a quarter, a = -0.75: far outside first.
    far, near, next_, last = -0.10546875, 0.87890625, 0.26171875, -0.03515625
    assert far + near + next_ + last == 1
    assert rows["nearest"] == [0, 0, 1, 1]
    assert rows["bilinear"] == [0, 0.25, 0.75, 1]
    assert rows["bicubic"] == [far, next_ + last, near + far, 1 - far]


@pytest.mark.parametrize("name", LINEAR)
def test_magnitude_is_the_sum_of_absolute_terms(name):
    dims = {"N": 1, "C": 2, "H": 3, "W": 3}
    _, tensors = tensors_of(name, dims)
    grad_output = torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    terms = rival(name).magnitude(dims, tensors, grad_output)
    assert set(terms) == {"output", *tensors}
    leaves = {key: value.clone().requires_grad_() for key, value in tensors.items()}
    output = rival(name).definition(dims, leaves, True)
    gradients = torch.autograd.grad(output, list(leaves.values()), grad_output)
    for key, value in {"output": output, **dict(zip(leaves, gradients, strict=True))}.items():
        assert (terms[key].total >= value.abs() * (1 - 1e-12)).all(), key
        assert (terms[key].total > 0).all(), key
    # Against terms of both signs the sum of absolute values is strictly larger somewhere.
    assert name == "nearest" or (terms["output"].total > output.abs() * (1 + 1e-9)).any()
    assert set(rival(name).magnitude(dims, tensors, None)) == {"output"}


@pytest.mark.parametrize("name", ["nearest", "nearest-conv3x3", "deconv", "pixel-shuffle"])
def test_the_number_of_terms_is_what_ones_add_up_to(name):
    dims = {"N": 2, "C": 3, "H": 4, "W": 5}
    ones = {key: torch.ones_like(value) for key, value in tensors_of(name, dims)[1].items()}
    terms = rival(name).magnitude(dims, ones, torch.ones(2, 3, 8, 10, dtype=torch.float64))
    for key, value in terms.items():
        assert value.count == int(value.total.max()), key


@pytest.mark.parametrize(("name", "reads"), [("bilinear", 4), ("bicubic", 9)])
def test_no_input_pixel_is_read_more_often_than_counted(name, reads):
    axis = {"bilinear": bilinear_axis, "bicubic": bicubic_axis}[name]
    most = 0
    for size in range(1, 9):
        taps = axis(torch.arange(2 * size, dtype=torch.float64))
        read = torch.stack([index.clamp(0, size - 1).long() for index, _ in taps]).flatten()
        most = max(most, int(read.bincount().max()))
    assert most == reads
    dims = {"N": 1, "C": 1, "H": 2, "W": 2}
    counts = rival(name).magnitude(dims, {"x": torch.ones(1, 1, 2, 2).double()}, torch.ones(1, 1, 4, 4).double())
    assert counts["x"].count == reads**2


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=10)
@given(N=st.integers(1, 3), C=st.integers(1, 5), H=st.integers(1, 5), W=st.integers(1, 5))
def test_closed_forms_are_what_the_module_holds_and_moves(name, N, C, H, W):
    dims = {"N": N, "C": C, "H": H, "W": W}
    module = rival(name).module(dims, rival(name).implementations["torch"])
    cost = rival(name).cost(dims)
    params = sum(parameter.numel() for parameter in module.parameters())
    assert cost.params == params
    assert cost.elements == 5 * N * C * H * W + params


@pytest.mark.parametrize(
    ("name", "flops", "params"),
    [
        ("carafe", 199_496, 74_148),
        ("deconv", 1_179_648, 589_824),
        ("nearest-conv3x3", 4_718_592, 589_824),
        ("pixel-shuffle", 4_718_592, 2_359_296),
        ("bilinear", 8_192, 0),
        ("spatial-attention", 27_648, 2_304),
        ("nearest", 0, 0),
    ],
)
def test_the_carafe_paper_s_table(name, flops, params):
    operator = rival(name)
    dims = operator.given({"N": 1, "C": 256, "H": 1, "W": 1})
    module = operator.module(dims, next(iter(operator.implementations.values())))
    assert paper_flops(name, {"C": 256}) == flops
    assert operator.cost(dims).params == params
    assert sum(parameter.numel() for parameter in module.parameters()) == params


@pytest.mark.parametrize(("mode", "taps"), [("nearest", 0), ("bilinear", 4), ("bicubic", 16)])
def test_interpolation_formulas_read_a_dispatched_call(mode, taps):
    call = [(2, 3, 4, 5), [8, 10], False, 2.0, 2.0]
    backward = [(2, 3, 8, 10), [8, 10], (2, 3, 4, 5), False, 2.0, 2.0]
    assert FORMULAS[f"aten::upsample_{mode}2d"](call) == 2 * 3 * 8 * 10 * taps
    assert FORMULAS[f"aten::upsample_{mode}2d_backward"](backward) == 2 * 3 * 8 * 10 * taps
    assert FORMULAS[f"aten::upsample_{mode}2d"](call) == rival(mode).cost({"N": 2, "C": 3, "H": 4, "W": 5}).macs
