"""CARAFE on the CPU is the definition, in every dtype and memory format, on any number of threads, and repeatable."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from by_day import first_by_day, tried
from formulas_by_loops import reassembly_by_loops
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.library import opcheck

from opbench.kernels.cpu import carafe as cpu_carafe
from opbench.kernels.cpu import jit, processor
from opbench.kernels.cpu.carafe import carafe_cpu
from opbench.operators.carafe.definition import reassembly

EPS = {torch.float64: 2.0**-52, torch.float32: 2.0**-23, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}
FORMATS = {"first": torch.contiguous_format, "last": torch.channels_last}
FEW = settings(max_examples=settings.default.max_examples // 4)


def arguments(k, g, s):
    return {"kernel_size": k, "group_size": g, "scale_factor": s}


def tensors(n, c, h, w, k, g, s, *, dtype=torch.float64, format="first", seed=0):
    """x, mask and the output's gradient."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, c, h, w, generator=generator)
    mask = torch.randn(n, g * k * k, s * h, s * w, generator=generator)
    grad = torch.randn(n, c, s * h, s * w, generator=generator)
    x, grad = (t.to(dtype).contiguous(memory_format=FORMATS[format]) for t in (x, grad))
    return x, mask.to(dtype), grad


def results(core, x, mask, grad, **settings):
    """The output, and the gradients of x and mask."""
    x, mask = x.detach().requires_grad_(), mask.detach().requires_grad_()
    out = core(x, mask, **settings)
    return out.detach(), *torch.autograd.grad(out, (x, mask), grad)


def assert_within_rounding(x, mask, grad, **settings):
    """Each result is within a few roundings of the terms it sums, and of itself, of the definition."""
    got = results(carafe_cpu, x, mask, grad, **settings)
    inputs = [t.double().contiguous() for t in (x, mask, grad)]
    expected = results(reassembly, *inputs, **settings)
    totals = results(reassembly, *(t.abs() for t in inputs), **settings)
    summed_in = EPS[torch.float64 if x.dtype == torch.float64 else torch.float32]
    for name, a, b, total in zip(("out", "grad x", "grad mask"), got, expected, totals, strict=True):
        assert a.dtype == x.dtype
        bound = 8 * summed_in * total + EPS[x.dtype] * b.abs() + torch.finfo(x.dtype).tiny
        worst = ((a.double() - b).abs() / bound).max().item() if a.numel() else 0.0
        assert worst <= 1, f"{name} is off by {worst:.3g} times its bound for x {tuple(x.shape)} and {settings}"


# --- What it computes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_a_tiny_case_is_the_formula_read_aloud(format):
    x, mask, _ = tensors(2, 4, 3, 5, 3, 2, 2, format=format)
    expected = reassembly_by_loops(x, mask, **arguments(3, 2, 2))
    torch.testing.assert_close(carafe_cpu(x, mask, **arguments(3, 2, 2)), expected, rtol=1e-13, atol=1e-13)


@FEW
@given(st.data())
def test_results_and_gradients_are_the_definitions(data):
    """Sizes around the vectors' lengths, images smaller than the window, channels that no vector divides."""
    format = data.draw(st.sampled_from(list(FORMATS)))
    k, s, dtype = data.draw(st.sampled_from([(3, 1, torch.float32), (5, 2, torch.float64), (3, 3, torch.float32)]))
    g = data.draw(st.integers(1, 3))
    c = g * data.draw(st.sampled_from([1, 6, 16] if format == "last" else [1, 3, 4, 9]))
    n, h = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 4))
    w = data.draw(st.one_of(st.integers(1, 6), st.sampled_from([7, 8, 9, 15, 16, 17, 31, 33, 64, 70])))
    drawn = tensors(n, c, h, w, k, g, s, dtype=dtype, format=format, seed=data.draw(st.integers(0, 99)))
    assert_within_rounding(*drawn, **arguments(k, g, s))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("k", "s", "w"),
    [(5, 2, 200), (7, 4, 40), (5, 5, 9), (35, 1, 20)],
)
def test_large_windows_and_scales_and_rows_that_take_several_tiles(k, s, w, format):
    drawn = tensors(1, 5, 3, w, k, 1, s, dtype=torch.float32, format=format)
    assert_within_rounding(*drawn, **arguments(k, 1, s))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("w", [5, 32])
