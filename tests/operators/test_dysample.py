"""DySample: its definition by loops, its cores, published parameters and initial values, what YOLO does to modules."""

import copy
import doctest
import io
import itertools
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sampling_cases import FEW

from opbench import registry
from opbench.operators.dysample import CORES, DySample, dysample, function
from opbench.operators.dysample.definition import module as defined
from opbench.operators.dysample.definition import sampling

HERE = [name for name, core in CORES.items() if "cpu" in core.devices and core.missing() is None]
EAGER = [name for name in HERE if name != "cpu"]  # that one has tests of its own (tests/kernels)
CORE = pytest.mark.parametrize("name", HERE)


def by_loops(x, offset, scale, groups):
    N, C, H, W = x.shape
    half = offset.shape[1] // 2
    images, moves, out = x.tolist(), offset.tolist(), []
    for n, c, Y, X in itertools.product(range(N), range(C), range(scale * H), range(scale * W)):
        (h, a), (w, b) = divmod(Y, scale), divmod(X, scale)
        channel = (c // (C // groups) * scale + a) * scale + b
        column = min(max(w + moves[n][channel][h][w], 0), W - 1)
        row = min(max(h + moves[n][half + channel][h][w], 0), H - 1)
        top, left = math.floor(row), math.floor(column)
        lower, right = min(top + 1, H - 1), min(left + 1, W - 1)
        p, q = row - top, column - left
        upper, under = images[n][c][top], images[n][c][lower]
        out.append(
            (1 - p) * ((1 - q) * upper[left] + q * upper[right]) + p * ((1 - q) * under[left] + q * under[right])
        )
    return torch.tensor(out, dtype=x.dtype).view(N, C, scale * H, scale * W)


def drawn(N=2, C=4, H=5, W=4, scale=2, groups=2, spread=1.5, seed=0, dtype=torch.float64):
    """Locations keep 2e-3 pixels away from whole ones."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(N, C, H, W, generator=generator, dtype=torch.float64)
    offset = spread * torch.randn(N, 2 * groups * scale**2, H, W, generator=generator, dtype=torch.float64)
    offset = offset.floor() + (offset - offset.floor()).clamp(2e-3, 1 - 2e-3)
    return x.to(dtype), offset.to(torch.promote_types(dtype, torch.float32)), {"scale": scale, "groups": groups}


def answered(core, x, offset, options, grad):
    leaves = [value.detach().clone().requires_grad_() for value in (x, offset)]
    out = core(*leaves, **options)
    return out.detach(), *torch.autograd.grad(out, leaves, grad)


calls = st.builds(
    dict,
    N=st.integers(1, 2),
    C=st.sampled_from((4, 8, 36)),
    H=st.integers(1, 5),
    W=st.integers(1, 19),
    scale=st.integers(1, 3),
    groups=st.sampled_from((1, 2, 4)),
    spread=st.sampled_from((0.0, 0.5, 2.0, 50.0)),
    seed=st.integers(0, 999),
)


@FEW
@given(call=calls)
def test_definition_and_cores_equal_the_loops_and_agree_on_gradients(call):
    x, offset, options = drawn(**call)
    expected = by_loops(x, offset, **options)
    grad = torch.randn(expected.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    want = answered(sampling, x, offset, options, grad)
    torch.testing.assert_close(want[0], expected, rtol=1e-11, atol=1e-11)
    for name in EAGER:
        for memory_format in (torch.contiguous_format, torch.channels_last):
            laid = x.contiguous(memory_format=memory_format)
            for a, b in zip(answered(CORES[name].function, laid, offset, options, grad), want, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")


@CORE
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_locations_are_float32_whatever_the_dtype(name, dtype):
    """At column 300 a bfloat16 can't tell two pixels apart."""
    x, offset, options = drawn(N=1, H=2, W=300, dtype=dtype)
    out = CORES[name].function(x, offset, **options)
    assert out.dtype == dtype
    expected = sampling(x.double(), offset.double(), **options)
    slope = 300 * 20 * torch.finfo(torch.float32).eps
    torch.testing.assert_close(out.double(), expected, rtol=torch.finfo(dtype).eps, atol=slope)


@CORE
@pytest.mark.parametrize("bad", [torch.inf, -torch.inf, 1e30])
def test_what_lies_infinitely_far_is_the_border(name, bad):
    x, offset, options = drawn()
    out = CORES[name].function(x, torch.full_like(offset, bad), **options)
    corner = x[..., -1:, -1:] if bad > 0 else x[..., :1, :1]
    torch.testing.assert_close(out, corner.expand_as(out), rtol=0, atol=0)


# State dicts of tiny-smart/dysample, dysample.py: commit efcf8ae; in 4d25e29 `scope` has a bias, too. 64 channels, x2.
PUBLISHED = {
    ("lp", False): {"offset.weight": (32, 64, 1, 1), "offset.bias": (32,), "init_pos": (1, 32, 1, 1)},
    ("lp", True): {
        "offset.weight": (32, 64, 1, 1), "offset.bias": (32,), "scope.weight": (32, 64, 1, 1),
        "init_pos": (1, 32, 1, 1),
    },
    ("pl", False): {"offset.weight": (8, 16, 1, 1), "offset.bias": (8,), "init_pos": (1, 32, 1, 1)},
    ("pl", True): {
        "offset.weight": (8, 16, 1, 1), "offset.bias": (8,), "scope.weight": (8, 16, 1, 1), "init_pos": (1, 32, 1, 1),
    },
}  # fmt: skip


@pytest.mark.parametrize(("style", "dyscope"), PUBLISHED)
def test_the_published_parameters_load_in_both_layouts(style, dyscope):
    keys = PUBLISHED[style, dyscope]
    module = DySample(64, style=style, dyscope=dyscope)
    assert {name: tuple(value.shape) for name, value in module.state_dict().items()} == keys
    state = {name: torch.randn(shape) for name, shape in keys.items()}
    x = torch.randn(1, 64, 3, 4)
    module.load_state_dict(state)
    tensors = {"x": x, **state}
    torch.testing.assert_close(module(x), defined(tensors, scale=2, style=style, groups=4), rtol=1e-4, atol=1e-4)
    if dyscope:
        biased = {**state, "scope.bias": torch.randn(keys["offset.bias"])}
        network = torch.nn.Sequential(module)
        network.load_state_dict({f"0.{name}": value for name, value in biased.items()})
        assert "scope.bias" in dict(module.named_parameters())
        expected = defined({"x": x, **biased}, scale=2, style=style, groups=4)
        torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-4)
        module.load_state_dict(state)
        assert "scope.bias" not in module.state_dict()
    with pytest.raises(RuntimeError, match="Missing key"):
        module.load_state_dict({})


