"""CARAFE: the definition is the paper's, every implementation is the definition, the modules are the published ones."""

import copy
import doctest
import math
import shutil

import pytest
import torch
import torch.nn.functional as F
from formulas_by_loops import reassembly_by_loops
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from opbench import registry
from opbench.operators.carafe import CARAFE, IMPLEMENTATIONS, YoloCARAFE, carafe, function
from opbench.operators.carafe import cores as carafe_cores
from opbench.operators.carafe.definition import reassembly
from opbench.operators.common import compiling, definitions
from opbench.operators.common.choice import CoreTable
from opbench.schema import Implementation

EAGER = ("unfold", "shift-add", "cpu")
EPS = {torch.float64: 2.0**-52, torch.float32: 2.0**-23, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}


@st.composite
def calls(draw, largest=6, kernels=(1, 3, 5, 7)):
    """Dimensions of a reassembly; images smaller than the kernel and of one row or column included."""
    g, k = draw(st.integers(1, 3)), draw(st.sampled_from(kernels))
    return {
        "N": draw(st.integers(1, 2)),
        "C": g * draw(st.integers(1, 3)),
        "H": draw(st.integers(1, largest)),
        "W": draw(st.integers(1, largest)),
        "k": k,
        "g": g,
        # The CPU's kernels are compiled for each pair, which takes seconds where both are large.
        "s": draw(st.integers(1, {5: 2, 7: 1}.get(k, 3))),
    }


def core():
    return registry.operator("carafe_core", "carafe")


def settings_of(dims):
    return {"kernel_size": dims["k"], "group_size": dims["g"], "scale_factor": dims["s"]}


def tensors_of(dims, dtype=torch.float64, seed=0):
    drawn = core().inputs(dims, 0.0, torch.Generator().manual_seed(seed))
    return {name: value.to(dtype) for name, value in drawn.items()}


def outside_taps(dims):
    """(1, g*k*k, s*H, s*W) booleans by plain arithmetic: the taps that leave the image."""
    k, s, H, W = dims["k"], dims["s"], dims["H"], dims["W"]
    outside = torch.zeros(dims["g"], k, k, s * H, s * W, dtype=torch.bool)
    for iy in range(k):
        for ix in range(k):
            for Y in range(s * H):
                for X in range(s * W):
                    y, x = Y // s + iy - k // 2, X // s + ix - k // 2
                    outside[:, iy, ix, Y, X] = not (0 <= y < H and 0 <= x < W)
    return outside.view(1, -1, s * H, s * W)


def answers(function, tensors, grad_output, **settings):
    """The output and the gradients of x and mask."""
    leaves = {name: value.detach().clone().requires_grad_() for name, value in tensors.items()}
    output = function(leaves["x"], leaves["mask"], **settings)
    gradients = torch.autograd.grad(output, list(leaves.values()), grad_output.to(output.dtype))
    return {"output": output.detach(), **dict(zip(leaves, gradients, strict=True))}


def assert_within_rounding(name, dims, dtype=torch.float64):
    """Output and gradients of an implementation against the definition on the same (rounded) values."""
    tensors = tensors_of(dims, dtype)
    exact = {key: value.double() for key, value in tensors.items()}
    shape = (dims["N"], dims["C"], dims["s"] * dims["H"], dims["s"] * dims["W"])
    grad_output = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    expected = answers(reassembly, exact, grad_output.double(), **settings_of(dims))
    got = answers(IMPLEMENTATIONS[name].function, tensors, grad_output, **settings_of(dims))
    terms = core().magnitude(dims, exact, grad_output.double())
    for key, value in expected.items():
        assert got[key].dtype == dtype, key
        assert got[key].shape == value.shape, key
        error = (got[key].double() - value).abs()
        # n terms, plus the rounding of the definition's own sum and of the result.
        bound = (terms[key].count + 2) * EPS[dtype] * terms[key].total + torch.finfo(dtype).tiny
        assert (error <= bound).all(), f"{name}, {key}: off by {error.max():.3g} at {dims}"