def test_narrow_dtypes_are_summed_in_float32(dtype, format, w):
    drawn = tensors(1, 64, 9, w, 5, 2, 2, dtype=dtype, format=format)
    assert_within_rounding(*drawn, **arguments(5, 2, 2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("format", FORMATS)
def test_every_narrow_number_passes_unchanged_and_products_round_to_nearest_even(dtype, format):
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int16)
    x = bits.view(dtype).reshape(1, 256, 16, 16).contiguous(memory_format=FORMATS[format])
    for factor in (1.0, 1.3):
        mask = torch.full((1, 1, 16, 16), factor, dtype=dtype)
        out = carafe_cpu(x, mask, **arguments(1, 1, 1))
        expected = (x.float() * mask.float()).to(dtype)
        assert torch.equal(out.isnan(), expected.isnan())
        assert torch.equal(out.nan_to_num(0.0), expected.nan_to_num(0.0))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_tap_outside_the_image_contributes_nothing_whatever_the_mask_holds(format, bad):
    k, g, s, h, w = 5, 2, 2, 3, 18
    x, mask, grad = tensors(1, 8, h, w, k, g, s, dtype=torch.float32, format=format)
    column = torch.arange(s * w) // s + torch.arange(k).unsqueeze(1) - k // 2
    row = torch.arange(s * h) // s + torch.arange(k).unsqueeze(1) - k // 2
    inside = ((row >= 0) & (row < h)).view(k, 1, s * h, 1) & ((column >= 0) & (column < w)).view(1, k, 1, s * w)
    outside = ~inside.expand(g, k, k, s * h, s * w).reshape(1, g * k * k, s * h, s * w)
    clean, dirty = mask.masked_fill(outside, 0.0), mask.masked_fill(outside, bad)
    expected = results(carafe_cpu, x, clean, grad, **arguments(k, g, s))
    got = results(carafe_cpu, x, dirty, grad, **arguments(k, g, s))
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b)
    assert not got[2][outside].any()


@pytest.mark.parametrize("format", FORMATS)
def test_an_infinite_pixel_reaches_the_windows_that_hold_it_and_no_other(format):
    x, mask, _ = tensors(1, 4, 5, 40, 3, 1, 2, dtype=torch.float32, format=format)
    x[0, 1, 2, 20] = float("inf")
    hit = ~carafe_cpu(x, mask.abs() + 0.1, **arguments(3, 1, 2)).isfinite()
    expected = torch.zeros_like(hit)
    expected[0, 1, 2:8, 38:44] = True
    assert torch.equal(hit, expected)


@pytest.mark.parametrize("format", FORMATS)
def test_gradients_are_those_of_finite_differences(format):
    x, mask, _ = tensors(1, 4, 3, 4, 3, 2, 2, format=format)
    assert torch.autograd.gradcheck(
        lambda x, mask: carafe_cpu(x, mask, **arguments(3, 2, 2)), (x.requires_grad_(), mask.requires_grad_())
    )


@pytest.mark.parametrize(("needs_x", "needs_mask"), [(True, False), (False, True)])
def test_only_the_gradients_asked_for_are_made(needs_x, needs_mask):
    x, mask, grad = tensors(1, 4, 3, 4, 3, 1, 2)
    both = torch.ops.opbench.carafe_cpu_backward(grad, x, mask, 3, 1, 2, [True, True])
    some = torch.ops.opbench.carafe_cpu_backward(grad, x, mask, 3, 1, 2, [needs_x, needs_mask])
    for wanted, a, b in zip((needs_x, needs_mask), some, both, strict=True):
        assert torch.equal(a, b) if wanted else a.numel() == 0
    x.requires_grad_(needs_x)
    mask.requires_grad_(needs_mask)
    carafe_cpu(x, mask, **arguments(3, 1, 2)).backward(grad)
    assert (x.grad is not None, mask.grad is not None) == (needs_x, needs_mask)


# --- Memory formats and strides ---------------------------------------------------------------------------------


def test_both_memory_formats_give_the_same_bits_and_the_output_follows_x():
    x, mask, _ = tensors(2, 32, 5, 19, 5, 2, 2, dtype=torch.float32)
    first = carafe_cpu(x, mask, **arguments(5, 2, 2))
    last = carafe_cpu(x.contiguous(memory_format=torch.channels_last), mask, **arguments(5, 2, 2))
    assert first.is_contiguous()
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(first, last)


