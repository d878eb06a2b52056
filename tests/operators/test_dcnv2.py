"""DCNv2: its definition by loops, its cores, its relation to convolution and to DCNv3, its module."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from sampling_cases import FEW

from opbench.build import build
from opbench.measure.macs import CORRECTED, by_torch
from opbench.measure.traffic import Traffic
from opbench.operators.dcnv2 import CORES, DCNv2, dcnv2_definition
from opbench.operators.dcnv3.definition import dcnv3_definition
from opbench.schema import Case

EAGER = ("gather", "grid-sample", "cpu")
CORE = pytest.mark.parametrize("name", EAGER)
HERE = [name for name in (*EAGER, "torchvision") if CORES[name].missing() is None]


def by_loops(x, offset, mask, weight, *, stride, pad, dilation, group):
    N, C, H, W = x.shape
    outputs, _, k, _ = weight.shape
    _, _, out_height, out_width = offset.shape
    out = torch.zeros(N, outputs, out_height, out_width, dtype=x.dtype)

    def pixel(n, c, row, column):
        return x[n, c, row, column].item() if 0 <= row < H and 0 <= column < W else 0.0

    for n, v, u, c, i, j in (
        (n, v, u, c, i, j)
        for n in range(N) for v in range(out_height) for u in range(out_width)
        for c in range(C) for i in range(k) for j in range(k)
    ):  # fmt: skip
        point = (c // (C // group)) * k * k + i * k + j
        y = v * stride - pad + i * dilation + offset[n, 2 * point, v, u].item()
        at = u * stride - pad + j * dilation + offset[n, 2 * point + 1, v, u].item()
        row, column = math.floor(y), math.floor(at)
        b, a = y - row, at - column
        value = (1 - b) * ((1 - a) * pixel(n, c, row, column) + a * pixel(n, c, row, column + 1))
        value += b * ((1 - a) * pixel(n, c, row + 1, column) + a * pixel(n, c, row + 1, column + 1))
        out[n, :, v, u] += weight[:, c, i, j] * mask[n, point, v, u] * value
    return out


def drawn(N=2, H=5, W=6, depth=2, outputs=3, k=3, stride=1, pad=1, dilation=1, group=2, spread=1.5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    height, width = ((size + 2 * pad - dilation * (k - 1) - 1) // stride + 1 for size in (H, W))

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    offset = normal(N, 2 * group * k * k, max(height, 0), max(width, 0)) * spread
    offset = offset.floor() + (offset - offset.floor()).clamp(2e-3, 1 - 2e-3)
    mask = torch.sigmoid(normal(N, group * k * k, max(height, 0), max(width, 0)))
    tensors = normal(N, depth * group, H, W), offset, mask, normal(outputs, depth * group, k, k)
    return tensors, {"stride": stride, "pad": pad, "dilation": dilation, "group": group}


calls = st.builds(
    dict,
    N=st.integers(1, 2),
    H=st.integers(1, 5),
    W=st.integers(1, 5),
    depth=st.integers(1, 2),
    outputs=st.integers(1, 3),
    k=st.integers(1, 3),
    stride=st.integers(1, 2),
    pad=st.integers(0, 2),
    dilation=st.integers(1, 2),
    group=st.integers(1, 2),
    spread=st.sampled_from((0.5, 2.0, 50.0)),
    seed=st.integers(0, 999),
)


def gradients(core, tensors, settings, grad):
    leaves = [value.detach().clone().requires_grad_() for value in tensors]
    out = core(*leaves, **settings)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]


@FEW
@given(call=calls)
def test_definition_and_cores_equal_the_loops_and_agree_on_gradients(call):
    tensors, settings = drawn(**call)
    assume(tensors[1].numel())
    expected = by_loops(*tensors, **settings)
    grad = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    want = gradients(dcnv2_definition, tensors, settings, grad)
    torch.testing.assert_close(want[0], expected, rtol=1e-11, atol=1e-11)
    for name in HERE:
        got = gradients(CORES[name].function, tensors, settings, grad)
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}")


@CORE
def test_zero_offsets_and_full_masks_are_a_convolution(name):
    (x, offset, mask, weight), settings = drawn(group=1, stride=2, dilation=2, pad=2)
    out = CORES[name].function(x, torch.zeros_like(offset), torch.ones_like(mask), weight, **settings)
    torch.testing.assert_close(out, F.conv2d(x, weight, None, 2, 2, 2), rtol=0, atol=1e-11)


def test_dcnv3_is_a_depthwise_dcnv2_of_unit_weights_with_its_points_transposed():
    (x, offset, mask, _), settings = drawn(depth=3)
    N, _, height, width = mask.shape
    identity = torch.zeros(6, 6, 3, 3, dtype=torch.float64)
    identity[range(6), range(6)] = 1
    expected = CORES["gather"].function(x, offset, mask, identity, **settings)
    pairs = offset.view(N, 2, 3, 3, 2, height, width).permute(0, 5, 6, 1, 3, 2, 4).flip(-1).flatten(3)
    masks = mask.view(N, 2, 3, 3, height, width).permute(0, 4, 5, 1, 3, 2).flatten(3)
    out = dcnv3_definition(x.permute(0, 2, 3, 1), pairs, masks, kernel_size=3, **settings)
    torch.testing.assert_close(out.permute(0, 3, 1, 2), expected, rtol=0, atol=1e-12)


@CORE
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 1e300])
def test_a_bad_offset_contributes_nothing(name, bad):
    (x, offset, mask, weight), settings = drawn()
    out = CORES[name].function(x, torch.full_like(offset, bad), mask, weight, **settings)
    assert not out.any()


@CORE
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_lower_precisions_stay_close_and_keep_their_dtype(name, dtype):
    tensors, settings = drawn()
    rounded = [value.to(dtype) for value in tensors]
    out = CORES[name].function(*rounded, **settings)
    assert out.dtype == dtype
    expected = dcnv2_definition(*(value.double() for value in rounded), **settings)
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=40 * torch.finfo(dtype).eps)


@CORE
def test_memory_formats_give_the_same_values(name):
    tensors, settings = drawn()
    expected = CORES[name].function(*tensors, **settings)
    last = [value.to(memory_format=torch.channels_last) for value in tensors]
    torch.testing.assert_close(CORES[name].function(*last, **settings), expected, rtol=0, atol=1e-12)


@CORE
def test_a_fresh_module_is_half_a_convolution(name):
    module = DCNv2(4, 6, stride=2, group=2, implementation=name)
    x = torch.randn(2, 4, 7, 5)
    torch.testing.assert_close(module(x), F.conv2d(x, module.weight, None, 2, 1) / 2, rtol=1e-5, atol=1e-5)
    assert set(module.state_dict()) == {"weight", "conv_offset.weight", "conv_offset.bias"}
    assert module.conv_offset.weight.shape == (3 * 2 * 9, 4, 3, 3)


def test_wrong_channels_are_refused():
    with pytest.raises(ValueError, match="in_channels: expected a multiple of group, got 5 channels, 2 groups"):
        DCNv2(5, 5, group=2)
    with pytest.raises(ValueError, match=r"expected x of shape \(N, 4, H, W\), got \(1, 3, 5, 5\)"):
        DCNv2(4, 4)(torch.zeros(1, 3, 5, 5))


def test_torchvision_says_why_it_is_missing():
    reason = CORES["torchvision"].missing()
    assert reason is None or "torchvision" in reason


@pytest.mark.slow
@pytest.mark.skipif(CORES["compiled"].missing() is not None, reason=str(CORES["compiled"].missing()))
def test_the_compiled_core_equals_the_definition():
    tensors, settings = drawn(stride=2)
    grad = torch.randn(2, 3, 3, 3, dtype=torch.float64)
    want = gradients(dcnv2_definition, tensors, settings, grad)
    for a, b in zip(gradients(CORES["compiled"].function, tensors, settings, grad), want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_the_cpu_core_is_counted_as_the_closed_form_says_and_every_byte_of_its_columns(mode):
    dims = {"N": 1, "C": 8, "H": 6, "W": 5, "G": 2}
    built = build(Case("conv3x3", "w", "dcnv2", "cpu", dims, "float32", "cpu", mode, spread=2.0))
    cost = built.operator.cost(dims)
    seen = by_torch(built, {**CORRECTED, **built.operator.formulas})
    assert seen.macs == cost.macs + (cost.macs_backward if mode == "training" else 0)
    assert not [name for name in seen.unaccounted if "opbench" in name]
    with Traffic(CORES["cpu"].traffic) as traffic:
        built.call_once()
    x, samples = 30 * 8, 30 * 9
    positions, masks, columns = samples * 2 * 2, samples * 2, samples * 8
    forward = 3 * x + positions + masks + columns  # x is made channels-last first
    assert traffic.by_operation["opbench::sampling_cpu"] == 4 * forward
    if mode == "training":
        located = columns + x + 2 * (positions + masks)
        backward = 2 * x + located + columns + positions + masks + 3 * x
        assert traffic.by_operation["opbench::sampling_cpu_backward"] == 4 * backward