# --- The definition is the paper's ------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [reassembly, reassembly_by_loops, carafe_cores.unfold, carafe_cores.shift_add])
def test_a_window_worked_out_by_hand(function):
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    mask = torch.arange(9.0).view(1, 9, 1, 1).expand(1, 9, 2, 2)  # tap (iy, ix) weighs 3*iy + ix everywhere
    top_left = 4 * 1 + 5 * 2 + 7 * 3 + 8 * 4
    top_right = 3 * 1 + 4 * 2 + 6 * 3 + 7 * 4
    bottom_left = 1 * 1 + 2 * 2 + 4 * 3 + 5 * 4
    bottom_right = 0 * 1 + 1 * 2 + 3 * 3 + 4 * 4
    out = function(x, mask, kernel_size=3, group_size=1, scale_factor=1)
    assert out.tolist() == [[[[top_left, top_right], [bottom_left, bottom_right]]]]


@pytest.mark.parametrize("function", [reassembly, reassembly_by_loops, carafe_cores.unfold, carafe_cores.shift_add])
def test_children_and_groups_worked_out_by_hand(function):
    x = torch.tensor([5.0, 7.0]).view(1, 2, 1, 1)
    mask = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[10.0, 20.0], [30.0, 40.0]]]])
    out = function(x, mask, kernel_size=1, group_size=2, scale_factor=2)
    assert out.tolist() == [[[[5, 10], [15, 20]], [[70, 140], [210, 280]]]]


@settings(max_examples=15)
@given(calls(largest=3, kernels=(1, 3, 5)))
def test_the_definition_is_the_loops(dims):
    dims = dims | {"N": 1, "C": 2 * dims["g"]}
    tensors = tensors_of(dims)
    expected = reassembly_by_loops(**tensors, **settings_of(dims))
    assert torch.equal(reassembly(**tensors, **settings_of(dims)), expected)


def test_the_definition_is_differentiable():
    dims = {"N": 1, "C": 2, "H": 2, "W": 3, "k": 3, "g": 2, "s": 2}
    leaves = [value.requires_grad_() for value in tensors_of(dims).values()]
    assert torch.autograd.gradcheck(lambda x, mask: reassembly(x, mask, **settings_of(dims)), leaves)


# --- Every implementation is the definition ---------------------------------------------------------------------


@pytest.mark.parametrize("name", EAGER)
@settings(max_examples=40)
@given(dims=calls())
def test_output_and_gradients_are_the_definition_s(name, dims):
    assert_within_rounding(name, dims)


@pytest.mark.parametrize("name", EAGER)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_output_and_gradients_in_narrower_types(name, dtype):
    assert_within_rounding(name, {"N": 2, "C": 8, "H": 6, "W": 5, "k": 5, "g": 2, "s": 2}, dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_shift_add_rounds_a_narrow_result_once(dtype):
    dims = {"N": 1, "C": 4, "H": 6, "W": 5, "k": 7, "g": 1, "s": 2}
    tensors = tensors_of(dims, dtype)
    grad_output = torch.randn(1, 4, 12, 10, generator=torch.Generator().manual_seed(1)).to(dtype)
    wide = {key: value.float() for key, value in tensors.items()}
    expected = answers(carafe_cores.shift_add, wide, grad_output, **settings_of(dims))
    got = answers(carafe_cores.shift_add, tensors, grad_output, **settings_of(dims))
    for key, value in expected.items():
        assert torch.equal(got[key], value.to(dtype)), key


@pytest.mark.parametrize("name", EAGER)
def test_gradcheck(name):
    dims = {"N": 1, "C": 2, "H": 3, "W": 2, "k": 3, "g": 2, "s": 2}
    leaves = [value.requires_grad_() for value in tensors_of(dims).values()]
    function = IMPLEMENTATIONS[name].function
    assert torch.autograd.gradcheck(lambda x, mask: function(x, mask, **settings_of(dims)), leaves)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["definition", *EAGER])
@settings(max_examples=15)
@given(dims=calls())
def test_a_tap_outside_the_image_contributes_nothing(name, poison, dims):
    assert_nothing_leaks(reassembly if name == "definition" else IMPLEMENTATIONS[name].function, dims, poison)


