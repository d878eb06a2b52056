"""The Triton kernels on a CUDA device: the definition at the sizes of networks, every relation, graphs, repeats."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from falsify import assert_holds

from opbench.kernels.dcnv4_packed import pack
from opbench.kernels.triton import launch as triton_launch
from opbench.kernels.triton.carafe import carafe_triton, carafe_triton_logits
from opbench.kernels.triton.dcnv3 import dcnv3_triton, dcnv3_triton_logits
from opbench.kernels.triton.dcnv4 import dcnv4_triton
from opbench.kernels.triton.dysample import dysample_triton
from opbench.operators.carafe.definition import reassembly
from opbench.operators.carafe.relations import RELATIONS as CARAFE_RELATIONS
from opbench.operators.dcnv3.definition import dcnv3_definition
from opbench.operators.dcnv3.relations import RELATIONS as DCNV3_RELATIONS
from opbench.operators.dcnv4.definition import dcnv4_definition
from opbench.operators.dysample.definition import sampling
from opbench.relations import Space

pytestmark = pytest.mark.gpu

EPS = {torch.float64: 2.0**-52, torch.float32: 2.0**-23, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}
FORMATS = {"first": torch.contiguous_format, "last": torch.channels_last}
CARAFE = {"kernel_size": 5, "group_size": 1, "scale_factor": 2}
DCNV3 = {
    "kernel_size": 3,
    "stride": 1,
    "pad": 1,
    "dilation": 1,
    "group": 4,
    "offset_scale": 1.0,
    "remove_center": False,
}


def deterministic(x, offset, mask, **call):
    return dcnv3_triton(x, offset, mask, **call, deterministic=True)


def results(core, inputs, grad, **call):
    """The output, and the gradients of the inputs."""
    inputs = [t.detach().requires_grad_() for t in inputs]
    out = core(*inputs, **call)
    return out.detach(), *torch.autograd.grad(out, inputs, grad)


def assert_close(got, expected, totals, dtype):
    """Within 32 roundings of the terms that were summed, and one of the result."""
    summed_in = EPS[torch.float64 if dtype == torch.float64 else torch.float32]
    for name, (a, b, total) in enumerate(zip(got, expected, totals, strict=True)):
        assert a.dtype == dtype
        bound = 32 * summed_in * total + EPS[dtype] * b.abs() + torch.finfo(dtype).tiny
        worst = ((a.double() - b).abs() / bound).max().item()
        assert worst <= 1, f"result {name} is off by {worst:.3g} times its bound"


def carafe_tensors(shape, dtype, format, *, logits=False):
    n, c, h, w = shape
    generator = torch.Generator("cuda").manual_seed(0)
    like = {"device": "cuda", "generator": generator}
    x, grad = torch.randn(shape, **like), torch.randn(n, c, 2 * h, 2 * w, **like)
    mask = torch.randn((n, 100, h, w) if logits else (n, 25, 2 * h, 2 * w), **like)
    x, grad = (t.to(dtype).contiguous(memory_format=FORMATS[format]) for t in (x, grad))
    return x, mask.to(dtype), grad


def softmaxed(x, logits, **call):
    return reassembly(x, F.pixel_shuffle(logits, 2).softmax(1), **call)


@pytest.mark.parametrize("shape", [(16, 256, 80, 80), (2, 70, 33, 57), (1, 320, 20, 20)], ids=str)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("dtype", EPS, ids=str)
def test_carafe_is_the_definition(dtype, format, shape):
    """Image by image: the definition takes float64 windows of the whole."""
    x, mask, grad = carafe_tensors(shape, dtype, format)
    got = results(carafe_triton, (x, mask), grad, **CARAFE)
    assert got[0].stride() == grad.stride()
    for n in range(shape[0]):
        image = [t[n : n + 1].double().contiguous() for t in (x, mask, grad)]
        expected = results(reassembly, image[:2], image[2], **CARAFE)
        sizes = [t.abs() for t in image]
        totals = results(reassembly, sizes[:2], sizes[2], **CARAFE)
        assert_close([t[n : n + 1] for t in got], expected, totals, dtype)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("dtype", EPS, ids=str)
def test_carafe_from_logits_is_softmax_and_the_definition(dtype, format):
    x, logits, grad = carafe_tensors((2, 256, 40, 40), dtype, format, logits=True)
    got = results(carafe_triton_logits, (x, logits), grad, **CARAFE)
    exact = [t.double().contiguous() for t in (x, logits, grad)]
    expected = results(softmaxed, exact[:2], exact[2], **CARAFE)
    assert_close(got, expected, [t.abs().amax() for t in expected], dtype)


def dcnv3_tensors(shape, dtype, spread, group=4):
    """Locations keep a sixteenth of a pixel off whole ones, where derivatives jump."""
    n, h, w, c = shape
    like = {"device": "cuda", "generator": torch.Generator("cuda").manual_seed(0)}
    offset = (torch.randn(n, h, w, group * 18, **like) * spread * 8).round() / 8 + 1 / 16
    x, grad, mask = (torch.randn(n, h, w, d, **like) for d in (c, c, group * 9))
    return tuple(t.to(dtype) for t in (x, offset, mask, grad))


@pytest.mark.parametrize("core", [dcnv3_triton, deterministic])
@pytest.mark.parametrize("spread", [0.0, 2.0, 8.0])
@pytest.mark.parametrize("shape", [(64, 56, 56, 128), (2, 33, 29, 20)], ids=str)
@pytest.mark.parametrize("dtype", EPS, ids=str)
def test_dcnv3_is_the_definition(dtype, shape, spread, core):
    x, offset, mask, grad = dcnv3_tensors(shape, dtype, spread)
    got = results(core, (x, offset, mask), grad, **DCNV3)
    for n in range(shape[0]):
        image = [t[n : n + 1].double() for t in (x, offset, mask, grad)]
        expected = results(dcnv3_definition, image[:3], image[3], **DCNV3)
        # Sums have up to 4 * C / G terms for offsets, and as many as samples reach a pixel for x.
        totals = [16 * t.abs().amax() for t in expected]
        assert_close([t[n : n + 1] for t in got], expected, totals, dtype)


@pytest.mark.parametrize("dtype", EPS, ids=str)
def test_dcnv3_from_logits_is_softmax_and_the_definition(dtype):
    def unfused(x, offset, logits, **call):
        return dcnv3_definition(x, offset, logits.unflatten(3, (4, 9)).softmax(4).flatten(3), **call)

    x, offset, logits, grad = dcnv3_tensors((2, 28, 28, 64), dtype, 2.0)
    got = results(dcnv3_triton_logits, (x, offset, logits), grad, **DCNV3)
    expected = results(unfused, [t.double() for t in (x, offset, logits)], grad.double(), **DCNV3)
    assert_close(got, expected, [16 * t.abs().amax() for t in expected], dtype)


@pytest.mark.parametrize("deterministic", [False, True], ids=["atomics", "deterministic"])
@pytest.mark.parametrize("dtype", EPS, ids=str)
def test_dcnv4_is_the_definition(dtype, deterministic):
    x, offset, mask, grad = dcnv3_tensors((2, 33, 29, 64), dtype, 2.0)
    packed = pack(offset, mask, 4)
    got = results(dcnv4_triton, (x, packed), grad, **DCNV3, deterministic=deterministic)
    expected = results(dcnv4_definition, [x.double(), packed.double()], grad.double(), **DCNV3)
    assert_close(got, expected, [16 * t.abs().amax() for t in expected], dtype)


@pytest.mark.parametrize("deterministic", [False, True], ids=["atomics", "deterministic"])
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("dtype", EPS, ids=str)
def test_dysample_is_the_definition(dtype, format, deterministic):
    n, c, h, w = 2, 64, 33, 29
    like = {"device": "cuda", "generator": torch.Generator("cuda").manual_seed(0)}
    x, grad = torch.randn(n, c, h, w, **like), torch.randn(n, c, 2 * h, 2 * w, **like)
    x, grad = (t.to(dtype).contiguous(memory_format=FORMATS[format]) for t in (x, grad))
    offset = (torch.randn(n, 32, h, w, **like) * 16).round() / 8 + 1 / 16
    offset = offset.to(torch.promote_types(dtype, torch.float32))
    call = {"scale": 2, "groups": 4}
    out, grad_x, grad_offset = results(dysample_triton, (x, offset), grad, **call, deterministic=deterministic)
    assert out.stride() == grad.stride()
    expected = results(sampling, [t.double().contiguous() for t in (x, offset)], grad.double().contiguous(), **call)
    totals = [16 * t.abs().amax() for t in expected]
    assert_close((out, grad_x), expected[:2], totals[:2], dtype)
    assert_close((grad_offset,), expected[2:], totals[2:], offset.dtype)


# Every example has shapes of its own and so compiles kernels of its own: a few of each relation, in the dtypes that sum
# in their own precision and in a wider one, by the first tiles. Triton's interpreter runs many more of them, on a CPU.
EXAMPLES = 3


@pytest.mark.usefixtures("first_tiles")
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("relation", CARAFE_RELATIONS, ids=lambda relation: relation.name)
def test_carafe_meets_every_relation(relation, dtype):
    assert_holds(relation, carafe_triton, Space(dtype, device="cuda"), number=EXAMPLES)


@pytest.mark.usefixtures("first_tiles")
@pytest.mark.parametrize(
    ("core", "dtype"),
    [(dcnv3_triton, "float32"), (dcnv3_triton, "float16"), (deterministic, "float32")],
    ids=["float32", "float16", "deterministic-float32"],
)
@pytest.mark.parametrize("relation", DCNV3_RELATIONS, ids=lambda relation: relation.name)
def test_dcnv3_meets_every_relation(relation, dtype, core):
    if relation.name == "repeatable-gradients" and core is dcnv3_triton:
        pytest.skip("x's gradient is added up by atomics: repeatable with deterministic=True")
    assert_holds(relation, core, Space(dtype, device="cuda"), number=EXAMPLES)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e30, -1e30, 2.0**31])
def test_no_offset_reads_or_writes_out_of_bounds(bad):
    x, offset, mask, grad = dcnv3_tensors((2, 9, 7, 16), torch.float32, 2.0)
    offset[:, ::2] = bad
    for core in (dcnv3_triton, deterministic):
        got = results(core, (x, offset, mask), grad, **DCNV3)
        torch.cuda.synchronize()
        assert not got[0][:, ::2].any()
        assert not got[2][:, ::2].any()
        assert all(t.isfinite().all() for t in got)


@pytest.mark.parametrize("format", FORMATS)
def test_two_backward_passes_agree_bit_for_bit(format):
    x, mask, grad = carafe_tensors((4, 64, 40, 40), torch.float32, format)
    first, second = (results(carafe_triton, (x, mask), grad, **CARAFE) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    drawn = dcnv3_tensors((4, 40, 40, 64), torch.float32, 0.5)
    first, second = (results(deterministic, drawn[:3], drawn[3], **DCNV3) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    first, second = (results(dcnv3_triton, drawn[:3], drawn[3], **DCNV3) for _ in range(2))
    assert all(torch.equal(a, b) for i, (a, b) in enumerate(zip(first, second, strict=True)) if i != 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_whatever_tiles_are_chosen_outputs_are_the_same_bits_and_sums_over_channels_close(dtype, monkeypatch):
    """But for x's gradient by atomics. Tiles share a group's channels out differently: so are these added up."""
    found, summed = [], []
    for which in range(3):
        monkeypatch.setattr(triton_launch, "_choice", lambda kernel, tiles, *_, n=which: tiles[min(n, len(tiles) - 1)])
        one, sums = [], []
        for format in FORMATS:
            x, mask, grad = carafe_tensors((2, 96, 24, 40), dtype, format)
            output, grad_x, grad_mask = results(carafe_triton, (x, mask), grad, **CARAFE)
            one += [output, grad_x]
            sums.append(grad_mask)
        drawn = dcnv3_tensors((2, 24, 40, 96), dtype, 2.0)
        output, _, *others = results(dcnv3_triton, drawn[:3], drawn[3], **DCNV3)
        found.append([*one, output])
        summed.append([*sums, *others])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))
    for other in summed[1:]:
        for a, b in zip(summed[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=4 * EPS[dtype], atol=96 * EPS[torch.float32] * a.abs().max().item())


def test_a_captured_graph_takes_the_tiles_that_were_chosen(monkeypatch):
    x, mask, _ = carafe_tensors((1, 64, 20, 20), torch.float32, "first")
    carafe_triton(x, mask, **CARAFE)
    assert any(choice.startswith("forward float32: ") for choice in triton_launch.choices())
    key = list(triton_launch._chosen)[-1]
    marked = dataclasses.replace(triton_launch._chosen[key], warps=2)
    monkeypatch.setitem(triton_launch._chosen, key, marked)
    carafe_triton(x, mask, **CARAFE)  # compiled before the capture
    taken = []
    chosen = triton_launch._choice
    monkeypatch.setattr(triton_launch, "_choice", lambda *call: taken.append(chosen(*call)) or taken[-1])
    with torch.cuda.graph(torch.cuda.CUDAGraph()):
        carafe_triton(x, mask, **CARAFE)
    assert taken == [marked]


def test_a_captured_graph_replays():
    """Tiles were never chosen for this size: capture takes the first candidate and times nothing."""
    x, mask, _ = carafe_tensors((1, 48, 17, 19), torch.float32, "first")
    expected = reassembly(x.double(), mask.double(), **CARAFE)
    carafe_triton(x[:, :, :16], mask[:, :, :32], **CARAFE)  # compilation does not belong into a capture
    graph = torch.cuda.CUDAGraph()
    out = carafe_triton(x, mask, **CARAFE)
    with torch.cuda.graph(graph):
        out = carafe_triton(x, mask, **CARAFE)
    out.zero_()
    graph.replay()
    torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-4)


def test_a_compiled_network_holds_the_kernels_whole():
    x, mask, grad = carafe_tensors((1, 32, 20, 20), torch.float32, "last")

    def network(x, mask):
        return carafe_triton(x * 2, mask.softmax(1), **CARAFE).relu()

    expected = results(network, (x, mask), grad)
    got = results(torch.compile(network, fullgraph=True), (x, mask), grad)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_an_image_of_more_than_2_to_the_31_elements():
    """64-bit places; values are those of a crop, which needs none."""
    if torch.cuda.mem_get_info()[0] < 40 << 30:
        pytest.skip("needs 40 GiB of free GPU memory")
    call = {"kernel_size": 1, "group_size": 1, "scale_factor": 2}
    h, w = 2**13, 2**13
    x = torch.randn(1, 9, h, w, device="cuda", dtype=torch.float16)
    mask = torch.randn(1, 1, 2 * h, 2 * w, device="cuda", dtype=torch.float16)
    out = carafe_triton(x, mask, **call)
    crop = carafe_triton(x[:, :, -64:].contiguous(), mask[:, :, -128:].contiguous(), **call)
    assert torch.equal(out[:, :, -128:], crop)
