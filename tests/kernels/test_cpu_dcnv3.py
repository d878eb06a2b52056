"""DCNv3's sampling on the CPU is the definition, in every dtype, on any number of threads, and repeatable."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from by_day import tried
from formulas_by_loops import dcnv3_by_loops
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.library import opcheck

from opbench.kernels.cpu import jit, processor, sampling_call
from opbench.kernels.cpu.dcnv3 import dcnv3_cpu
from opbench.operators.dcnv3.definition import dcnv3_definition

EPS = {torch.float64: 2.0**-52, torch.float32: 2.0**-23, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}
FEW = settings(max_examples=settings.default.max_examples // 4)


def arguments(k=3, stride=1, pad=1, dilation=1, group=2, offset_scale=1.0, remove_center=False):
    return {
        "kernel_size": k,
        "stride": stride,
        "pad": pad,
        "dilation": dilation,
        "group": group,
        "offset_scale": offset_scale,
        "remove_center": remove_center,
    }


def output_size(size, k, stride, pad, dilation):
    return (size + 2 * pad - dilation * (k - 1) - 1) // stride + 1


def tensors(n, h, w, c, call, *, spread=2.0, dtype=torch.float64, seed=0):
    """x, offset, mask and the output's gradient. Locations keep off whole numbers, where derivatives jump."""
    k, stride, pad, dilation, g, _, remove = call.values()
    ho, wo = (output_size(size, k, stride, pad, dilation) for size in (h, w))
    points = k * k - remove
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, h, w, c, generator=generator)
    # Sixteenths of a pixel off sixteenths by a thirty-second, also when halved or doubled: exact in every dtype near 0.
    moves = (torch.randn(n, ho, wo, g * points * 2, generator=generator) * spread * 8).round() / 8 + 1 / 16
    mask = torch.rand(n, ho, wo, g * points, generator=generator)
    grad = torch.randn(n, ho, wo, c, generator=generator)
    return tuple(t.to(dtype) for t in (x, moves, mask, grad))


def results(core, x, offset, mask, grad, **call):
    """The output, and the gradients of x, offset and mask."""
    inputs = [t.detach().requires_grad_() for t in (x, offset, mask)]
    out = core(*inputs, **call)
    return out.detach(), *torch.autograd.grad(out, inputs, grad)


def assert_within_rounding(x, offset, mask, grad, **call):
    """Each result is within a few roundings of the terms it sums, and of itself, of the definition."""
    got = results(dcnv3_cpu, x, offset, mask, grad, **call)
    inputs = [t.double() for t in (x, offset, mask, grad)]
    expected = results(dcnv3_definition, *inputs, **call)
    sizes = [t.abs() for t in inputs]
    totals = list(results(dcnv3_definition, sizes[0], inputs[1], sizes[2], sizes[3], **call))
    # The offset's gradient is a difference of corners: bounded by what the channels sum to, times the mask.
    reach = (sizes[0].amax() * sizes[3].sum(-1, keepdim=True) * 4 * call["offset_scale"]).expand_as(mask)
    totals[2] = (reach * sizes[2]).repeat_interleave(2, -1)
    summed_in = EPS[torch.float64 if x.dtype == torch.float64 else torch.float32]
    for name, a, b, total in zip(("out", "grad x", "grad offset", "grad mask"), got, expected, totals, strict=True):
        assert a.dtype == x.dtype
        bound = 16 * summed_in * total + EPS[x.dtype] * b.abs() + torch.finfo(x.dtype).tiny
        worst = ((a.double() - b).abs() / bound).max().item() if a.numel() else 0.0
        assert worst <= 1, f"{name} is off by {worst:.3g} times its bound for x {tuple(x.shape)} and {call}"


# --- What it computes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        arguments(),
        arguments(k=2, stride=2, pad=0),
        arguments(k=3, dilation=2, pad=2, offset_scale=0.5, remove_center=True),
        arguments(k=1, pad=1, group=1),
    ],
)
def test_tiny_cases_are_the_formula_read_aloud(call):
    x, offset, mask, _ = tensors(2, 4, 5, 4, call)
    expected = dcnv3_by_loops(x, offset, mask, **call)
    torch.testing.assert_close(dcnv3_cpu(x, offset, mask, **call), expected, rtol=1e-12, atol=1e-12)


