"""LDConv: its definition by loops, its cores, the published keys, and what networks do to a module."""

import copy
import io
import math
import pickle

import pytest
import torch
from torch import nn

from opbench import registry
from opbench.operators.common.clamped.cores import CORES
from opbench.operators.common.clamped.definition import clamped_definition
from opbench.operators.ldconv import CORES as LDCONV
from opbench.operators.ldconv import AKConv, LDConv, initial_shape, ldconv_definition

HERE = [name for name, core in CORES.items() if core.missing() is None]
CORE = pytest.mark.parametrize("name", HERE)
OWN = [*HERE, "published"]
# CV-ZhangXin/LDConv, model.py at cbccb6b: LDConv(16, 24, 5, 2), names and shapes as its constructor makes them.
PUBLISHED = {
    "conv.0.weight": (24, 16, 5, 1),
    "conv.1.weight": (24,),
    "conv.1.bias": (24,),
    "conv.1.running_mean": (24,),
    "conv.1.running_var": (24,),
    "conv.1.num_batches_tracked": (),
    "p_conv.weight": (10, 16, 3, 3),
    "p_conv.bias": (10,),
    "p_n": (1, 10, 1, 1),
}


def drawn(module, x_shape, seed=0, spread=2.0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        module.p_conv.weight.normal_(generator=generator).mul_(spread / (9 * x_shape[1]) ** 0.5)
        module.conv[1].running_mean.normal_(generator=generator)
        module.conv[1].running_var.uniform_(0.5, 1.5, generator=generator)
    return module, torch.randn(x_shape, generator=generator, dtype=module.p_conv.weight.dtype)


def by_loops(x, offset, weight, P, stride):
    """The published arithmetic, one number at a time: both corners of a clamped cell count in full."""
    N, _, H, W = x.shape
    _, _, height, width = offset.shape
    out = torch.zeros(N, weight.shape[0], height, width, dtype=x.dtype)
    wide = round(math.sqrt(P))
    for n, v, u, p in ((n, v, u, p) for n in range(N) for v in range(height) for u in range(width) for p in range(P)):
        at = (
            v * stride + p // wide + offset[n, p, v, u].item(),
            u * stride + p % wide + offset[n, P + p, v, u].item(),
        )
        corners = []
        for place, size in zip(at, (H, W), strict=True):
            low, held = math.floor(place), min(max(place, 0.0), size - 1.0)
            first, last = min(max(low, 0), size - 1), min(max(low + 1, 0), size - 1)
            corners.append(((first, 1 + (first - held)), (last, 1 - (last - held))))
        for row, a in corners[0]:
            for column, b in corners[1]:
                out[n, :, v, u] += a * b * (weight[:, :, p] @ x[n, :, row, column])
    return out


@pytest.mark.parametrize(("P", "stride", "H", "W"), [(5, 1, 5, 4), (4, 2, 5, 6), (1, 3, 4, 7), (9, 1, 1, 3)])
def test_definition_and_modules_equal_the_published_arithmetic_by_loops(P, stride, H, W):
    module, x = drawn(LDConv(3, 2, P, stride, implementation="gather").double().eval(), (2, 3, H, W))
    offset = module.p_conv(x)
    convolved = by_loops(x, offset, module.conv[0].weight.squeeze(3), P, stride)
    expected = module.conv[2](module.conv[1](convolved))
    assert expected.shape == (2, 2, -(-H // stride), -(-W // stride))
    tensors = {"x": x, **{name: value for name, value in module.state_dict().items() if name != "p_n"}}
    found = ldconv_definition(tensors, False, num_param=P, stride=stride)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    for name in OWN:
        module.implementation = name
        torch.testing.assert_close(module(x), expected, rtol=0, atol=1e-12, msg=name)


def places(shape, seed, size):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64) * (size + 4) - 2


@CORE
@pytest.mark.parametrize("twice", [False, True])
def test_cores_agree_with_the_definition_in_value_and_gradients(name, twice):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 5, 6, 4, generator=generator, dtype=torch.float64)
    weight = torch.randn(3, 5, 7, generator=generator, dtype=torch.float64)
    rows, columns = places((2, 7, 3, 5), 1, 6), places((2, 7, 3, 5), 2, 4)
    leaves = [value.requires_grad_() for value in (x, rows, columns, weight)]
    expected = clamped_definition(*leaves, twice=twice)
    grad = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    out = CORES[name].function(*leaves, twice=twice)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    wanted = torch.autograd.grad(expected, leaves, grad)
    for a, b in zip(torch.autograd.grad(out, leaves, grad), wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


def test_the_published_steps_have_the_definitions_gradients_and_count_twice_alone():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 5, 6, 4, generator=generator, dtype=torch.float64)
    weight = torch.randn(3, 5, 7, generator=generator, dtype=torch.float64)
    leaves = [value.requires_grad_() for value in (x, places((2, 7, 3, 5), 1, 6), places((2, 7, 3, 5), 2, 4), weight)]
    expected = clamped_definition(*leaves, twice=True)
    out = LDCONV["published"].function(*leaves)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    grad = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    wanted = torch.autograd.grad(expected, leaves, grad)
    for a, b in zip(torch.autograd.grad(out, leaves, grad), wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)
    with pytest.raises(ValueError, match="count a clamped sample twice"):
        LDCONV["published"].function(*leaves, twice=False)


@CORE
def test_places_that_are_no_numbers_read_nothing_beyond_the_image(name):
    x = torch.ones(1, 2, 3, 3)
    for bad in (torch.nan, torch.inf, -torch.inf, 1e30):
        rows = torch.full((1, 4, 2, 2), bad)
        out = CORES[name].function(x, rows, rows, torch.ones(3, 2, 4))
        assert out.shape == (1, 3, 2, 2)
        assert torch.isin(out, torch.tensor([0.0, 8.0])).all()


def test_the_first_shape_is_a_grid_from_the_pixel_on_whose_last_row_may_be_short():
    assert initial_shape(9) == [(row, column) for row in range(3) for column in range(3)]
    assert initial_shape(6) == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    assert LDConv(1, 1, 5).p_n.flatten().tolist() == [0, 0, 1, 1, 2, 0, 1, 0, 1, 0]


def test_state_dict_has_the_published_names_and_shapes_and_both_layouts_load():
    module = LDConv(16, 24, 5, 2)
    assert {name: tuple(value.shape) for name, value in module.state_dict().items()} == PUBLISHED
    assert "conv.0.bias" in LDConv(16, 24, 5, 2, True).state_dict()
    earlier = {name: value for name, value in AKConv(16, 24, 5, 2).state_dict().items() if name != "p_n"}
    nn.Sequential(module).load_state_dict({f"0.{name}": value for name, value in earlier.items()})
    other = {**module.state_dict(), "p_n": module.p_n.flip(1)}
    module.load_state_dict(other)
    assert module.p_n.flatten().tolist() == other["p_n"].flatten().tolist()


def test_a_fresh_modules_offsets_are_constant_and_not_zero():
    torch.manual_seed(0)
    module = LDConv(8, 8, 9)
    offset = module.p_conv(torch.randn(1, 8, 5, 4))
    assert torch.equal(offset, module.p_conv.bias.view(1, -1, 1, 1).expand_as(offset))
    assert module.p_conv.bias.abs().min() > 0


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: LDConv(4, 4, 0), "num_param: expected at least 1, got 0"),
        (lambda: LDConv(4, 4, 5, 0), "stride: expected at least 1, got 0"),
        (lambda: LDConv(0, 4, 5), "inc: expected at least 1, got 0"),
        (lambda: LDConv(4, 4, 5)(torch.zeros(1, 3, 5, 5)), r"expected x of shape \(N, 4, H, W\), got \(1, 3, 5, 5\)"),
        (lambda: LDConv(4, 4, 5)(torch.zeros(4, 5, 5)), r"expected x of shape \(N, 4, H, W\), got \(4, 5, 5\)"),
        (lambda: LDConv(4, 4, 5, implementation="gahter")(torch.zeros(1, 4, 5, 5)), "did you mean 'gather'"),
    ],
)
def test_wrong_settings_and_inputs_are_refused_in_a_sentence(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_a_kernel_of_two_numbers_is_refused():
    with pytest.raises(TypeError, match="num_param: expected one int"):
        LDConv(4, 4, (3, 3))


@pytest.mark.parametrize("stride", [1, 2])
def test_every_parameter_gets_a_gradient_from_one_image_in_training_mode(stride):
    module, x = drawn(LDConv(6, 4, 5, stride), (1, 6, 9, 5))
    module.train()(x).square().sum().backward()
    for name, value in module.named_parameters():
        assert value.grad is not None, name
        assert value.grad.abs().sum() > 0, name


@pytest.mark.filterwarnings("ignore")  # tracing and exporting warn of their own ways
def test_it_survives_what_yolo_packages_do_to_modules():
    module, x = drawn(LDConv(6, 4, 5, 2).eval(), (2, 6, 8, 5))
    expected = module(x)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(twin(x), expected)
    torch.testing.assert_close(torch.jit.trace(module, x)(x), expected)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(module(x).float(), expected, rtol=0.1, atol=0.3)
    for dtype in (torch.float16, torch.bfloat16):
        half = copy.deepcopy(module).to(dtype)
        assert half.p_n.dtype == torch.int64
        assert half(x.to(dtype)).dtype == dtype
    exported = torch.export.export(module, (x,))
    torch.testing.assert_close(exported.module()(x), expected)


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["gather", "grid-sample"])
def test_it_is_exported_to_onnx_and_computes_the_same_there(name):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    module, x = drawn(LDConv(6, 4, 5, 2, implementation=name).eval(), (2, 6, 8, 5))
    file = io.BytesIO()
    torch.onnx.export(module, (x,), file, opset_version=17, dynamo=False, input_names=["x"])
    (out,) = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"]).run(None, {"x": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(out), module(x), rtol=1e-4, atol=1e-4)


def test_the_declared_operator_takes_its_samples_as_a_setting():
    operator = registry.operator("conv3x3", "ldconv")
    dims = operator.given({"N": 1, "C": 8, "H": 6, "W": 5, "G": 1})
    assert dims["num_param"] == 9
    assert operator.requires({**dims, "num_param": 0}) == "num_param: expected at least 1, got 0"
    module = operator.module(dims, operator.implementations["gather"])
    assert isinstance(module, LDConv)
    assert sum(value.numel() for value in module.parameters()) == operator.cost(dims).params
    assert operator.layer(module, (1, 8, 6, 5), (1, 8, 6, 5)) == (operator.cost(dims).params, operator.cost(dims).macs)
