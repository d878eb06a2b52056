"""CARAFE++'s downsampling: its definition by loops, its cores, keys, refusals, life in a network, and planted bugs."""

import functools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import carafe_downsample_mutants
import pytest
import torch
from carafe_downsample_mutants import MODULES, MUTANTS
from formulas_by_loops import downsampling_by_loops
from pasted_layers import case_of, is_exported, is_right_and_counted, keys, lives

from opbench import registry
from opbench.build import build
from opbench.models import swap
from opbench.operators.carafe_downsample import CORES, CARAFEDownsample, reassembly
from opbench.schema import Implementation
from opbench.verify import gate

OPERATOR = registry.operator("downsample2x", "carafe-downsample")
DIMS = {"N": 2, "C": 6, "O": 8, "H": 5, "W": 4, "G": 1}
SHAPES = [
    (6, 8, 5, 1, 2),
    (5, 7, 5, 2, 2),
    (1, 1, 3, 1, 2),
    (7, 4, 3, 2, 3),
    (4, 5, 1, 1, 2),
    (2, 3, 7, 4, 2),
    (5, 5, 5, 1, 1),
]


def drawn(H, W, k, g, s):
    generator = torch.Generator().manual_seed(0)
    like = {"generator": generator, "dtype": torch.float64, "requires_grad": True}
    mask = torch.randn(2, g * k * k, -(-H // s), -(-W // s), **like)
    return torch.randn(2, 4, H, W, **like), mask, {"kernel_size": k, "group_size": g, "stride": s}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_definition_is_the_formula_read_aloud(shape):
    x, mask, options = drawn(*shape)
    torch.testing.assert_close(reassembly(x, mask, **options), downsampling_by_loops(x, mask, **options))


@pytest.mark.parametrize("name", CORES)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_core_and_its_gradients_are_the_definition_s(name, shape):
    x, mask, options = drawn(*shape)
    expected, out = reassembly(x, mask, **options), CORES[name].function(x, mask, **options)
    torch.testing.assert_close(out, expected)
    grad = torch.randn_like(out)
    got, wanted = (torch.autograd.grad(one, (x, mask), grad) for one in (out, expected))
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("name", CORES)
def test_what_the_mask_holds_outside_the_image_does_not_leak(name):
    x, mask, options = drawn(4, 5, 3, 1, 2)
    with torch.no_grad():
        expected = reassembly(x, mask, **options)
        mask[:, :3, 0] = torch.inf  # the first row of taps, of the first row of pixels
        mask[:, ::3, :, 0] = torch.nan
        torch.testing.assert_close(CORES[name].function(x, mask, **options), expected)


@pytest.mark.parametrize("outputs", [6, 8])
def test_it_is_right_and_counted_in_every_way_and_mode(outputs):
    is_right_and_counted(OPERATOR, {**DIMS, "O": outputs}, k_down=3, g=2, c_mid=4)


# CARAFE's package has `channel_compressor` and `content_encoder`; the convolution behind them is of the slot.
KEYS = {
    "channel_compressor.weight": (16, 8, 1, 1),
    "channel_compressor.bias": (16,),
    "content_encoder.weight": (50, 16, 3, 3),
    "content_encoder.bias": (50,),
}


def test_parameters_are_named_as_carafe_s():
    assert keys(CARAFEDownsample(8, down_group=2)) == KEYS
    assert keys(CARAFEDownsample(8, down_group=2, out_channels=12)) == {**KEYS, "project.weight": (12, 8, 1, 1)}


def test_a_fresh_one_is_close_to_a_mean_of_the_window():
    torch.manual_seed(0)
    x = torch.randn(1, 4, 12, 12)
    mean = torch.nn.functional.avg_pool2d(x, 5, 2, 2)
    torch.testing.assert_close(CARAFEDownsample(4)(x), mean, rtol=0.05, atol=0.01)


@pytest.mark.parametrize("name", CORES)
def test_a_network_may_do_to_it_what_networks_do(name):
    lives(CARAFEDownsample(6, down_group=2, out_channels=4, implementation=name))


@pytest.mark.parametrize("outputs", [6, 4])
def test_it_is_exported_for_any_batch_and_size(outputs):
    is_exported(CARAFEDownsample(6, down_kernel=3, down_group=2, out_channels=outputs))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: CARAFEDownsample(6, down_kernel=4), "expected down_kernel to be odd, because the window is centred"),
        (lambda: CARAFEDownsample(6, encoder_kernel=2), "expected encoder_kernel to be odd"),
        (lambda: CARAFEDownsample(6, down_group=4), "expected channels to be a multiple of 4, got 6: use 4 or 8"),
        (lambda: CARAFEDownsample(0), "expected channels to be an integer of at least 1, got 0"),
        (
            lambda: CARAFEDownsample(6)(torch.zeros(1, 3, 4, 4)),
            r"expected x of shape \(N, 6, H, W\), got \(1, 3, 4, 4\)",
        ),
    ],
)
def test_what_can_not_be_is_refused_in_a_sentence(call, said):
    with pytest.raises(ValueError, match=f"CARAFEDownsample: {said}"):
        call()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"k_down": 4}, "k_down=4: expected an odd"),
        ({"g": 4}, "C=6 is not divisible by g=4"),
        ({"c_mid": 0}, "c_mid=0"),
    ],
)
def test_dimensions_that_do_not_fit_are_named(changes, said):
    assert OPERATOR.requires(OPERATOR.given(DIMS)) is None
    assert OPERATOR.requires({**OPERATOR.given(DIMS), **changes}).startswith(said)


