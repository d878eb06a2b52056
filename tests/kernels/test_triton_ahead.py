"""What Triton makes of the kernels for GPUs that aren't here: no spills, and 16 bytes a load where it can be."""

import pytest
import torch
from ahead import CAPABILITIES, compiled, recorded
from gpu_facts import machine_code

from opbench.kernels.triton import carafe as triton_carafe
from opbench.kernels.triton import dcnv4 as triton_dcnv4
from opbench.kernels.triton import dysample as triton_dysample
from opbench.kernels.triton import gathering, sampling_call

pytest.importorskip("triton", reason="triton is not installed")

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
FORMATS = {"first": torch.contiguous_format, "last": torch.channels_last}
# Loads and stores of 16 bytes.
LOAD, STORE = (rf"{access}\.global\S*\.(v4\.b32|v2\.b64)" for access in ("ld", "st"))


@pytest.fixture
def carafe(monkeypatch):
    """Every launch of CARAFE's forward and backward."""

    def launches(dtype, format, *, shape=(16, 256, 80, 80), k=5, g=1, s=2, logits=False):
        n, c, h, w = shape
        x, out = (
            torch.empty((n, c, f * h, f * w), dtype=dtype, device="meta", memory_format=FORMATS[format]) for f in (1, s)
        )
        masked = (n, g * k * k * s * s, h, w) if logits else (n, g * k * k, s * h, s * w)
        mask = torch.empty(masked, dtype=dtype, device="meta")
        call = triton_carafe._Call(x, mask, (k, g, s), logits)
        stats = triton_carafe._stats(x, g, s) if logits else None

        def work():
            call.forward(out, stats)
            call.grad_x(out, torch.empty_like(x), stats)
            call.grad_mask(out, torch.empty_like(mask), stats)

        return recorded(monkeypatch, [triton_carafe], work)

    return launches


@pytest.fixture
def dcnv3(monkeypatch):
    """Every launch of DCNv3's forward and both ways of backward."""

    def launches(dtype, *, shape=(64, 56, 56, 128), g=4, logits=False):
        n, h, w, _ = shape
        x = torch.empty(shape, dtype=dtype, device="meta")
        offset, mask = (torch.empty((n, h, w, g, d), dtype=dtype, device="meta") for d in (18, 9))
        return sampling_launches(monkeypatch, x, offset, mask, (3, 1, 1, 1, g, 1.0, False), logits)

    return launches