def assert_nothing_leaks(function, dims, poison):
    outside = outside_taps(dims)
    tensors = tensors_of(dims)
    clean = tensors | {"mask": tensors["mask"].masked_fill(outside, 0)}
    poisoned = tensors | {"mask": tensors["mask"].masked_fill(outside, poison)}
    grad_output = torch.ones(dims["N"], dims["C"], dims["s"] * dims["H"], dims["s"] * dims["W"], dtype=torch.float64)
    expected = answers(function, clean, grad_output, **settings_of(dims))
    got = answers(function, poisoned, grad_output, **settings_of(dims))
    for key, value in expected.items():
        assert torch.equal(got[key], value), key
    assert not got["mask"].masked_select(outside).any()


def test_shift_add_gives_the_same_answer_however_it_is_tiled(monkeypatch):
    dims = {"N": 2, "C": 6, "H": 5, "W": 4, "k": 3, "g": 2, "s": 2}
    tensors = tensors_of(dims)
    grad_output = torch.ones(2, 6, 10, 8, dtype=torch.float64)
    whole = answers(carafe_cores.shift_add, tensors, grad_output, **settings_of(dims))
    monkeypatch.setitem(carafe_cores._TILE_BYTES, "cpu", 1)
    tiled = answers(carafe_cores.shift_add, tensors, grad_output, **settings_of(dims))
    assert torch.equal(whole["output"], tiled["output"])
    torch.testing.assert_close(tiled, whole, rtol=1e-14, atol=1e-14)


def test_shift_add_is_exact_where_its_order_is_fixed():
    dims = {"N": 1, "C": 4, "H": 9, "W": 11, "k": 5, "g": 2, "s": 2}
    x, mask = tensors_of(dims, torch.float32).values()
    function, given_settings = carafe_cores.shift_add, settings_of(dims)
    out = function(x, mask, **given_settings)

    centre = torch.zeros_like(mask)
    centre[:, [12, 37]] = 1
    nearest = F.interpolate(x, scale_factor=2, mode="nearest")
    assert torch.equal(function(x, centre, **given_settings), nearest)

    for a in range(2):
        for b in range(2):
            phase = function(x, mask[:, :, a::2, b::2], **given_settings | {"scale_factor": 1})
            assert torch.equal(out[:, :, a::2, b::2], phase)

    halves = [
        function(part, weights, kernel_size=5, group_size=1, scale_factor=2)
        for part, weights in zip(x.chunk(2, 1), mask.chunk(2, 1), strict=True)
    ]
    assert torch.equal(out, torch.cat(halves, 1))
    assert torch.equal(function(8 * x, mask, **given_settings), 8 * out)


@pytest.mark.parametrize("name", EAGER)
def test_memory_format_does_not_matter_and_inputs_stay_as_they_are(name):
    dims = {"N": 2, "C": 4, "H": 4, "W": 5, "k": 3, "g": 2, "s": 2}
    tensors = tensors_of(dims)
    plain = IMPLEMENTATIONS[name].function(**tensors, **settings_of(dims))
    last = {key: value.contiguous(memory_format=torch.channels_last) for key, value in tensors.items()}
    sliced = {key: torch.stack([value, value], -1)[..., 0] for key, value in tensors.items()}
    for given_tensors in (last, sliced):
        before = copy.deepcopy(given_tensors)
        out = IMPLEMENTATIONS[name].function(**given_tensors, **settings_of(dims))
        torch.testing.assert_close(out, plain, rtol=1e-14, atol=1e-14)
        assert all(torch.equal(given_tensors[key], before[key]) for key in before)


@pytest.mark.parametrize("name", EAGER)
def test_gradients_come_for_whichever_input_asks(name):
    dims = {"N": 1, "C": 2, "H": 3, "W": 3, "k": 3, "g": 1, "s": 2}
    tensors = tensors_of(dims)
    both = answers(IMPLEMENTATIONS[name].function, tensors, torch.ones(1, 2, 6, 6), **settings_of(dims))
    for wanted in ("x", "mask"):
        leaves = {key: value.clone().requires_grad_(key == wanted) for key, value in tensors.items()}
        IMPLEMENTATIONS[name].function(**leaves, **settings_of(dims)).sum().backward()
        assert torch.equal(leaves[wanted].grad, both[wanted])
        assert all(leaves[key].grad is None for key in leaves if key != wanted)


