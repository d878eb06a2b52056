"""Dynamic snake convolution: its swings, its definition by loops, the published keys, what networks do to a module."""

import copy
import io
import math
import pickle

import pytest
import torch

from opbench import registry
from opbench.operators.common.clamped.cores import CORES
from opbench.operators.snake import DSConv, DySnakeConv, branch_definition, snake_definition, swung

HERE = [name for name, core in CORES.items() if core.missing() is None]
# YaoleiQi/DSCNet, S3_DSConv_pro.py at d453499: DSConv_pro(16, 24, 5, morph=0), as its constructor makes them.
PUBLISHED = {
    "offset_conv.weight": (10, 16, 3, 3),
    "offset_conv.bias": (10,),
    "gn_offset.weight": (10,),
    "gn_offset.bias": (10,),
    "dsc_conv_x.weight": (24, 16, 5, 1),
    "dsc_conv_x.bias": (24,),
    "dsc_conv_y.weight": (24, 16, 1, 5),
    "dsc_conv_y.bias": (24,),
    "gn.weight": (24,),
    "gn.bias": (24,),
}


def drawn(module, x_shape, seed=0):
    """Swings of most of a pixel, either way."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.named_parameters():
            if "gn_offset.weight" in name:
                value.fill_(2.0)
            elif value.ndim == 1:
                value.normal_(generator=generator)
    dtype = next(module.parameters()).dtype
    return module, torch.randn(x_shape, generator=generator, dtype=dtype)


def sample(image, y, x):
    H, W = image.shape
    y, x = min(max(y, 0.0), H - 1.0), min(max(x, 0.0), W - 1.0)
    top, left = math.floor(y), math.floor(x)
    total = 0.0
    for row, a in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, b in ((left, 1 - (x - left)), (left + 1, x - left)):
            if a * b:
                total += a * b * image[row, column].item()
    return total


def by_loops(x, offset, weight, morph):
    """offset (N, k, H, W), weight (O, C, k): each sample lies off its neighbour nearer the middle."""
    N, C, H, W = x.shape
    outputs, _, k = weight.shape
    out = torch.zeros(N, outputs, H, W, dtype=x.dtype)
    for n, v, u, p in ((n, v, u, p) for n in range(N) for v in range(H) for u in range(W) for p in range(k)):
        middle = k // 2
        between = range(middle + 1, p + 1) if p > middle else range(p, middle)
        swing = sum(offset[n, index, v, u].item() for index in between)
        y, at = (v + swing, u + p - middle) if morph == 0 else (v + p - middle, u + swing)
        for c in range(C):
            out[n, :, v, u] += weight[:, c, p] * sample(x[n, c], y, at)
    return out


@pytest.mark.parametrize("morph", [0, 1])
@pytest.mark.parametrize(("k", "H", "W"), [(3, 4, 3), (5, 3, 6), (3, 1, 4)])
def test_definition_and_modules_equal_the_formula_by_loops(k, H, W, morph):
    module, x = drawn(DSConv(2, 4, k, morph=morph).double(), (2, 2, H, W))
    with torch.no_grad():
        offset = torch.tanh(module.gn_offset(module.offset_conv(x)))
        convolution = module.dsc_conv_x if morph == 0 else module.dsc_conv_y
        own = offset[:, :k] if morph == 0 else offset[:, k:]
        sums = by_loops(x, own, convolution.weight.flatten(2), morph) + convolution.bias.view(-1, 1, 1)
        expected = torch.relu(module.gn(sums))
        found = branch_definition(module.state_dict(), x, morph=morph, kernel_size=k)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
        for name in HERE:
            module.implementation = name
            torch.testing.assert_close(module(x), expected, rtol=0, atol=1e-12, msg=name)


def test_swings_add_up_from_the_middle_to_either_end():
    offset = torch.tensor([0.5, 0.25, 9.0, 0.125, 1.0]).view(1, 5, 1, 1)
    assert swung(offset).flatten().tolist() == [0.75, 0.25, 0.0, 0.125, 1.125]
    rows, columns = DSConv(1, 4, 5).places(torch.cat((offset, offset * 0), 1))
    assert rows.flatten().tolist() == [0.75, 0.25, 0.0, 0.125, 1.125]
    assert columns.flatten().tolist() == [-2, -1, 0, 1, 2]


def test_a_snake_never_comes_apart():
    module, _ = drawn(DSConv(4, 4, 9), (1, 4, 7, 8))
    for morph in (0, 1):
        module.morph = morph
        sideways = module.places(torch.tanh(9 * torch.randn(1, 18, 7, 8)))[morph]
        assert sideways.diff(dim=1).abs().max() <= 1 + 1e-6


def test_without_offsets_a_snake_is_a_straight_convolution_inside_the_image():
    module, x = drawn(DSConv(3, 4, 5, if_offset=False).double(), (2, 3, 4, 9))
    straight = torch.nn.functional.conv2d(
        torch.nn.functional.pad(x, (2, 2, 0, 0), mode="replicate"),
        module.dsc_conv_x.weight.transpose(2, 3),
        module.dsc_conv_x.bias,
    )
    torch.testing.assert_close(module(x), torch.relu(module.gn(straight)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("morph", [0, 1])
def test_published_weights_load_without_the_direction_that_is_never_called(morph):
    module = DSConv(16, 24, 5, morph=morph)
    unused = f"dsc_conv_{'yx'[morph]}."
    held = {name: shape for name, shape in PUBLISHED.items() if not name.startswith(unused)}
    assert {name: tuple(value.shape) for name, value in module.state_dict().items()} == held
    published = {name: torch.randn(shape) for name, shape in PUBLISHED.items()}
    torch.nn.ModuleDict({"snake": module}).load_state_dict({f"snake.{name}": v for name, v in published.items()})
    assert torch.equal(module.offset_conv.weight, published["offset_conv.weight"])
    assert len(published) == len(PUBLISHED)


def test_the_blocks_keys_have_the_prefixes_that_forks_give_them():
    names = {name.rsplit(".", 1)[0] for name in DySnakeConv(8, 8).state_dict()}
    parts = ("offset_conv", "gn_offset", "gn")
    assert names == {
        "conv_0.conv", "conv_0.bn", "conv_1x1.conv", "conv_1x1.bn", "conv_x.dsc_conv_x", "conv_y.dsc_conv_y",
        *(f"conv_{axis}.{part}" for axis in "xy" for part in parts),
    }  # fmt: skip
    apart = DySnakeConv(8, 8, fuse=False)
    assert not any(name.startswith("conv_1x1") for name in apart.state_dict())
    assert apart(torch.randn(2, 8, 5, 4)).shape == (2, 24, 5, 4)


@pytest.mark.parametrize("k", [3, 5, 9])
def test_every_parameter_gets_a_gradient_for_every_k_from_one_image_in_training_mode(k):
    module, x = drawn(DySnakeConv(6, 8, k), (1, 6, 9, 5))
    module.train()(x).square().sum().backward()
    for name, value in module.named_parameters():
        assert value.grad is not None, name
        assert value.grad.abs().sum() > 0, name


def test_each_image_samples_itself():
    module, x = drawn(DySnakeConv(4, 4).eval(), (3, 4, 6, 5))
    together = module(x)
    for image in range(3):
        torch.testing.assert_close(module(x[image : image + 1])[0], together[image], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: DySnakeConv(4, 4, 4), "k: expected an odd number of at least 3, got 4: a snake has a middle"),
        (lambda: DySnakeConv(4, 4, 1), "k: expected an odd number of at least 3, got 1"),
        (lambda: DySnakeConv(4, 9), "ouc: expected a multiple of 4, the width of a group of its norm, got 9"),
        (lambda: DSConv(4, 2), "out_channels: expected a multiple of 4"),
        (lambda: DSConv(4, 4, 6), "kernel_size: expected an odd number"),
        (lambda: DSConv(4, 4, morph=2), r"morph: expected 0 \(along x\) or 1 \(along y\), got 2"),
        (lambda: DySnakeConv(4, 4)(torch.zeros(1, 3, 5, 5)), r"expected x of shape \(N, 4, H, W\), got \(1, 3, 5, 5\)"),
        (lambda: DSConv(4, 4)(torch.zeros(4, 5, 5)), r"expected x of shape \(N, 4, H, W\), got \(4, 5, 5\)"),
    ],
)
def test_wrong_settings_and_inputs_are_refused_in_a_sentence(make, said):
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.filterwarnings("ignore")  # tracing and exporting warn of their own ways
def test_it_survives_what_yolo_packages_do_to_modules():
    module, x = drawn(DySnakeConv(6, 4).eval(), (2, 6, 8, 5))
    expected = module(x)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(twin(x), expected)
    torch.testing.assert_close(torch.jit.trace(module, x)(x), expected)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(module(x).float(), expected, rtol=0.1, atol=0.3)
    for dtype in (torch.float16, torch.bfloat16):
        assert copy.deepcopy(module).to(dtype)(x.to(dtype)).dtype == dtype
    torch.testing.assert_close(torch.export.export(module, (x,)).module()(x), expected)


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["gather", "grid-sample"])
def test_it_is_exported_to_onnx_and_computes_the_same_there(name):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    module, x = drawn(DySnakeConv(6, 4, implementation=name).eval(), (2, 6, 8, 5))
    file = io.BytesIO()
    torch.onnx.export(module, (x,), file, opset_version=17, dynamo=False, input_names=["x"])
    (out,) = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"]).run(None, {"x": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(out), module(x), rtol=1e-4, atol=1e-4)


def test_the_declared_operator_agrees_with_its_module_and_says_what_it_needs():
    operator = registry.operator("conv3x3", "snake")
    dims = operator.given({"N": 1, "C": 8, "H": 6, "W": 5, "G": 1})
    assert dims["k"] == 3
    assert operator.requires({**dims, "C": 9}) == (
        "C: expected a multiple of 4, the width of a group of its norm, got 9"
    )
    module = operator.module(dims, operator.implementations["gather"])
    assert module.implementation is CORES["gather"].function
    assert sum(value.numel() for value in module.parameters()) == operator.cost(dims).params
    assert operator.layer(module, (1, 8, 6, 5), (1, 8, 6, 5)) == (operator.cost(dims).params, operator.cost(dims).macs)
    apart = DySnakeConv(6, 8, 5, fuse=False)
    held = sum(value.numel() for value in apart.parameters())
    assert operator.layer(apart, (1, 6, 4, 4), (1, 24, 4, 4))[0] == held
    x = torch.randn(1, 8, 6, 5)
    tensors = {"x": x, **{name: value for name, value in module.state_dict().items() if value.is_floating_point()}}
    torch.testing.assert_close(module.eval()(x), snake_definition(tensors, False, kernel_size=3), rtol=1e-4, atol=1e-5)