@pytest.mark.parametrize("what", [CARAFEDownsample, "carafe-downsample"])
def test_it_takes_the_place_of_what_halves_an_image(what):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3, 2, 1), torch.nn.SiLU(), torch.nn.Conv2d(16, 24, 3, 2, 1))
    swap(model, "downsample2x", what, where="2", example=torch.zeros(1, 3, 32, 64))
    assert model(torch.zeros(1, 3, 32, 64)).shape == (1, 24, 8, 16)
    params, macs = OPERATOR.layer(model[2], (1, 16, 16, 32), (1, 24, 8, 16))
    assert params == sum(value.numel() for value in model[2].parameters())
    assert macs == 16 * 16 * 512 + (9 * 16 * 25 + 25 * 16 + 16 * 24) * 128


# --- Planted bugs ------------------------------------------------------------------------------------------------


@functools.cache
def held(mode, wide):
    return gate.reference(build(case(mode, wide)))


def case(mode, wide):
    dims = {**DIMS, "C": 68, "O": 68, "H": 5, "W": 4} if wide else DIMS
    return case_of(OPERATOR, "unfold", dims, "float32", mode, k_down=3, g=2, c_mid=4)


def verdict(name, mode, wide, monkeypatch):
    if name in MODULES:

        def made(dims, implementation):
            settings = (dims["C"], 2, dims["k_down"], dims["g"], dims["k_enc"], dims["c_mid"])
            return MODULES[name](*settings, out_channels=dims["O"])

        with monkeypatch.context() as patched:
            patched.setattr(registry, "operator", lambda task, name: replace(OPERATOR, module=made))
            built = build(case(mode, wide))
    else:
        built = build(case(mode, wide), Implementation("planted", MUTANTS[name]))
    return held(mode, wide).judge(gate.call(built))


@pytest.mark.parametrize("name", MUTANTS)
def test_every_planted_bug_is_convicted(name, monkeypatch, record_property):
    tried = [("training", False), ("inference", True)]
    reasons = [found.reason for one in tried if not (found := verdict(name, *one, monkeypatch)).correct]
    record_property("mutant", ("CARAFE++ downsampling", reasons[0] if reasons else None))
    assert reasons, f"{name} ({MUTANTS[name].__doc__}) passes the gate"


@pytest.mark.parametrize("name", carafe_downsample_mutants.RIGHT)
def test_the_unchanged_recipes_pass(name):
    for one in (("training", False), ("inference", True)):
        built = build(case(*one), Implementation("planted", carafe_downsample_mutants.RIGHT[name]))
        found = held(*one).judge(gate.call(built))
        assert found.correct, found.reason


@pytest.mark.nightly
@pytest.mark.parametrize("name", MUTANTS)
def test_check_convicts_every_planted_bug(name):
    target = f"{Path(carafe_downsample_mutants.__file__)}:{name}"
    # One in four examples has more than 64 channels, of which a busy machine may try none in its time.
    more = ["--fix", "channels=68"] if name == "wrong_past_64_channels" else []
    command = [sys.executable, "-m", "opbench", "check", target, "--operator", "carafe-downsample", "--strict", *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