def test_starts_are_the_published_ones():
    """(x or y, group, row, column): commit efcf8ae, `_init_pos` at scale 2, 4 groups."""
    x, y = DySample(16).init_pos.view(2, 4, 2, 2)
    assert x[0].tolist() == [[-0.25, 0.25], [-0.25, 0.25]]
    assert y[3].tolist() == [[-0.25, -0.25], [0.25, 0.25]]


@pytest.mark.parametrize("dyscope", [False, True])
@pytest.mark.parametrize("style", ["lp", "pl"])
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_a_fresh_module_is_nearly_bilinear(style, dyscope, scale):
    x = torch.randn(2, 36, 4, 5)
    module = DySample(36, scale, style, dyscope=dyscope)
    expected = F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
    torch.testing.assert_close(module(x), expected, rtol=0, atol=0.05)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((30,), "channels divisible by groups, got 30 channels and groups=4"),
        ((12, 3, "pl"), r"divisible by 9, got 12; use a multiple, or style 'lp'"),
        ((16, 2, "lq"), r"unknown style 'lq' \(known: lp, pl\)"),
        ((16, 0), "expected scale to be an integer of at least 1, got 0"),
        ((16, 2.0), "expected scale to be an integer of at least 1, got 2.0"),
        ((16, 2, "lp", 0), "expected groups to be an integer of at least 1, got 0"),
        ((0,), "expected in_channels to be an integer of at least 1, got 0"),
    ],
)
def test_settings_that_can_not_work_are_said(arguments, said):
    with pytest.raises(ValueError, match=said):
        DySample(*arguments)


def test_inputs_that_can_not_work_are_said():
    with pytest.raises(ValueError, match=r"expected x of shape \(N, 16, H, W\), got \(1, 8, 3, 3\)"):
        DySample(16)(torch.zeros(1, 8, 3, 3))
    with pytest.raises(ValueError, match="implementation"):
        DySample(16, implementation="grid_samples")


@pytest.mark.parametrize("style", ["lp", "pl"])
def test_it_lives_as_yolo_treats_modules(style):
    """Built in training mode at batch 1, rectangular, copied, pickled whole, run in half and under autocast."""
    module = DySample(16, style=style, dyscope=True).train()
    x = torch.randn(1, 16, 3, 7)
    out = module(x)
    assert out.shape == (1, 16, 6, 14)
    out.sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    torch.testing.assert_close(copy.deepcopy(module)(x), out)
    torch.testing.assert_close(pickle.loads(pickle.dumps(module))(x), out)
    module.eval()
    for dtype in (torch.bfloat16, torch.float16):
        close = {"rtol": 0, "atol": 0.05}
        torch.testing.assert_close(copy.deepcopy(module).to(dtype)(x.to(dtype)).float(), out, **close)
        with torch.autocast("cpu", dtype):
            assert module(x).dtype == torch.float32
            inner = module(x.to(dtype))
        assert inner.dtype == dtype
        torch.testing.assert_close(inner.float(), out, **close)


