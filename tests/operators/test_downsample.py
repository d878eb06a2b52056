"""The slot downsample2x: its dimensions, its plain contenders against their definitions, terms and closed forms."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sampling_cases import FEW
from test_dcnv3_operators import counted, generator

from opbench import registry
from opbench.build import build
from opbench.operators.common.definitions import convolution
from opbench.schema import Case, Multiple, Task
from opbench.tasks import halved
from opbench.verify.bounds import judge
from opbench.verify.gate import check, reference

TASK = registry.tasks()["downsample2x"]
PLAIN = ("conv3x3-stride2", "depthwise-stride2")
DEFORMABLE = ("dcnv3", "yolo-dcnv3")
RIGID = (*PLAIN, "maxpool-conv", "avgpool-conv", "spdconv", "adown")
NAME = pytest.mark.parametrize("name", PLAIN)
SIZES = {
    "C": st.integers(1, 5),
    "O": st.integers(1, 6),
    "H": st.integers(1, 7),
    "W": st.integers(1, 7),
    "N": st.integers(1, 2),
}


def dims_of(N=2, C=4, H=6, W=8, **more):
    return TASK.given({"N": N, "C": C, "H": H, "W": W, "G": 1, **more})


def test_an_output_width_that_is_not_named_is_twice_the_input():
    assert dims_of(C=4)["O"] == 8
    assert dims_of(C=4, O=4)["O"] == 4
    assert str(TASK.defaults["O"]) == "2C"


def test_defaults_are_numbers_or_follow_what_is_named():
    task = Task("a", "a", "b[c]", ("C",), {"k": 3, "O": Multiple("C", 4), "P": Multiple("O", 2)})
    assert task.given({"C": 2}) == {"C": 2, "k": 3, "O": 8, "P": 16}
    assert task.given({"C": 2, "O": 5}) == {"C": 2, "k": 3, "O": 5, "P": 10}


@NAME
@FEW
@given(seed=st.integers(0, 99), **SIZES)
def test_the_module_meets_its_definition_within_its_terms(name, seed, **sizes):
    operator, dims = registry.operator("downsample2x", name), dims_of(**sizes)
    torch.manual_seed(seed)
    module = operator.module(dims, operator.implementations["torch"])
    tensors = {"x": operator.inputs(dims, 0.0, generator(seed))["x"].float(), **dict(module.named_parameters())}
    exact = {key: value.detach().double().requires_grad_() for key, value in tensors.items()}
    x = tensors["x"].requires_grad_()
    out, expected = module(x), operator.definition(dims, exact, True)
    assert out.shape == (dims["N"], dims["O"], *halved(dims))
    grad = torch.randn_like(out)
    got = {"output": out, **dict(zip(tensors, torch.autograd.grad(out, list(tensors.values()), grad), strict=True))}
    want = torch.autograd.grad(expected, list(exact.values()), grad.double())
    want = {"output": expected.detach(), **dict(zip(exact, want, strict=True))}
    terms = operator.magnitude(dims, exact, grad.double())
    assert set(terms) == set(want)
    verdict = judge(got, want, terms, "float32")
    assert verdict.correct, verdict.reason


@pytest.mark.parametrize("name", RIGID)
@FEW
@given(**SIZES)
def test_costs_are_what_parameters_and_counter_say(name, **sizes):
    operator = registry.operator("downsample2x", name)
    dims = operator.given(dims_of(**sizes))
    if operator.requires(dims):
        dims |= {axis: 2 * dims[axis] for axis in ("C", "O", "H", "W")}
    assert operator.requires(dims) is None
    module, cost = operator.module(dims, next(iter(operator.implementations.values()))).eval(), operator.cost(dims)
    x = operator.inputs(dims, 0.0, generator())["x"].float()
    assert cost.params == sum(parameter.numel() for parameter in module.parameters())
    assert cost.elements == x.numel() + module(x).numel() + cost.params
    assert counted(operator, module, [x]) == (cost.macs, cost.macs + cost.macs_backward)


@pytest.mark.parametrize("name", DEFORMABLE)
@FEW
@given(groups=st.integers(1, 3), **SIZES)
def test_a_deformable_contender_costs_what_its_parameters_and_counter_say(name, groups, **sizes):
    operator = registry.operator("downsample2x", name)
    dims = {**dims_of(**sizes), "G": groups, "O": groups * sizes["O"]}
    module, cost = operator.module(dims, operator.counting).eval(), operator.cost(dims)
    x = operator.inputs(dims, 0.0, generator())["x"].float()
    assert cost.params == sum(parameter.numel() for parameter in module.parameters())
    assert cost.elements == x.numel() + module(x).numel() + cost.params
    assert counted(operator, module, [x]) == (cost.macs, cost.macs + cost.macs_backward)


@pytest.mark.parametrize("outputs", [8, 16])
@pytest.mark.parametrize("name", DEFORMABLE)
def test_dcnv3_at_stride_2_is_its_definition_and_offsets_spread_as_asked(name, outputs):
    """On odd sides too, whose half is rounded up; of 8 channels to 8 there is nothing to project."""
    dims = {"N": 2, "C": 8, "O": outputs, "H": 7, "W": 6, "G": 2}
    held = None
    for implementation in ("gather", "cpu"):
        case = build(Case("downsample2x", "w", name, implementation, dims, "float32", "cpu", "training", 2.0))
        held = held or reference(case)
        assert held.expected["output"].shape == (2, outputs, 4, 3)
        verdict = check(case, held)
        assert verdict.worst_ratio <= 0.5, verdict.reason
    layer = case.module.dcnv3
    assert ("project.weight" in case.tensors) == (name == "dcnv3" and outputs != 8)
    seen = []
    layer.offset.register_forward_hook(lambda module, given, out: seen.append(out))
    case.call_once()
    # Batch statistics of the training call aren't those that the offsets were drawn under.
    if name == "dcnv3":
        assert seen[0].square().mean().sqrt().item() == pytest.approx(2.0, rel=1e-5)


def test_groups_are_those_of_the_output():
    for name in DEFORMABLE:
        operator = registry.operator("downsample2x", name)
        assert operator.requires({**dims_of(C=3), "O": 8, "G": 2}) is None
        assert operator.requires({**dims_of(C=3), "O": 8, "G": 3}) == "O=8 is not a multiple of G=3 groups"


def test_no_gradient_sums_more_products_than_its_terms_count():
    """With ones everywhere a sum is the number of its terms; an image of 5 x 5 has a pixel in four windows."""
    for name in PLAIN:
        operator, dims = registry.operator("downsample2x", name), dims_of(N=2, C=3, O=5, H=5, W=5)
        module = operator.module(dims, operator.implementations["torch"]).double()
        tensors = {"x": torch.ones(2, 3, 5, 5, dtype=torch.float64), **dict(module.named_parameters())}
        tensors = {key: torch.ones_like(value) for key, value in tensors.items()}
        terms = operator.magnitude(dims, tensors, torch.ones(2, 5, 3, 3, dtype=torch.float64))
        for key, one in terms.items():
            assert one.total.max() <= one.count, (name, key)


@pytest.mark.parametrize(("stride", "pad", "k"), [(1, None, 3), (2, 1, 3), (2, 0, 1), (3, 2, 5), (2, 1, 2), (1, 0, 3)])
def test_the_definition_of_a_convolution_is_torchs(stride, pad, k):
    x, weight, bias = torch.randn(2, 3, 7, 6), torch.randn(4, 3, k, k), torch.randn(4)
    expected = F.conv2d(x.double(), weight.double(), bias.double(), stride, k // 2 if pad is None else pad)
    got = convolution(x.double(), weight.double(), bias.double(), stride=stride, pad=pad)
    torch.testing.assert_close(got, expected)