def strided(t, how):
    """The same values behind other strides."""
    n, c, h, w = t.shape
    if how == "slice":
        return torch.zeros(n + 1, c + 2, h + 3, w + 5)[1:, 1:-1, 2:-1, 3:-2].copy_(t)
    if how == "slice of channels-last":
        return torch.zeros(n, h + 2, w + 1, c + 3)[:, 1:-1, 1:, 1:-2].permute(0, 3, 1, 2).copy_(t)
    if how == "every other":
        return torch.zeros(n, c, h, 2 * w)[..., ::2].copy_(t)
    if how == "transposed":
        return t.transpose(2, 3).contiguous().transpose(2, 3)
    return t.contiguous(memory_format=torch.channels_last)


HOW = ("slice", "slice of channels-last", "every other", "transposed", "channels-last")


@pytest.mark.parametrize("what", ["x", "mask", "grad"])
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("format", FORMATS)
def test_strides_change_nothing(what, how, format):
    drawn = dict(
        zip(("x", "mask", "grad"), tensors(2, 6, 4, 19, 3, 1, 2, dtype=torch.float32, format=format), strict=True)
    )
    expected = results(carafe_cpu, *drawn.values(), **arguments(3, 1, 2))
    drawn[what] = strided(drawn[what], how)
    got = results(carafe_cpu, *drawn.values(), **arguments(3, 1, 2))
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_a_gradient_of_one_repeated_number_is_taken():
    x, mask, grad = tensors(1, 4, 3, 5, 3, 1, 2)
    got = results(carafe_cpu, x, mask, torch.tensor(1.0, dtype=torch.float64).expand_as(grad), **arguments(3, 1, 2))
    expected = results(carafe_cpu, x, mask, torch.ones_like(grad), **arguments(3, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("w", [32, 37])
def test_an_output_too_large_for_the_caches_is_the_same(monkeypatch, format, w):
    x, mask, _ = tensors(1, 32, 9, w, 3, 1, 2, dtype=torch.float32, format=format)
    expected = carafe_cpu(x, mask, **arguments(3, 1, 2))
    monkeypatch.setattr(cpu_carafe, "STREAM_FROM", 0)
    assert torch.equal(carafe_cpu(x, mask, **arguments(3, 1, 2)), expected)


@pytest.mark.parametrize("shape", [(0, 4, 3, 3), (1, 0, 3, 3), (1, 4, 0, 3), (1, 4, 3, 0), (1, 4, 1, 1)])
@pytest.mark.parametrize("format", FORMATS)
def test_empty_and_smallest_inputs(shape, format):
    drawn = tensors(*shape, 3, 2, 2, dtype=torch.float32, format=format)
    out, grad_x, grad_mask = results(carafe_cpu, *drawn, **arguments(3, 2, 2))
    assert (out.shape, grad_x.shape, grad_mask.shape) == (drawn[2].shape, drawn[0].shape, drawn[1].shape)
    assert not grad_mask.isnan().any()
    if drawn[0].numel():
        assert_within_rounding(*drawn, **arguments(3, 2, 2))


def test_inputs_are_not_written_to():
    drawn = tensors(1, 6, 3, 9, 3, 1, 2)
    before = [t.clone() for t in drawn]
    results(carafe_cpu, *drawn, **arguments(3, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(drawn, before, strict=True))


# --- Threads, processes, repeatability --------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("dtype", first_by_day((torch.float32, torch.bfloat16, torch.float64)))
def test_every_run_gives_the_same_bits_on_any_number_of_threads(threads, dtype, format):
    drawn = tensors(2, 48, 23, 37, 5, 2, 2, dtype=dtype, format=format)
    threads(1)
    expected = results(carafe_cpu, *drawn, **arguments(5, 2, 2))
    for number in (1, 2, 3, 8, 64):
        threads(number)
        for _ in range(3):
            got = results(carafe_cpu, *drawn, **arguments(5, 2, 2))
            assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_calls_from_several_threads_at_once_do_not_disturb_each_other(threads):
    threads(2)
    cases = [tensors(1, 8, 9, 33, 3, 1, 2, dtype=torch.float32, seed=seed) for seed in range(8)]
    expected = [results(carafe_cpu, *case, **arguments(3, 1, 2)) for case in cases]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for got, want in zip(
                pool.map(lambda case: results(carafe_cpu, *case, **arguments(3, 1, 2)), cases), expected, strict=True
            ):
                assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


def compute_in_child(connection, case):
    connection.send([t.numpy() for t in results(carafe_cpu, *case, **arguments(3, 1, 2))])


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_computes_too(threads):
    threads(2)
    case = tensors(1, 8, 9, 33, 3, 1, 2, dtype=torch.float32)
    expected = results(carafe_cpu, *case, **arguments(3, 1, 2))
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=compute_in_child, args=(there, case), daemon=True)
    child.start()
    assert here.poll(30), "the child hangs"
    for a, b in zip(here.recv(), expected, strict=True):
        assert torch.equal(torch.from_numpy(a), b)
    child.join(10)
    assert child.exitcode == 0


@pytest.mark.parametrize("shape", [(32, 16), (16, 32), tried((16, 16), by_day=False)], ids=str)
@pytest.mark.parametrize("format", FORMATS)
def test_processors_with_shorter_vectors_get_the_same_results(monkeypatch, shape, format):
    monkeypatch.setattr(jit, "_addresses", {})
    sources = jit._sources()
    monkeypatch.setattr(jit, "_sources", lambda: f"{sources} with shorter vectors {shape}")
    for module in (jit, cpu_carafe):
        monkeypatch.setattr(module, "target", lambda: processor.VectorUnit(*shape))
    drawn = tensors(1, 12, 4, 21, 5, 1, 2, dtype=torch.bfloat16, format=format)
    assert_within_rounding(*drawn, **arguments(5, 1, 2))


# --- As an operation of torch -----------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_the_operations_keep_torchs_rules(format):
    x, mask, grad = tensors(2, 8, 3, 5, 3, 2, 2, dtype=torch.float32, format=format)
    opcheck(torch.ops.opbench.carafe_cpu.default, (x.requires_grad_(), mask.requires_grad_(), 3, 2, 2))
    for wanted in ([True, True], [True, False], [False, True]):
        opcheck(torch.ops.opbench.carafe_cpu_backward.default, (grad, x.detach(), mask.detach(), 3, 2, 2, wanted))


def test_it_is_exported_as_one_operation():
    class Core(torch.nn.Module):
        def forward(self, x, mask):
            return carafe_cpu(x, mask, **arguments(3, 1, 2))

    x, mask, _ = tensors(1, 4, 3, 5, 3, 1, 2)
    program = torch.export.export(Core(), (x, mask))
    assert [node.target for node in program.graph.nodes if node.op == "call_function"] == [
        torch.ops.opbench.carafe_cpu.default
    ]
    assert torch.equal(program.module()(x, mask), carafe_cpu(x, mask, **arguments(3, 1, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_a_compiled_graph_holds_it_whole(format):
    def network(x, mask):
        return carafe_cpu(x * 2, mask.softmax(1), **arguments(3, 1, 2)).relu()

    drawn = tensors(1, 8, 5, 6, 3, 1, 2, dtype=torch.float32, format=format)
    compiled = torch.compile(network, fullgraph=True)
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            expected, got = results(network, *drawn), results(compiled, *drawn)
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_under_autocast_inputs_meet_in_the_widest_of_their_dtypes():
    x, mask, _ = tensors(1, 4, 3, 5, 3, 1, 2, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = carafe_cpu(x.bfloat16(), mask, **arguments(3, 1, 2))
        narrow = carafe_cpu(x.bfloat16(), mask.bfloat16(), **arguments(3, 1, 2))
    assert mixed.dtype == torch.float32
    assert narrow.dtype == torch.bfloat16
    assert torch.equal(mixed, carafe_cpu(x.bfloat16().float(), mask, **arguments(3, 1, 2)))
    x.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        carafe_cpu(x, mask.bfloat16(), **arguments(3, 1, 2)).sum().backward()
    assert x.grad.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"mask": torch.zeros(1, 9, 6, 9)}, ValueError, r"mask is \(1, 9, 6, 9\); expected \(1, 9, 6, 10\)"),
        ({"mask": torch.zeros(1, 9, 6, 10).double()}, TypeError, "one floating dtype"),
        ({"x": torch.zeros(4, 3, 5)}, ValueError, r"expected \(N, C, H, W\)"),
        ({"kernel_size": 2}, ValueError, "odd kernel_size"),
        ({"scale_factor": 0}, ValueError, "scale_factor 0"),
        ({"group_size": 3}, ValueError, "divisible by group_size 3"),
    ],
)
def test_inputs_that_do_not_fit_together_are_refused(change, error, message):
    x, mask, _ = tensors(1, 4, 3, 5, 3, 1, 2, dtype=torch.float32)
    with pytest.raises(error, match=message):
        carafe_cpu(**{"x": x, "mask": mask, **arguments(3, 1, 2), **change})