@pytest.mark.filterwarnings("ignore")  # while it is traced, sizes are tensors
@pytest.mark.parametrize("style", ["lp", "pl"])
def test_it_is_traced_and_exported(style):
    module = DySample(16, style=style, implementation="grid-sample").eval()
    x = torch.randn(1, 16, 4, 6)
    torch.testing.assert_close(torch.jit.trace(module, x)(x), module(x))
    torch.testing.assert_close(torch.export.export(module, (x,)).module()(x), module(x))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("style", ["lp", "pl"])
def test_it_is_exported_to_onnx_and_runs_there(style):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    module = DySample(16, style=style, dyscope=True, implementation="grid-sample").eval()
    x = torch.randn(1, 16, 4, 6)
    file = io.BytesIO()
    torch.onnx.export(module, (x,), file, opset_version=17, dynamo=False)
    (got,) = runtime.InferenceSession(file.getvalue()).run(None, {_first(file): x.numpy()})
    torch.testing.assert_close(torch.from_numpy(got), module(x), rtol=1e-4, atol=1e-4)


def _first(file):
    import onnx

    return onnx.load_from_string(file.getvalue()).graph.input[0].name


def test_its_layer_is_counted_at_any_arguments():
    operator = registry.operator("upsample2x", "dysample")
    for module in (DySample(36, 3, "pl", 4, True), DySample(16, 2, "lp", 8), DySample(16, dyscope=True)):
        params, macs = operator.layer(module, (2, module.in_channels, 4, 5), ())
        assert params == sum(parameter.numel() for parameter in module.parameters())
        per_pixel = 4 * module.scale**2 * module.in_channels
        per_pixel += sum(
            layer.weight.numel() * (module.scale**2 if module.style == "pl" else 1)
            for layer in (module.offset, module.scope)
            if layer is not None
        )
        assert macs == 2 * 4 * 5 * per_pixel


def test_offsets_spread_as_asked():
    operator = registry.operator("upsample2x", "dysample")
    for settings in ({}, {"dyscope": True}, {"style": "pl"}):
        dims = operator.given({"N": 1, "C": 16, "H": 9, "W": 8, **settings})
        module = operator.module(dims, CORES["grid-sample"])
        x = torch.randn(1, 16, 9, 8)
        operator.prepare(module, dims, 2.0, torch.Generator().manual_seed(0), x)
        assert math.isclose(module.moves(x).square().mean().sqrt().item(), 2.0, rel_tol=1e-3)
        assert operator.learnt(module, (x, module.moves(x) + module.init_pos))["offset spread"] == pytest.approx(
            2.0, 1e-3
        )


@pytest.mark.parametrize("layout", PUBLISHED)
def test_it_is_shown_from_the_published_parameters(layout, tmp_path):
    from opbench.drawings import Shot
    from opbench.report.show.picture import picture

    style, dyscope = layout
    state = DySample(64, style=style, dyscope=dyscope).state_dict()
    state |= {"scope.bias": torch.zeros(len(state["offset.bias"]))} if dyscope else {}
    torch.save(state, tmp_path / "published.pt")
    text = picture("dysample", Shot(weights=tmp_path / "published.pt", at=("3,4",)))
    # One input pixel: four starts, and as many samples of each of four groups.
    assert text.count('width="4" height="4"') == 4
    assert text.count("<circle") == 4 + 16


def test_the_example_of_the_function_runs():
    results = doctest.testmod(function)
    assert results.attempted
    assert not results.failed


@CORE
def test_the_function_is_the_definition_in_every_implementation(name):
    torch.manual_seed(0)
    x, offset = torch.randn(2, 6, 5, 7), torch.randn(2, 2 * 3 * 4, 5, 7)
    expected = sampling(x.double(), offset.double(), scale=2, groups=3)
    out = dysample(x, offset, scale=2, groups=3, implementation=name)
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)
    narrow = dysample(x.bfloat16(), offset.bfloat16(), scale=2, groups=3, implementation=name)
    assert narrow.dtype == torch.bfloat16


def test_the_function_says_what_does_not_fit():
    x = torch.zeros(1, 4, 2, 2)
    with pytest.raises(ValueError, match=r"offset is \(1, 8, 2, 2\); expected \(1, 16, 2, 2\) for x \(1, 4, 2, 2\)"):
        dysample(x, torch.zeros(1, 8, 2, 2), scale=2, groups=2)
    with pytest.raises(ValueError, match="C divisible by groups 3"):
        dysample(x, torch.zeros(1, 24, 2, 2), scale=2, groups=3)
    with pytest.raises(TypeError, match=r"dysample: expected offset to be a torch.Tensor, got int"):
        dysample(x, 0, scale=2, groups=1)
    with pytest.raises(ValueError, match="did you mean 'grid-sample'"):
        dysample(x, torch.zeros(1, 8, 2, 2), scale=2, groups=1, implementation="grid-samples")