@FEW
@given(st.data())
def test_results_and_gradients_are_the_definitions(data):
    """Every setting; rows shorter and longer than a block; channels that no vector divides; offsets far outside."""
    call = arguments(
        k=data.draw(st.sampled_from([1, 2, 3, 5])),
        stride=data.draw(st.integers(1, 3)),
        pad=data.draw(st.integers(0, 3)),
        dilation=data.draw(st.integers(1, 2)),
        group=data.draw(st.integers(1, 5)),
        offset_scale=data.draw(st.sampled_from([0.5, 1.0, 2.0])),
    )
    call["remove_center"] = call["kernel_size"] in (3, 5) and data.draw(st.booleans())
    dtype = data.draw(st.sampled_from([torch.float64, torch.float32]))
    n, h = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 6))
    w = data.draw(st.one_of(st.integers(1, 9), st.sampled_from([36, 70])))
    c = call["group"] * data.draw(st.sampled_from([1, 3, 8, 16, 48]))
    setting = [call[name] for name in ("kernel_size", "stride", "pad", "dilation")]
    assume(all(output_size(size, *setting) >= 1 for size in (h, w)))
    drawn = tensors(n, h, w, c, call, spread=data.draw(st.sampled_from([0.0, 0.5, 3.0, 30.0])), dtype=dtype)
    assert_within_rounding(*drawn, **call)


@pytest.mark.parametrize(("group", "depth"), [(40, 2), (1, 200), (3, 64)])
def test_many_groups_and_deep_ones(group, depth):
    call = arguments(group=group)
    assert_within_rounding(*tensors(1, 5, 7, group * depth, call, dtype=torch.float32), **call)


@pytest.mark.parametrize("tasks", [1, 1000], ids=["few tasks", "many tasks"])
@pytest.mark.parametrize("shared", [1, 40_000], ids=["a block wide", "some blocks wide"])
@pytest.mark.parametrize("call", [arguments(group=4), arguments(group=4, stride=2, pad=9)], ids=["", "far outside"])
def test_however_the_output_is_shared_out_nothing_is_left_out(monkeypatch, call, shared, tasks):
    expected = results(dcnv3_cpu, *tensors(2, 13, 61, 64, call, dtype=torch.float32), **call)
    monkeypatch.setattr(sampling_call, "SHARED_BYTES", shared)
    monkeypatch.setattr(sampling_call, "TASKS", tasks)
    got = results(dcnv3_cpu, *tensors(2, 13, 61, 64, call, dtype=torch.float32), **call)
    assert all(map(torch.equal, got, expected))
    assert_within_rounding(*tensors(2, 13, 61, 64, call, dtype=torch.float32), **call)


@pytest.mark.parametrize(
    ("group", "depth", "dtype"), [(2, 16, torch.bfloat16), (3, 24, torch.float16), (1, 3, torch.bfloat16)]
)
def test_narrow_dtypes_are_summed_in_float32(dtype, group, depth):
    call = arguments(group=group)
    assert_within_rounding(*tensors(2, 9, 12, group * depth, call, dtype=dtype), **call)


def test_locations_are_as_exact_in_float32_far_from_the_origin():
    """A displacement of a thousandth of a pixel is the same everywhere, 4000 pixels out as well."""
    call = arguments(k=1, pad=0, group=1)
    x = torch.arange(5000.0).view(1, 1, 5000, 1) % 2
    offset = torch.tensor([0.001, 0.0]).expand(1, 1, 5000, 2)
    out = dcnv3_cpu(x, offset, torch.ones(1, 1, 5000, 1), **call).flatten()
    assert torch.equal(out[2:4998:2], out[2].expand(2498))