@pytest.mark.parametrize("name", [*EAGER, "compiled"])
def test_an_empty_batch_gives_an_empty_output(name):
    if IMPLEMENTATIONS[name].missing():
        pytest.skip(IMPLEMENTATIONS[name].missing())
    x = torch.zeros(0, 4, 3, 2, requires_grad=True)
    mask = torch.zeros(0, 9, 6, 4)
    out = carafe(x, mask, kernel_size=3, group_size=1, scale_factor=2, implementation=name)
    assert out.shape == (0, 4, 6, 4)
    out.sum().backward()
    assert x.grad.shape == x.shape


def test_shift_add_keeps_only_its_inputs_for_backward():
    dims = {"N": 1, "C": 8, "H": 4, "W": 4, "k": 5, "g": 1, "s": 2}
    x, mask = (value.requires_grad_() for value in tensors_of(dims).values())
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        carafe_cores.shift_add(x, mask, **settings_of(dims))
    assert {t.data_ptr() for t in kept} == {x.data_ptr(), mask.data_ptr()}


@pytest.mark.slow
def test_compiled_is_the_definition_in_every_type_and_leaks_nothing():
    if IMPLEMENTATIONS["compiled"].missing():
        pytest.skip(IMPLEMENTATIONS["compiled"].missing())
    dims = {"N": 2, "C": 8, "H": 6, "W": 5, "k": 3, "g": 2, "s": 2}
    for dtype in EPS:
        assert_within_rounding("compiled", dims, dtype)
    function = IMPLEMENTATIONS["compiled"].function
    assert_nothing_leaks(function, dims, math.nan)
    assert_nothing_leaks(function, dims, math.inf)
    tensors = tensors_of(dims)
    assert function(**tensors, **settings_of(dims)).is_contiguous()
    last = {key: value.contiguous(memory_format=torch.channels_last) for key, value in tensors.items()}
    assert function(**last, **settings_of(dims)).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
def test_compiled_meets_more_shapes_than_torch_would_compile_for_one_function():
    if IMPLEMENTATIONS["compiled"].missing():
        pytest.skip(IMPLEMENTATIONS["compiled"].missing())
    limit = torch._dynamo.config.recompile_limit if hasattr(torch._dynamo.config, "recompile_limit") else 8
    for width in range(1, limit + 3):
        dims = {"N": 1, "C": 2, "H": 1, "W": width, "k": 1, "g": 1, "s": 1}
        x, mask = tensors_of(dims).values()
        assert torch.equal(IMPLEMENTATIONS["compiled"].function(x, mask, **settings_of(dims)), x * mask)


