"""Sampling at given positions on the CPU is the definition, in every dtype, on any number of threads."""

import pytest
import torch
from by_day import first_by_day, tried
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.library import opcheck

from opbench.kernels.cpu import jit, processor, sampling, sampling_call
from opbench.kernels.cpu.sampling import sample

EPS = {torch.float64: 2.0**-52, torch.float32: 2.0**-23, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}
FEW = settings(max_examples=settings.default.max_examples // 4)
PADDINGS = pytest.mark.parametrize("padding", ["zeros", "border"])
ALL = pytest.mark.parametrize("padding", sampling.PADDINGS)


def defined(x, positions, weights=None, *, group=1, padding="zeros", first="x"):
    """The docstring of `sample`, pixel by pixel of a cell, in the dtype of its inputs."""
    n, h, w, c = x.shape
    _, v, u, _ = positions.shape
    pairs = positions.view(n, v, u, group, -1, 2)
    weights = torch.ones_like(pairs[..., 0]) if weights is None else weights.view(pairs.shape[:-1])
    real = ~pairs.isnan().any(-1)
    pairs = torch.where(real[..., None], pairs, 0)
    at = dict(zip(first + {"x": "y", "y": "x"}[first], pairs.unbind(-1), strict=True))
    if padding == "border-twice":
        for axis, size in (("x", w), ("y", h)):
            weights = torch.where((at[axis] >= 0) & (at[axis] < size - 1), weights, 2 * weights)
    if padding != "zeros":
        at = {axis: at[axis].clamp(0, size - 1) for axis, size in (("x", w), ("y", h))}
    counts = real & (at["x"] > -1) & (at["x"] < w) & (at["y"] > -1) & (at["y"] < h)
    at = {axis: torch.where(counts, place, 0) for axis, place in at.items()}
    weights = torch.where(counts, weights, 0)
    left, top = at["x"].detach().floor(), at["y"].detach().floor()
    images = torch.arange(n).view(n, 1, 1, 1, 1)
    channels = torch.arange(c).view(group, 1, -1)
    out = 0
    for row, by in ((top, 1 - (at["y"] - top)), (top + 1, at["y"] - top)):
        for column, bx in ((left, 1 - (at["x"] - left)), (left + 1, at["x"] - left)):
            inside = counts & (row >= 0) & (row < h) & (column >= 0) & (column < w)
            if padding != "zeros":  # beyond the last pixel lies itself, so that the slope there is 0
                inside, row, column = counts, row.clamp(max=h - 1), column.clamp(max=w - 1)
            index = [torch.where(inside, i, 0).long()[..., None] for i in (row, column)]
            value = x[images[..., None], index[0], index[1], channels]
            share = torch.where(inside, weights * (by * bx), 0)[..., None]
            out = out + torch.where(share != 0, share * value, share * value.nan_to_num(0, 0, 0))
    return out.sum(4).reshape(n, v, u, c)


def tensors(n=1, h=5, w=6, c=8, v=4, u=7, group=1, points=1, *, dtype=torch.float32, seed=0, spread=1.0):
    """x, positions, weights and the output's gradient; positions a thirty-second off sixteenths, exact everywhere."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, h, w, c, generator=generator)
    pairs = torch.rand(n, v, u, group * points, 2, generator=generator)
    around = (pairs - 0.5) * spread + 0.5
    positions = ((around * torch.tensor([w + 3.0, h + 3.0]) - 2) * 16).round() / 16 + 1 / 32
    weights = torch.randn(n, v, u, group * points, generator=generator)
    grad = torch.randn(n, v, u, c, generator=generator)
    located = torch.float64 if dtype == torch.float64 else torch.float32
    return x.to(dtype), positions.flatten(3).to(located), weights.to(dtype), grad.to(dtype)


def results(function, x, positions, weights, grad, **call):
    """The output, and the gradients of x, positions and (where there are weights) weights."""
    inputs = [t.detach().requires_grad_() for t in (x, positions, weights) if t is not None]
    out = function(*inputs, **call)
    return out.detach(), *torch.autograd.grad(out, inputs, grad)


def assert_within_rounding(x, positions, weights, grad, **call):
    """Each result is within a few roundings of the terms it sums, and of itself, of the definition."""
    got = results(sample, x, positions, weights, grad, **call)
    wide = [None if t is None else t.double() for t in (x, positions, weights, grad)]
    expected = results(defined, *wide, **call)
    sizes = [None if t is None else t.abs() for t in wide]
    totals = list(results(defined, sizes[0], wide[1], sizes[2], sizes[3], **call))
    # A position's gradient is a difference of corners: bounded by what the channels sum to, times the weight.
    totals[2] = torch.full_like(wide[1], float(sizes[0].amax() * sizes[3].sum(-1).amax() * 4))
    if weights is not None:
        totals[2] = totals[2] * sizes[2].repeat_interleave(2, -1)
    summed_in = EPS[torch.float64 if x.dtype == torch.float64 else torch.float32]
    names = ("out", "grad x", "grad positions", "grad weights")
    for name, a, b, total in zip(names, got, expected, totals, strict=False):
        kept = positions.dtype if name == "grad positions" else x.dtype
        assert (a.dtype, a.shape) == (kept, b.shape)
        bound = 16 * summed_in * total + EPS[kept] * b.abs() + torch.finfo(kept).tiny
        worst = ((a.double() - b).abs() / bound).max().item() if a.numel() else 0.0
        assert worst <= 1, f"{name} is off by {worst:.3g} times its bound for x {tuple(x.shape)} and {call}"


# --- What it computes -------------------------------------------------------------------------------------------


# What kernels are compiled for: each costs a second, so that not every combination is.
KINDS = (
    (torch.float64, "zeros", "x", True, 3),
    (torch.float64, "border", "y", False, 16),
    (torch.float32, "zeros", "y", False, 16),
    (torch.float32, "border", "x", True, 16),
    (torch.bfloat16, "border", "y", True, 16),
    (torch.float16, "zeros", "x", True, 1),
    (torch.float32, "border-twice", "x", True, 16),
    (torch.bfloat16, "border-twice", "y", False, 16),
)


@FEW
@given(st.data())
def test_results_and_gradients_are_the_definitions(data):
    """Every setting; rows shorter and longer than a block; channels no vector divides; positions far outside."""
    dtype, padding, first, weighed, depth = data.draw(st.sampled_from(KINDS))
    group, points = data.draw(st.integers(1, 4)), data.draw(st.sampled_from([1, 3, 9]))
    x, positions, weights, grad = tensors(
        data.draw(st.integers(1, 2)), data.draw(st.integers(1, 6)), data.draw(st.integers(1, 9)), group * depth,
        data.draw(st.integers(1, 5)), data.draw(st.one_of(st.integers(1, 9), st.sampled_from([36, 70]))),
        group, points, dtype=dtype, spread=data.draw(st.sampled_from([1.0, 10.0])),
    )  # fmt: skip
    weights = weights if weighed else None
    assert_within_rounding(x, positions, weights, grad, group=group, padding=padding, first=first)


@ALL
def test_many_groups_deep_ones_and_rows_of_several_blocks(padding):
    for shape in ((1, 5, 7, 80, 4, 9, 40, 2), (1, 5, 7, 200, 3, 400, 1, 1), (2, 9, 40, 32, 2, 700, 2, 3)):
        assert_within_rounding(*tensors(*shape), group=shape[6], padding=padding)


@ALL
@pytest.mark.parametrize("size", [(1, 6), (6, 1), (1, 1)])
def test_images_of_one_row_or_column(padding, size):
    for points in (1, 3):
        assert_within_rounding(*tensors(2, *size, 8, group=2, points=points), group=2, padding=padding)


@PADDINGS
def test_whole_positions_read_pixels_exactly_and_slope_to_the_right_and_down(padding):
    x = torch.randn(1, 5, 6, 16, generator=torch.Generator().manual_seed(0))
    rows, columns = torch.meshgrid(torch.arange(5.0), torch.arange(6.0), indexing="ij")
    positions = torch.stack((columns, rows), -1)[None]
    out, grad_x, grad_positions = results(sample, x, positions, None, torch.ones_like(x), padding=padding)
    assert torch.equal(out, x)
    assert torch.equal(grad_x, torch.ones_like(x))
    ends = torch.nn.functional.pad(x, (0, 0, 0, 1, 0, 1))
    if padding == "border":
        ends[:, -1, :-1], ends[:, :-1, -1] = x[:, -1], x[:, :, -1]
    slopes = torch.stack(((ends[:, :-1, 1:] - x).sum(-1), (ends[:, 1:, :-1] - x).sum(-1)), -1)
    torch.testing.assert_close(grad_positions, slopes)


def test_the_image_ends_one_pixel_outside_exactly():
    x = torch.ones(1, 6, 6, 4)
    for axis in range(2):
        for place in (-1.0, 6.0):
            positions = torch.full((1, 3, 3, 2), 2.25)
            positions[..., axis] = place
            got = results(sample, x, positions, torch.ones(1, 3, 3, 1), torch.ones(1, 3, 3, 4))
            assert not any(t.any() for t in got)


@pytest.mark.parametrize("far", [float("inf"), 1e30, 3e9, 40.0])
def test_a_position_outside_is_held_at_the_border_and_gets_no_gradient_along_that_axis(far):
    x = torch.randn(1, 5, 6, 8, generator=torch.Generator().manual_seed(0))
    positions = torch.tensor([[far, 2.25], [-far, 2.25], [1.5, far], [1.5, -far]]).view(1, 1, 4, 2)
    out, _, grad, _ = results(sample, x, positions, torch.ones(1, 1, 4, 1), torch.ones(1, 1, 4, 8), padding="border")
    ends = [x[0, 2, 5] * 0.75 + x[0, 3, 5] * 0.25, x[0, 2, 0] * 0.75 + x[0, 3, 0] * 0.25]
    ends += [(x[0, row, 1] + x[0, row, 2]) / 2 for row in (4, 0)]
    torch.testing.assert_close(out[0, 0], torch.stack(ends))
    assert (grad != 0).view(4, 2).tolist() == [[False, True], [False, True], [True, False], [True, False]]


@PADDINGS
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e30, -3e9])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_sample_nowhere_contributes_nothing_and_gets_no_gradient(padding, bad, dtype):
    if padding == "border" and bad == bad:
        return  # that one is held at the border
    x, positions, weights, grad = tensors(1, 5, 6, 8, group=2, points=3, dtype=dtype)
    gone = torch.rand(weights.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    where = gone.repeat_interleave(2, -1)
    where[..., ::4] = False  # of every other sample only the second component is bad
    call = {"group": 2, "padding": padding}
    dirty = results(sample, x, positions.masked_fill(where, bad), weights, grad, **call)
    clean = results(sample, x, positions, weights.masked_fill(gone, 0.0), grad, **call)
    torch.testing.assert_close(dirty[0], clean[0])
    torch.testing.assert_close(dirty[1], clean[1])
    assert not dirty[2].view(*gone.shape, 2)[gone].any()
    assert not dirty[3][gone].any()
    rotten = weights.masked_fill(gone, float("nan"))
    for a, b in zip(results(sample, x, positions.masked_fill(where, bad), rotten, grad, **call), dirty, strict=True):
        assert torch.equal(a, b)


@ALL
@pytest.mark.parametrize("points", [1, 2])
def test_gradients_are_those_of_finite_differences(padding, points):
    x, positions, weights, _ = tensors(1, 4, 5, 4, 3, 3, 2, points, dtype=torch.float64)
    inputs = [t.requires_grad_() for t in (x, positions, weights)]
    assert torch.autograd.gradcheck(lambda *inputs: sample(*inputs, group=2, padding=padding), inputs)


@PADDINGS
def test_it_is_torchs_grid_sample(padding):
    x, positions, _, _ = tensors(2, 9, 7, 16, 6, 5, dtype=torch.float64)
    size = torch.tensor([7.0, 9.0], dtype=torch.float64)
    grid = (2 * positions + 1) / size - 1
    expected = torch.nn.functional.grid_sample(
        x.permute(0, 3, 1, 2), grid, padding_mode=padding, align_corners=False
    ).permute(0, 2, 3, 1)
    torch.testing.assert_close(sample(x, positions, padding=padding), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("wanted", [[True, False, False], [False, True, False], [False, False, True]])
def test_only_the_gradients_asked_for_are_made(wanted):
    x, positions, weights, grad = tensors(1, 4, 5, 8)
    every = torch.ops.opbench.sampling_cpu_backward(grad, x, positions, weights, 1, "zeros", "x", [True] * 3)
    some = torch.ops.opbench.sampling_cpu_backward(grad, x, positions, weights, 1, "zeros", "x", wanted)
    for asked, a, b in zip(wanted, some, every, strict=True):
        assert torch.equal(a, b) if asked else a.numel() == 0


# --- Strides and sizes ------------------------------------------------------------------------------------------


def strided(t, how):
    """The same values behind other strides."""
    n, h, w, c = t.shape
    if how == "slice":
        return torch.zeros(n + 1, h + 2, w + 3, c + 5)[1:, 1:-1, 2:-1, 3:-2].copy_(t)
    if how == "every other":
        return torch.zeros(n, h, w, 2 * c)[..., ::2].copy_(t)
    return t.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)


@pytest.mark.parametrize("what", ["x", "positions", "weights", "grad"])
@pytest.mark.parametrize("how", ["slice", "every other", "channels-first"])
def test_strides_change_nothing(what, how):
    drawn = dict(zip(("x", "positions", "weights", "grad"), tensors(2, 5, 40, 12, 5, 40, 3, 2), strict=True))
    expected = results(sample, *drawn.values(), group=3)
    drawn[what] = strided(drawn[what], how)
    got = results(sample, *drawn.values(), group=3)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@PADDINGS
@pytest.mark.parametrize(
    ("shape", "points"), [((0, 3, 4, 4), 1), ((1, 3, 4, 0), 1), ((1, 3, 4, 4), 0), ((1, 0, 4, 4), 2), ((2, 3, 0, 4), 2)]
)
def test_empty_inputs_give_zeros(padding, shape, points):
    drawn = tensors(*shape, group=2, points=points)
    for got, like in zip(results(sample, *drawn, group=2, padding=padding), (drawn[3], *drawn[:3]), strict=True):
        assert got.shape == like.shape
        assert not got.any()


# --- Threads, repeatability, processors -------------------------------------------------------------------------


@pytest.mark.parametrize(("group", "depth", "points"), [(4, 16, 2), (1, 48, 1)])
@pytest.mark.parametrize(
    ("dtype", "padding"),
    [
        tried(dtype, padding, by_day=padding == "border" and dtype != torch.float64)
        for dtype in (torch.float32, torch.bfloat16, torch.float64)
        for padding in sampling.PADDINGS
    ],
)
def test_every_run_gives_the_same_bits_on_any_number_of_threads(threads, dtype, padding, group, depth, points):
    drawn = tensors(2, 11, 13, group * depth, 9, 31, group, points, dtype=dtype)
    threads(1)
    expected = results(sample, *drawn, group=group, padding=padding)
    for number in (2, 3, 8, 64):
        threads(number)
        got = results(sample, *drawn, group=group, padding=padding)
        assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("shape", first_by_day(((16, 32), (32, 16), (16, 16))), ids=str)
def test_processors_with_shorter_vectors_get_the_same_results(monkeypatch, shape):
    monkeypatch.setattr(jit, "_addresses", {})
    sources = jit._sources()
    monkeypatch.setattr(jit, "_sources", lambda: f"{sources} with shorter vectors {shape}")
    for module in (jit, sampling_call):
        monkeypatch.setattr(module, "target", lambda: processor.VectorUnit(*shape))
    assert_within_rounding(*tensors(1, 7, 11, 32, 4, 9, 2, 3), group=2, padding="border", first="y")


# --- As an operation of torch -----------------------------------------------------------------------------------


@pytest.mark.parametrize("weighed", [True, False])
def test_the_operations_keep_torchs_rules(weighed):
    x, positions, weights, grad = tensors(1, 4, 5, 8, group=2, points=2, dtype=torch.bfloat16)
    weights = weights if weighed else None
    inputs = [None if t is None else t.clone().requires_grad_() for t in (x, positions, weights)]
    opcheck(torch.ops.opbench.sampling_cpu.default, (*inputs, 2, "border", "y"))
    for wanted in ([True, True, weighed], [False, True, False]):
        arguments = (grad, x, positions, weights, 2, "zeros", "x", wanted)
        opcheck(torch.ops.opbench.sampling_cpu_backward.default, arguments)


def test_under_autocast_positions_keep_their_precision_and_the_others_meet():
    x, positions, weights, _ = tensors(1, 4, 5, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = sample(x.bfloat16(), positions, weights)
        narrow = sample(x.bfloat16(), positions, weights.bfloat16())
    assert torch.equal(mixed, sample(x.bfloat16().float(), positions, weights))
    assert torch.equal(narrow, sample(x.bfloat16(), positions, weights.bfloat16()))


def test_it_is_exported_as_one_operation():
    class Sampled(torch.nn.Module):
        def forward(self, x, positions):
            return sample(x, positions)

    inputs = tensors(1, 4, 5, 8)[:2]
    program = torch.export.export(Sampled(), inputs)
    assert [node.target for node in program.graph.nodes if node.op == "call_function"] == [
        torch.ops.opbench.sampling_cpu.default
    ]
    assert torch.equal(program.module()(*inputs), sample(*inputs))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"positions": torch.zeros(2, 4, 7, 4)}, ValueError, r"expected \(1, V, U, 4\*P\)"),
        ({"positions": torch.zeros(1, 4, 7, 6)}, ValueError, r"expected \(1, V, U, 4\*P\)"),
        ({"positions": torch.zeros(1, 4, 7, 4).double()}, TypeError, "positions: expected torch.float32"),
        ({"weights": torch.zeros(1, 4, 7, 3)}, ValueError, r"weights is \(1, 4, 7, 3\); expected \(1, 4, 7, 2\)"),
        ({"weights": torch.zeros(1, 4, 7, 2).double()}, TypeError, "weights: expected x's dtype"),
        ({"x": torch.zeros(5, 6, 8)}, ValueError, r"expected \(N, H, W, C\)"),
        ({"x": torch.zeros(1, 5, 6, 8, dtype=torch.int32)}, TypeError, "int32"),
        ({"group": 3}, ValueError, "divisible by group 3"),
        ({"padding": "reflection"}, ValueError, "zeros"),
        ({"first": "z"}, ValueError, "first"),
    ],
)
def test_inputs_that_do_not_fit_together_are_refused(change, error, message):
    x, positions, weights, _ = tensors(1, 5, 6, 8, group=2)
    with pytest.raises(error, match=message):
        sample(**{"x": x, "positions": positions, "weights": weights, "group": 2, **change})