def test_whole_offsets_move_the_image_exactly():
    call = arguments(k=1, pad=0, group=2)
    x, offset, mask, _ = tensors(2, 6, 9, 8, call, dtype=torch.float32)
    offset = torch.tensor([2.0, -1.0]).repeat(2).expand_as(offset).contiguous()
    out = dcnv3_cpu(x, offset, torch.ones_like(mask), **call)
    expected = torch.zeros_like(x)
    expected[:, 1:, :-2] = x[:, :-1, 2:]
    assert torch.equal(out, expected)


BAD = [float("nan"), float("inf"), -float("inf"), 1e30, -1e30, 3e9, -3e9]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_sample_nowhere_contributes_nothing_and_gets_no_gradient(bad, dtype):
    call = arguments()
    x, offset, mask, grad = tensors(1, 5, 6, 8, call, dtype=dtype)
    gone = torch.rand(mask.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    where = gone.repeat_interleave(2, -1)
    where[..., ::4] = False  # of every other sample only y is bad
    dirty = results(dcnv3_cpu, x, offset.masked_fill(where, bad), mask, grad, **call)
    clean = results(dcnv3_cpu, x, offset, mask.masked_fill(gone, 0.0), grad, **call)
    torch.testing.assert_close(dirty[0], clean[0])
    torch.testing.assert_close(dirty[1], clean[1])
    assert not dirty[2].view(*gone.shape, 2)[gone].any()
    assert not dirty[3][gone].any()
    # Nothing is multiplied by what isn't there: neither a mask nor a gradient that isn't a number gets through.
    rotten = mask.masked_fill(gone, float("nan"))
    for a, b in zip(results(dcnv3_cpu, x, offset.masked_fill(where, bad), rotten, grad, **call), dirty, strict=True):
        assert torch.equal(a, b)
    infinite = results(dcnv3_cpu, x, offset.masked_fill(where, bad), mask, torch.full_like(grad, torch.inf), **call)
    assert not infinite[3][gone].any()


@pytest.mark.parametrize("place", [-1.0, 6.0])
def test_the_image_ends_one_pixel_outside_exactly(place):
    call = arguments(k=1, pad=0, group=1)
    x = torch.ones(1, 6, 6, 4)
    for axis in range(2):
        offset = torch.zeros(1, 6, 6, 2)
        offset[..., axis] = place - torch.arange(6.0).view((1, 1, 6) if axis == 0 else (1, 6, 1))
        out, grad_x, grad_offset, grad_mask = results(
            dcnv3_cpu, x, offset, torch.ones(1, 6, 6, 1), torch.ones(1, 6, 6, 4), **call
        )
        assert not any(t.any() for t in (out, grad_x, grad_offset, grad_mask))


def test_an_infinite_pixel_reaches_the_samples_next_to_it_and_no_other():
    call = arguments(k=1, pad=0, group=2)
    x, offset, mask, _ = tensors(1, 9, 30, 32, call, spread=8.0, dtype=torch.float32)
    x[0, 0, 0, 5] = x[0, 8, 29, 5] = x[0, 4, 7, 20] = torch.inf
    hit = ~dcnv3_cpu(x, offset, mask + 0.1, **call).isfinite()
    expected = ~dcnv3_definition(x.double(), offset.double(), mask.double() + 0.1, **call).isfinite()
    assert expected.any()
    assert torch.equal(hit, expected)


@pytest.mark.parametrize("call", [arguments(), arguments(k=2, stride=2, pad=1, offset_scale=2.0)])
def test_gradients_are_those_of_finite_differences(call):
    x, offset, mask, _ = tensors(1, 4, 5, 4, call)
    inputs = [t.requires_grad_() for t in (x, offset, mask)]
    assert torch.autograd.gradcheck(lambda *inputs: dcnv3_cpu(*inputs, **call), inputs)


@pytest.mark.parametrize("wanted", [[True, False, False], [False, True, False], [False, False, True]])
def test_only_the_gradients_asked_for_are_made(wanted):
    call = arguments()
    x, offset, mask, grad = tensors(1, 4, 5, 8, call)
    backward = torch.ops.opbench.dcnv3_cpu_backward
    every = backward(grad, x, offset, mask, *call.values(), [True, True, True])
    some = backward(grad, x, offset, mask, *call.values(), wanted)
    for asked, a, b in zip(wanted, some, every, strict=True):
        assert torch.equal(a, b) if asked else a.numel() == 0
    inputs = [t.requires_grad_(asked) for t, asked in zip((x, offset, mask), wanted, strict=True)]
    dcnv3_cpu(*inputs, **call).backward(grad)
    assert [t.grad is not None for t in inputs] == wanted


# --- Strides and sizes ------------------------------------------------------------------------------------------


def strided(t, how):
    """The same values behind other strides."""
    n, h, w, c = t.shape
    if how == "slice":
        return torch.zeros(n + 1, h + 2, w + 3, c + 5)[1:, 1:-1, 2:-1, 3:-2].copy_(t)
    if how == "every other":
        return torch.zeros(n, h, w, 2 * c)[..., ::2].copy_(t)
    if how == "transposed":
        return t.transpose(1, 2).contiguous().transpose(1, 2)
    return t.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)