def test_without_a_compiler_compiled_says_what_to_install(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    compiling.missing.cache_clear()
    try:
        assert "C++ compiler" in IMPLEMENTATIONS["compiled"].missing()
        x, mask = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
        with pytest.raises(RuntimeError, match=r"'compiled' can't run here: .*set CXX"):
            carafe(x, mask, kernel_size=1, group_size=1, scale_factor=1, implementation="compiled")
    finally:
        monkeypatch.undo()
        compiling.missing.cache_clear()


# --- The public function ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["x", "mask"])
def test_what_is_no_tensor_is_said_to_be_none(missing):
    tensors = {"x": torch.zeros(1, 1, 2, 2), "mask": torch.zeros(1, 1, 2, 2), missing: [[0.0]]}
    with pytest.raises(TypeError, match=f"expected {missing} to be a torch.Tensor, got list"):
        carafe(**tensors, kernel_size=1, group_size=1, scale_factor=1)


FITTING = {"x": (1, 4, 3, 3), "mask": (1, 18, 6, 6), "kernel_size": 3, "group_size": 2, "scale_factor": 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel_size": 4}, r"kernel_size to be odd.*got 4: use 3 or 5"),
        ({"kernel_size": 0}, r"kernel_size to be an integer of at least 1, got 0"),
        ({"kernel_size": 3.0}, r"kernel_size to be an integer of at least 1, got 3\.0"),
        ({"kernel_size": True}, r"kernel_size to be an integer of at least 1, got True"),
        ({"scale_factor": 0}, r"scale_factor to be an integer of at least 1, got 0"),
        ({"group_size": -1}, r"group_size to be an integer of at least 1, got -1"),
        ({"group_size": 3, "mask": (1, 27, 6, 6)}, r"divisible by group_size, got C=4 of x \(1, 4, 3, 3\)"),
        ({"x": (4, 3, 3)}, r"x \(N, C, H, W\).*got x of shape \(4, 3, 3\)"),
        ({"mask": (18, 6, 6)}, r"mask of shape \(18, 6, 6\)"),
        ({"mask": (1, 18, 3, 3)}, r"\(1, 18, 6, 6\) for x of shape \(1, 4, 3, 3\).*got \(1, 18, 3, 3\)"),
        ({"mask": (2, 18, 6, 6)}, r"expected mask of shape.*got \(2, 18, 6, 6\)"),
        ({"mask": (1, 9, 6, 6)}, r"expected mask of shape.*got \(1, 9, 6, 6\)"),
        ({"x": (1, 4, 0, 3), "mask": (1, 18, 0, 6)}, r"at least one channel and pixel, got \(1, 4, 0, 3\)"),
        ({"implementation": "shiftadd"}, r"unknown implementation 'shiftadd'; did you mean 'shift-add'\? \(known: "),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(change, message):
    call = {**FITTING, **change}
    x, mask = torch.zeros(call.pop("x")), torch.zeros(call.pop("mask"))
    with pytest.raises(ValueError, match=message):
        carafe(x, mask, **call)


def test_mixed_types_and_devices_are_refused():
    x, mask = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    call = {"kernel_size": 1, "group_size": 1, "scale_factor": 1}
    with pytest.raises(ValueError, match=r"got x torch\.float32 and mask torch\.float16: convert one"):
        carafe(x, mask.half(), **call)
    with pytest.raises(ValueError, match=r"floating dtype, got x torch\.int64"):
        carafe(x.long(), mask.long(), **call)
    with pytest.raises(ValueError, match=r"got x on cpu and mask on meta"):
        carafe(x, mask.to("meta"), **call)


def test_auto_takes_the_preferred_implementation_where_it_can_run(monkeypatch):
    def marked(x, mask, **settings):
        return torch.full_like(x, 7.0)

    x = torch.zeros(1, 1, 2, 2)
    call = {"kernel_size": 1, "group_size": 1, "scale_factor": 1}

    def table(**options):
        cores = IMPLEMENTATIONS["shift-add"], Implementation("cpu", marked, **options)
        return CoreTable(*cores, fallback="shift-add", kernels=("cpu",))

    monkeypatch.setattr(function, "IMPLEMENTATIONS", table())
    assert carafe(x, x, **call).unique().tolist() == [7.0]
    monkeypatch.setattr(function, "IMPLEMENTATIONS", table(missing=lambda: "no numba"))
    assert carafe(x, x, **call).unique().tolist() == [0.0]


def test_the_docstring_s_example_runs():
    results = doctest.testmod(function)
    assert results.attempted > 0
    assert results.failed == 0


def test_a_callable_of_one_s_own_is_called_with_the_core_s_signature():
    def mine(x, mask, *, kernel_size, group_size, scale_factor):
        return mask * kernel_size + group_size + scale_factor

    x = torch.ones(1, 1, 1, 1)
    out = carafe(x, torch.ones(1, 1, 3, 3), kernel_size=1, group_size=1, scale_factor=3, implementation=mine)
    assert out.unique().tolist() == [5.0]


# --- The modules are the published ones -------------------------------------------------------------------------

PAPER_STATE = {
    "channel_compressor.weight": (64, 256, 1, 1),
    "channel_compressor.bias": (64,),
    "content_encoder.weight": (100, 64, 3, 3),
    "content_encoder.bias": (100,),
}
YOLO_STATE = {
    "comp.conv.weight": (64, 256, 1, 1),
    "comp.bn.weight": (64,),
    "comp.bn.bias": (64,),
    "comp.bn.running_mean": (64,),
    "comp.bn.running_var": (64,),
    "comp.bn.num_batches_tracked": (),
    "enc.conv.weight": (100, 64, 3, 3),
    "enc.bn.weight": (100,),
    "enc.bn.bias": (100,),
    "enc.bn.running_mean": (100,),
    "enc.bn.running_var": (100,),
    "enc.bn.num_batches_tracked": (),
}


@pytest.mark.parametrize(("module", "state"), [(CARAFE, PAPER_STATE), (YoloCARAFE, YOLO_STATE)])
def test_state_dict_is_as_published(module, state):
    assert {name: tuple(value.shape) for name, value in module(256).state_dict().items()} == state


@pytest.mark.parametrize(("module", "count"), [(CARAFE, 74_148), (YoloCARAFE, 74_312)])
def test_parameters_at_256_channels(module, count):
    assert sum(parameter.numel() for parameter in module(256).parameters()) == count


def test_a_fresh_paper_module_is_close_to_a_box_blur():
    torch.manual_seed(0)
    x = torch.rand(1, 8, 9, 9)
    blur = F.avg_pool2d(x, 5, stride=1, padding=2)
    torch.testing.assert_close(CARAFE(8)(x), F.interpolate(blur, scale_factor=2), rtol=0, atol=0.01)
    module = CARAFE(8)
    assert 0.0008 < module.content_encoder.weight.std() < 0.0012
    assert not module.content_encoder.bias.any()
    assert not module.channel_compressor.bias.any()


class WriteUpConv(nn.Module):
    def __init__(self, c1, c2, k=1, act=True):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, 1, k // 2, bias=False)
        self.bn = nn.BatchNorm2d(c2)
        self.act = nn.SiLU() if act else nn.Identity()

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class WriteUpCARAFE(nn.Module):
    """The module as the write-up publishes it."""

    def __init__(self, c, k_enc=3, k_up=5, c_mid=64, scale=2):
        super().__init__()
        self.scale = scale
        self.comp = WriteUpConv(c, c_mid)
        self.enc = WriteUpConv(c_mid, (scale * k_up) ** 2, k=k_enc, act=False)
        self.pix_shf = nn.PixelShuffle(scale)
        self.upsmp = nn.Upsample(scale_factor=scale, mode="nearest")
        self.unfold = nn.Unfold(kernel_size=k_up, dilation=scale, padding=k_up // 2 * scale)

    def forward(self, X):
        b, c, h, w = X.size()
        h_, w_ = h * self.scale, w * self.scale
        W = torch.softmax(self.pix_shf(self.enc(self.comp(X))), dim=1)
        X = self.unfold(self.upsmp(X)).view(b, c, -1, h_, w_)
        return torch.einsum("bkhw,bckhw->bchw", W, X)


@pytest.mark.parametrize("arguments", [(6,), (6, 1, 3, 4, 3), (6, 5, 7, 3, 1)])
@pytest.mark.parametrize("training", [False, True])
def test_yolo_carafe_loads_the_write_up_s_weights_and_computes_its_output_bit_for_bit(arguments, training):
    torch.manual_seed(0)
    theirs = WriteUpCARAFE(*arguments)
    ours = YoloCARAFE(*arguments, implementation="unfold")
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 6, 5, 4)
    with torch.no_grad():
        assert torch.equal(ours.train(training)(x), theirs.train(training)(x))


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
def test_the_write_up_s_unfold_is_the_core(scale, kernel):
    dims = {"N": 1, "C": 3, "H": 4, "W": 5, "k": kernel, "g": 1, "s": scale}
    tensors = tensors_of(dims)
    expected = reassembly(**tensors, **settings_of(dims))
    torch.testing.assert_close(carafe_cores.unfold(**tensors, **settings_of(dims)), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ["carafe", "yolo-carafe"])
@pytest.mark.parametrize("training", [False, True])
@settings(max_examples=10)
@given(data=st.data())
def test_modules_are_their_definitions(name, training, data):
    operator = registry.operator("upsample2x", name)
    g = data.draw(st.integers(1, 3)) if name == "carafe" else 1
    dims = {
        "N": 2,
        "C": g * data.draw(st.integers(1, 3)),
        "H": data.draw(st.integers(1, 5)),
        "W": data.draw(st.integers(1, 5)),
        "k_up": data.draw(st.sampled_from([1, 3, 5])),
        "k_enc": data.draw(st.sampled_from([1, 3, 5])),
        "c_mid": data.draw(st.integers(1, 4)),
        "g": g,
    }
    assert operator.requires(dims) is None
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    module = operator.module(dims, operator.implementations["shift-add"]).double().train(training)
    with torch.no_grad():
        for value in module.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator, dtype=value.dtype) + 0.1)
    tensors = {key: value.clone() for key, value in module.state_dict().items()}
    x = operator.inputs(dims, 0.0, generator)["x"]
    leaves = {"x": x.clone().requires_grad_()} | {
        key: tensors[key].requires_grad_() for key, _ in module.named_parameters()
    }
    expected = operator.definition(dims, {**tensors, **leaves}, training)
    own = {"x": x.clone().requires_grad_(), **dict(module.named_parameters())}
    got = module(own["x"])
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    grad_output = torch.randn(got.shape, generator=generator, dtype=torch.float64)
    expected_gradients = torch.autograd.grad(expected, list(leaves.values()), grad_output)
    gradients = torch.autograd.grad(got, [own[key] for key in leaves], grad_output)
    for key, gradient, reference in zip(leaves, gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-7, atol=1e-9, msg=lambda m, key=key: f"{key}: {m}")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: YoloCARAFE(8, k_up=4), r"YoloCARAFE: expected k_up to be odd.*got 4"),
        (lambda: YoloCARAFE(8, k_enc=2), r"YoloCARAFE: expected k_enc to be odd.*got 2"),
        (lambda: YoloCARAFE(8, scale=0), r"YoloCARAFE: expected scale to be an integer of at least 1, got 0"),
        (lambda: YoloCARAFE(8, implementation="unfld"), r"unknown implementation 'unfld'; did you mean 'unfold'"),
        (lambda: CARAFE(8, up_kernel=2), r"CARAFE: expected up_kernel to be odd.*got 2"),
        (lambda: CARAFE(8, up_group=3), r"divisible by up_group, got channels=8, up_group=3"),
        (lambda: CARAFE(8, encoder_kernel=2), r"keeps the size of its input.*got encoder_kernel=2"),
        (lambda: CARAFE(8)(torch.zeros(1, 4, 2, 2)), r"CARAFE: expected x of shape \(N, 8, H, W\), got \(1, 4, 2, 2\)"),
        (
            lambda: YoloCARAFE(8)(torch.zeros(8, 2, 2)),
            r"YoloCARAFE: expected x of shape \(N, 8, H, W\), got \(8, 2, 2\)",
        ),
    ],
)
def test_settings_that_can_not_work_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_an_even_encoder_kernel_works_where_its_dilation_keeps_the_size():
    module = CARAFE(4, encoder_kernel=2, encoder_dilation=2, compressed_channels=3)
    assert module(torch.zeros(1, 4, 5, 6)).shape == (1, 4, 10, 12)


