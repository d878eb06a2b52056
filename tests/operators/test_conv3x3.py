"""The rigid 3x3 contenders: modules against their definitions, closed forms against parameters and counters."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sampling_cases import FEW
from test_dcnv3_operators import counted, generator

from opbench import registry
from opbench.operators.dcnv3.module_definition import depthwise, gelu, layer_norm
from opbench.verify.bounds import judge

RIGID = ("conv3x3", "depthwise3x3", "depthwise-separable")
NAME = pytest.mark.parametrize("name", RIGID)


def dims_of(N=2, C=4, H=5, W=6):
    return {"N": N, "C": C, "H": H, "W": W, "G": 1}


@NAME
@FEW
@given(C=st.integers(1, 5), H=st.integers(1, 6), W=st.integers(1, 6), N=st.integers(1, 2), seed=st.integers(0, 99))
def test_the_module_meets_its_definition_within_its_terms(name, C, H, W, N, seed):
    operator, dims = registry.operator("conv3x3", name), dims_of(N, C, H, W)
    torch.manual_seed(seed)
    module = operator.module(dims, operator.implementations["torch"])
    tensors = {"x": operator.inputs(dims, 0.0, generator(seed))["x"].float(), **dict(module.named_parameters())}
    exact = {key: value.detach().double().requires_grad_() for key, value in tensors.items()}
    x = tensors["x"].requires_grad_()
    out, expected = module(x), operator.definition(dims, exact, True)
    grad = torch.randn_like(out)
    got = {"output": out, **dict(zip(tensors, torch.autograd.grad(out, list(tensors.values()), grad), strict=True))}
    want = torch.autograd.grad(expected, list(exact.values()), grad.double())
    want = {"output": expected.detach(), **dict(zip(exact, want, strict=True))}
    terms = operator.magnitude(dims, exact, grad.double())
    assert set(terms) == set(want)
    verdict = judge(got, want, terms, "float32")
    assert verdict.correct, verdict.reason


@NAME
def test_the_terms_are_narrow_enough_to_see_half_precision(name):
    operator, dims = registry.operator("conv3x3", name), dims_of()
    torch.manual_seed(0)
    module = operator.module(dims, operator.implementations["torch"])
    x = operator.inputs(dims, 0.0, generator())["x"].float()
    exact = {"x": x.double(), **{key: value.detach().double() for key, value in module.named_parameters()}}
    expected = {"output": operator.definition(dims, exact, False)}
    terms = operator.magnitude(dims, exact, None)
    with torch.no_grad():
        assert judge({"output": module(x)}, expected, terms, "float32").correct
        sloppy = module.bfloat16()(x.bfloat16()).float()
    assert not judge({"output": sloppy}, expected, terms, "float32").correct


@NAME
@FEW
@given(C=st.integers(1, 5), H=st.integers(1, 6), W=st.integers(1, 6), N=st.integers(1, 2))
def test_costs_are_what_parameters_and_counter_say(name, C, H, W, N):
    operator, dims = registry.operator("conv3x3", name), dims_of(N, C, H, W)
    module, cost = operator.module(dims, operator.implementations["torch"]), operator.cost(dims)
    x = operator.inputs(dims, 0.0, generator())["x"].float()
    assert cost.params == sum(parameter.numel() for parameter in module.parameters())
    assert cost.elements == 2 * x.numel() + cost.params
    assert counted(operator, module, [x]) == (cost.macs, cost.macs + cost.macs_backward)


def test_costs_at_64_channels():
    params = {name: registry.operator("conv3x3", name).cost(dims_of(C=64)).params for name in RIGID}
    assert params == {"conv3x3": 36_864, "depthwise3x3": 576, "depthwise-separable": 4_672}


@pytest.mark.parametrize(("stride", "pad", "k"), [(1, 1, 3), (2, 2, 5), (3, 0, 1), (2, 1, 2)])
def test_the_depthwise_definition_is_a_grouped_convolution(stride, pad, k):
    x, weight, bias = torch.randn(2, 3, 7, 6), torch.randn(3, 1, k, k), torch.randn(3)
    expected = F.conv2d(x.double(), weight.double(), bias.double(), stride, pad, groups=3)
    torch.testing.assert_close(depthwise(x.double(), weight.double(), bias.double(), stride, pad), expected)


def test_layer_norm_and_gelu_are_torchs():
    x = torch.randn(2, 3, 8, dtype=torch.float64)
    weight, bias = torch.randn(8, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    torch.testing.assert_close(layer_norm(x, weight, bias, 1e-6), F.layer_norm(x, (8,), weight, bias, 1e-6))
    torch.testing.assert_close(gelu(x), F.gelu(x))