@pytest.fixture
def dcnv4(monkeypatch):
    """Every launch of DCNv4's: offsets and masks are parts of one tensor."""

    def launches(dtype, *, shape=(64, 56, 56, 128), g=4, logits=False, remove_center=False):
        n, h, w, _ = shape
        points = 9 - remove_center
        x = torch.empty(shape, dtype=dtype, device="meta")
        packed = torch.empty((n, h, w, -(-3 * g * points // 8) * 8), dtype=dtype, device="meta")
        parts = triton_dcnv4._parts(packed, g, points)
        return sampling_launches(monkeypatch, x, *parts, (3, 1, 1, 1, g, 1.0, remove_center), logits)

    return launches


def sampling_launches(monkeypatch, x, offset, mask, parameters, logits):
    call = sampling_call.WindowCall(x, offset, mask, parameters, logits)

    def work():
        call.forward(torch.empty_like(x))
        call.backward(torch.empty_like(x), (x, offset, mask), (True, True, True))
        call.gather(torch.empty_like(x), x)

    return recorded(monkeypatch, [sampling_call, gathering], work)


@pytest.fixture
def dysample(monkeypatch):
    """Every launch of DySample's forward and both ways of backward."""

    def launches(dtype, format, *, shape=(16, 256, 80, 80), g=4, s=2):
        n, c, h, w = shape
        x, out = (
            torch.empty((n, c, f * h, f * w), dtype=dtype, device="meta", memory_format=FORMATS[format]) for f in (1, s)
        )
        wide = torch.promote_types(dtype, torch.float32)
        offset = torch.empty((n, 2 * g * s * s, h, w), dtype=wide, device="meta")
        call = triton_dysample._Call(x, offset, s, g)

        def work():
            call.forward(out)
            call.backward(out, torch.empty_like(x), torch.empty_like(offset), (True, True))
            call.gather(out, torch.empty_like(x))

        return recorded(monkeypatch, [triton_dysample, gathering], work)

    return launches


def assert_no_spills(launches, capabilities, candidates=None):
    for launch in launches:
        for candidate in launch.candidates[:candidates]:
            for capability in capabilities:
                made = compiled(launch, candidate, capability)
                what = f"{launch.kernel.__name__} {dict(candidate.blocks)}, {candidate.warps} warps, sm_{capability}"
                assert made.spilled == 0, f"{what} spills {made.spilled} bytes at {made.registers} registers"
                # Every device has 48 KiB of shared memory a program.
                assert made.shared <= 48 << 10, f"{what} takes {made.shared} bytes of shared memory"


@pytest.mark.parametrize("format", FORMATS)
def test_carafe_spills_nothing(carafe, format):
    assert_no_spills(carafe(torch.float32, format), (90,))


def test_dcnv3_spills_nothing(dcnv3):
    assert_no_spills(dcnv3(torch.float16), (90,))


def test_dcnv4_spills_nothing(dcnv4):
    forward, backward, *_ = dcnv4(torch.float16)
    assert_no_spills((forward, backward), (90,), candidates=1)


@pytest.mark.parametrize("format", FORMATS)
def test_dysample_spills_nothing(dysample, format):
    assert_no_spills(dysample(torch.float32, format), (90,), candidates=1)


@pytest.mark.nightly
@pytest.mark.parametrize("logits", [False, True], ids=["mask", "logits"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("channels", "k", "g", "s"), [(256, 5, 1, 2), (64, 3, 1, 4), (32, 5, 2, 1), (9, 7, 3, 3)], ids=str
)
def test_carafe_spills_nothing_anywhere(carafe, channels, k, g, s, format, dtype, logits):
    launches = carafe(dtype, format, shape=(16, channels, 80, 80), k=k, g=g, s=s, logits=logits)
    assert_no_spills(launches, CAPABILITIES)


@pytest.mark.nightly
@pytest.mark.parametrize("logits", [False, True], ids=["mask", "logits"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("channels", "g"), [(128, 4), (64, 4), (256, 1), (9, 3)], ids=str)
def test_dcnv3_spills_nothing_anywhere(dcnv3, channels, g, dtype, logits):
    assert_no_spills(dcnv3(dtype, shape=(64, 56, 56, channels), g=g, logits=logits), CAPABILITIES)


@pytest.mark.nightly
@pytest.mark.parametrize("logits", [False, True], ids=["masks", "logits"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("channels", "g", "remove_center"), [(128, 4, False), (64, 4, True), (9, 3, False)], ids=str)
def test_dcnv4_spills_nothing_anywhere(dcnv4, channels, g, remove_center, dtype, logits):
    launches = dcnv4(dtype, shape=(64, 56, 56, channels), g=g, logits=logits, remove_center=remove_center)
    assert_no_spills(launches, CAPABILITIES)


@pytest.mark.nightly
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("channels", "g", "s"), [(256, 4, 2), (64, 4, 2), (64, 1, 4), (9, 3, 3)], ids=str)
def test_dysample_spills_nothing_anywhere(dysample, channels, g, s, format, dtype):
    assert_no_spills(dysample(dtype, format, shape=(16, channels, 80, 80), g=g, s=s), CAPABILITIES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_channels_last_carafe_reads_features_and_writes_output_by_16_bytes(carafe, dtype):
    forward, grad_x, grad_mask = carafe(dtype, "last")
    made = compiled(forward, forward.candidates[0], 90)
    assert made.count(LOAD) >= 1
    assert made.count(STORE) >= 1
    for launch in (grad_x, grad_mask):
        assert compiled(launch, launch.candidates[0], 90).count(LOAD) >= 1, launch.kernel.__name__


def test_the_loop_of_channels_last_carafe_s_forward_shares_nothing_between_threads(carafe):
    """Weights are read where they are used, and sums stay in place until the result is stored."""
    forward = carafe(torch.float32, "last")[0]
    made = compiled(forward, forward.candidates[0], 90)
    assert "tt.load" in made.loops
    assert "convert_layout" not in made.loops
    assert "tt.reduce" not in made.loops


def test_that_of_channels_first_exchanges_nothing_but_weights(carafe):
    """Its tiles are so large, to read little beside their own pixels, that threads share out the weights' loads."""
    forward = carafe(torch.float32, "first")[0]
    made = compiled(forward, forward.candidates[0], 90)
    assert made.loops.count("convert_layout") == 1
    assert "tt.reduce" not in made.loops


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_channels_first_carafe_writes_whole_rows_by_16_bytes(carafe, dtype):
    forward = carafe(dtype, "first")[0]
    made = machine_code.read(machine_code.disassembled(compiled(forward, forward.candidates[0], 90).cubin))
    assert set(made.stores) == {16}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_dcnv3_s_corners_are_read_by_16_bytes(dcnv3, dtype):
    forward = dcnv3(dtype)[0]
    made = compiled(forward, forward.candidates[0], 90)
    assert made.count(LOAD) >= 4, "one for each corner"
    assert made.count(STORE) >= 1
    assert made.shared == 0, "threads share nothing"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_dysample_s_channels_last_corners_are_read_by_16_bytes(dysample, dtype):
    forward = dysample(dtype, "last")[0]
    made = compiled(forward, forward.candidates[0], 90)
    assert made.count(LOAD) >= 4, "one for each corner"
    assert made.count(STORE) >= 1
    assert made.shared == 0, "threads share nothing"


def test_dysample_s_channels_first_output_is_written_by_16_bytes(dysample):
    forward = dysample(torch.float32, "first")[0]
    made = compiled(forward, forward.candidates[0], 90)
    assert made.count(STORE) >= 1


def test_odd_sizes_still_compile(carafe, dcnv3, dcnv4, dysample):
    """Nothing is known to be a multiple of 16: no vectors, but the same kernels."""
    for launches in (
        carafe(torch.float32, "last", shape=(1, 7, 5, 3)),
        dcnv3(torch.float32, shape=(1, 5, 3, 9), g=3),
        dcnv4(torch.float32, shape=(1, 5, 3, 9), g=3)[:2],
        dysample(torch.float32, "first", shape=(1, 7, 5, 3), g=1)[:2],
    ):
        assert_no_spills(launches, (80,), candidates=1)


@pytest.mark.parametrize("logits", [False, True], ids=["mask", "logits"])
def test_both_numbers_of_an_offset_are_one_load_and_nothing_is_read_twice(dcnv3, logits):
    forward = dcnv3(torch.float16, logits=logits)[0]
    made = compiled(forward, forward.candidates[0], 90)
    loads = machine_code.read(machine_code.disassembled(made.cubin)).inner["global load"]
    assert loads == 6, "four corners, an offset and a weight for each point"
    assert made.shared == 0, "threads share nothing"