@pytest.mark.parametrize("module", [CARAFE, YoloCARAFE])
def test_modules_run_under_autocast(module):
    with torch.autocast("cpu", torch.bfloat16):
        out = (
            module(4, c_mid=3)(torch.zeros(2, 4, 3, 3)) if module is YoloCARAFE else module(4)(torch.zeros(2, 4, 3, 3))
        )
    assert out.shape == (2, 4, 6, 6)


# --- Costs ------------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(
    g=st.integers(1, 3),
    C=st.integers(1, 8),
    c_mid=st.integers(1, 8),
    k_up=st.sampled_from([1, 3, 5]),
    k_enc=st.sampled_from([1, 3]),
)
def test_closed_form_parameters_are_the_modules(g, C, c_mid, k_up, k_enc):
    for name, groups in (("carafe", g), ("yolo-carafe", 1)):
        dims = {"N": 1, "C": C * g, "H": 1, "W": 1, "k_up": k_up, "k_enc": k_enc, "c_mid": c_mid, "g": groups}
        operator = registry.operator("upsample2x", name)
        module = operator.module(dims, operator.implementations["unfold"])
        assert operator.cost(dims).params == sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("task", "name"), [("carafe_core", "carafe"), ("upsample2x", "carafe"), ("upsample2x", "yolo-carafe")]
)
def test_flop_counter_mode_counts_the_closed_form_on_meta_tensors(task, name):
    operator = registry.operator(task, name)
    dims = operator.given({"N": 2, "C": 8, "H": 5, "W": 6, **registry.tasks()[task].defaults})
    cost = operator.cost(dims)
    module = operator.module(dims, operator.counting).to("meta")
    inputs = operator.inputs(dims, 0.0, torch.Generator()).values()
    leaves = [value.float().to("meta").requires_grad_() for value in inputs]
    formulas = {
        getattr(torch.ops.opbench, key.removeprefix("opbench::")): lambda *shapes, formula=formula, **_: (
            2 * formula(shapes)
        )
        for key, formula in operator.formulas.items()
        if key.startswith("opbench::")  # beside these it knows the interpolations of its slot
    }
    with FlopCounterMode(display=False, custom_mapping=formulas) as counter:
        out = module(*leaves)
        forward = counter.get_total_flops()
        out.sum().backward()
    assert out.shape == (2, 8, 10, 12)
    assert forward == 2 * cost.macs
    assert counter.get_total_flops() == 2 * (cost.macs + cost.macs_backward)