@pytest.mark.parametrize("what", ["x", "offset", "mask", "grad"])
@pytest.mark.parametrize("how", ["slice", "every other", "transposed", "channels-first"])
def test_strides_change_nothing(what, how):
    call = arguments(group=3)
    drawn = dict(zip(("x", "offset", "mask", "grad"), tensors(2, 5, 40, 12, call, dtype=torch.float32), strict=True))
    expected = results(dcnv3_cpu, *drawn.values(), **call)
    drawn[what] = strided(drawn[what], how)
    got = results(dcnv3_cpu, *drawn.values(), **call)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize(("n", "c", "group"), [(0, 4, 2), (1, 0, 2)])
def test_empty_inputs(n, c, group):
    call = arguments(group=group)
    drawn = tensors(n, 3, 4, c, call, dtype=torch.float32)
    for got, like in zip(results(dcnv3_cpu, *drawn, **call), (drawn[3], *drawn[:3]), strict=True):
        assert got.shape == like.shape
        assert not got.any()


def test_a_window_without_points_gives_zeros():
    call = arguments(k=1, pad=0, remove_center=True)
    drawn = tensors(1, 3, 4, 4, call, dtype=torch.float32)
    assert all(not t.any() for t in results(dcnv3_cpu, *drawn, **call))


def test_inputs_are_not_written_to():
    call = arguments()
    drawn = tensors(1, 5, 6, 8, call)
    before = [t.clone() for t in drawn]
    results(dcnv3_cpu, *drawn, **call)
    assert all(torch.equal(a, b) for a, b in zip(drawn, before, strict=True))


# --- Threads, processes, repeatability --------------------------------------------------------------------------


@pytest.mark.parametrize(("group", "depth"), [(4, 16), (1, 48)])
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, *(tried(dtype, by_day=False) for dtype in (torch.float64, torch.float16))]
)
def test_every_run_gives_the_same_bits_on_any_number_of_threads(threads, dtype, group, depth):
    call = arguments(group=group)
    drawn = tensors(2, 11, 13, group * depth, call, dtype=dtype)
    threads(1)
    expected = results(dcnv3_cpu, *drawn, **call)
    for number in (1, 2, 3, 8, 64):
        threads(number)
        for _ in range(3):
            got = results(dcnv3_cpu, *drawn, **call)
            assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_calls_from_several_threads_at_once_do_not_disturb_each_other(threads):
    threads(2)
    call = arguments()
    cases = [tensors(1, 9, 12, 8, call, dtype=torch.float32, seed=seed) for seed in range(8)]
    expected = [results(dcnv3_cpu, *case, **call) for case in cases]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for got, want in zip(
                pool.map(lambda case: results(dcnv3_cpu, *case, **call), cases), expected, strict=True
            ):
                assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


def compute_in_child(connection, case, call):
    connection.send([t.numpy() for t in results(dcnv3_cpu, *case, **call)])


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_computes_too(threads):
    threads(2)
    call = arguments()
    case = tensors(1, 9, 12, 8, call, dtype=torch.float32)
    expected = results(dcnv3_cpu, *case, **call)
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=compute_in_child, args=(there, case, call), daemon=True)
    child.start()
    assert here.poll(30), "the child hangs"
    for a, b in zip(here.recv(), expected, strict=True):
        assert torch.equal(torch.from_numpy(a), b)
    child.join(10)
    assert child.exitcode == 0


@pytest.mark.parametrize("shape", [(32, 16), (16, 32), tried((16, 16), by_day=False)], ids=str)
def test_processors_with_shorter_vectors_get_the_same_results(monkeypatch, shape):
    monkeypatch.setattr(jit, "_addresses", {})
    sources = jit._sources()
    monkeypatch.setattr(jit, "_sources", lambda: f"{sources} with shorter vectors {shape}")
    for module in (jit, sampling_call):
        monkeypatch.setattr(module, "target", lambda: processor.VectorUnit(*shape))
    call = arguments(group=2)
    for dtype in (torch.float32, torch.float16):
        assert_within_rounding(*tensors(1, 7, 11, 32, call, dtype=dtype), **call)


# --- As an operation of torch -----------------------------------------------------------------------------------


def test_the_operations_keep_torchs_rules():
    call = arguments()
    x, offset, mask, grad = tensors(1, 4, 5, 8, call, dtype=torch.float32)
    inputs = [t.clone().requires_grad_() for t in (x, offset, mask)]
    opcheck(torch.ops.opbench.dcnv3_cpu.default, (*inputs, *call.values()))
    for wanted in ([True, True, True], [True, False, False], [False, True, True]):
        opcheck(torch.ops.opbench.dcnv3_cpu_backward.default, (grad, x, offset, mask, *call.values(), wanted))


def test_it_is_exported_as_one_operation():
    call = arguments()

    class Core(torch.nn.Module):
        def forward(self, x, offset, mask):
            return dcnv3_cpu(x, offset, mask, **call)

    inputs = tensors(1, 4, 5, 8, call)[:3]
    program = torch.export.export(Core(), inputs)
    assert [node.target for node in program.graph.nodes if node.op == "call_function"] == [
        torch.ops.opbench.dcnv3_cpu.default
    ]
    assert torch.equal(program.module()(*inputs), dcnv3_cpu(*inputs, **call))


@pytest.mark.slow
def test_a_compiled_graph_holds_it_whole():
    call = arguments()

    def network(x, offset, mask):
        return dcnv3_cpu(x * 2, offset, mask.softmax(-1), **call).relu()

    drawn = tensors(1, 5, 6, 8, call, dtype=torch.float32)
    expected = results(network, *drawn)
    got = results(torch.compile(network, fullgraph=True), *drawn)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_under_autocast_inputs_meet_in_the_widest_of_their_dtypes():
    call = arguments()
    x, offset, mask, _ = tensors(1, 4, 5, 8, call, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = dcnv3_cpu(x.bfloat16(), offset, mask.bfloat16(), **call)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, dcnv3_cpu(x.bfloat16().float(), offset, mask.bfloat16().float(), **call))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"offset": torch.zeros(1, 4, 4, 36)}, ValueError, r"offset is \(1, 4, 4, 36\); expected \(1, 4, 5, 36\)"),
        ({"mask": torch.zeros(1, 4, 5, 9)}, ValueError, r"mask is \(1, 4, 5, 9\); expected \(1, 4, 5, 18\)"),
        ({"mask": torch.zeros(1, 4, 5, 18).double()}, TypeError, "one floating dtype"),
        ({"x": torch.zeros(4, 5, 8)}, ValueError, r"expected \(N, H, W, C\)"),
        ({"group": 3}, ValueError, "divisible by group 3"),
        ({"kernel_size": 2, "remove_center": True}, ValueError, "odd kernel_size"),
        ({"stride": 0}, ValueError, "stride 0"),
        ({"pad": 0, "dilation": 3}, ValueError, "at least 7"),
    ],
)
def test_inputs_that_do_not_fit_together_are_refused(change, error, message):
    call = arguments()
    x, offset, mask, _ = tensors(1, 4, 5, 8, call, dtype=torch.float32)
    with pytest.raises(error, match=message):
        dcnv3_cpu(**{"x": x, "offset": offset, "mask": mask, **call, **change})