def test_core_cost_counts_what_the_call_touches():
    dims = {"N": 2, "C": 6, "H": 4, "W": 5, "k": 3, "g": 2, "s": 3}
    tensors = tensors_of(dims)
    out = reassembly(**tensors, **settings_of(dims))
    cost = core().cost(dims)
    assert cost.params == 0
    assert cost.macs == out.numel() * 9
    assert cost.elements == out.numel() + sum(value.numel() for value in tensors.values())


def test_the_number_of_terms_is_what_ones_add_up_to():
    dims = {"N": 1, "C": 6, "H": 5, "W": 6, "k": 3, "g": 2, "s": 2}
    ones = {key: torch.ones_like(value) for key, value in tensors_of(dims).items()}
    terms = core().magnitude(dims, ones, torch.ones(1, 6, 10, 12, dtype=torch.float64))
    assert {key: value.count for key, value in terms.items()} == {
        key: int(value.total.max()) for key, value in terms.items()
    }


@pytest.mark.parametrize(
    ("task", "name", "change", "reason"),
    [
        ("carafe_core", "carafe", {"k": 4}, "must be odd, got k=4"),
        ("carafe_core", "carafe", {"g": 3}, "C=8 is not divisible by g=3"),
        ("carafe_core", "carafe", {"s": 0}, "at least 1, got s=0"),
        ("upsample2x", "carafe", {"k_enc": 2}, "must be odd, got k_enc=2"),
        ("upsample2x", "carafe", {"g": 5}, "C=8 is not divisible by g=5"),
        ("upsample2x", "yolo-carafe", {"g": 2}, "one group, got g=2"),
        ("upsample2x", "yolo-carafe", {"k_up": 4}, "must be odd, got k_up=4"),
    ],
)
def test_dimensions_an_operator_can_not_run_at_are_named(task, name, change, reason):
    operator = registry.operator(task, name)
    dims = operator.given({"N": 1, "C": 8, "H": 4, "W": 4, **registry.tasks()[task].defaults})
    assert operator.requires(dims) is None
    assert reason in operator.requires(dims | change)


# --- The formulas that definitions are composed of --------------------------------------------------------------


def test_the_formulas_agree_with_torch():
    torch.manual_seed(0)
    x = torch.randn(2, 8, 5, 4, dtype=torch.float64)
    weight, bias = torch.randn(3, 8, 3, 3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    scale, shift, mean = torch.randn(3, 8, dtype=torch.float64)
    variance = torch.rand(8, dtype=torch.float64)
    close = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(definitions.convolution(x, weight, bias), F.conv2d(x, weight, bias, padding=1), **close)
    assert torch.equal(definitions.pixel_shuffle(x, 2), F.pixel_shuffle(x, 2))
    torch.testing.assert_close(definitions.softmax(1000 * x, 1), F.softmax(1000 * x, 1), **close)
    torch.testing.assert_close(definitions.silu(x), F.silu(x), **close)
    for training in (False, True):
        got = definitions.batch_norm(x, scale, shift, mean, variance, training=training, epsilon=1e-5)
        expected = F.batch_norm(x, mean.clone(), variance.clone(), scale, shift, training=training)
        torch.testing.assert_close(got, expected, **close)
