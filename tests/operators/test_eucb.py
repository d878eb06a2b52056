"""EUCB: its definition by torch's functions, the published parameters, what YOLO does to modules, its planted bugs."""

import copy
import io
import pickle
import re
import subprocess
import sys
from pathlib import Path
from types import MethodType

import pytest
import torch
import torch.nn.functional as F
from by_day import one_in

from opbench import registry
from opbench.build import build, draw_parameters
from opbench.operators.eucb import EUCB
from opbench.operators.eucb.definition import module as defined
from opbench.operators.eucb.module import ACTIVATIONS
from opbench.operators.eucb.show import folded
from opbench.schema import Case
from opbench.verify import gate


def shuffled(x, groups):
    """The published channel shuffle."""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def published(m, x):
    """The steps of SLDGroup/EMCAD, lib/decoders.py, with its shuffle in as many groups as channels."""
    x = F.interpolate(x, scale_factor=2)
    x = F.conv2d(x, m.up_dwc[1].weight, padding=m.up_dwc[1].padding, groups=x.shape[1])
    x = m.up_dwc[3](m.up_dwc[2](x))
    return F.conv2d(shuffled(x, x.shape[1]), m.pwc[0].weight, m.pwc[0].bias)


def drawn(*arguments, **named):
    module = EUCB(*arguments, **named)
    draw_parameters(module, torch.Generator().manual_seed(0))
    return module.double()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_module_and_definition_are_the_published_steps(kernel_size, activation, training):
    module = drawn(6, 4, kernel_size, activation=activation).train(training)
    x = torch.randn(2, 6, 4, 5, dtype=torch.float64)
    state = {name: value.clone() for name, value in module.state_dict().items() if value.is_floating_point()}
    expected = published(copy.deepcopy(module), x)
    torch.testing.assert_close(module(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        defined({"x": x, **state}, training, activation=activation), expected, rtol=1e-11, atol=1e-12
    )


def test_a_shuffle_of_one_channel_a_group_changes_nothing_and_others_do():
    x = torch.randn(1, 6, 2, 2)
    assert torch.equal(shuffled(x, 6), x)
    assert not torch.equal(shuffled(x, 2), x)


# The state dict of EUCB(64, 32) of SLDGroup/EMCAD, lib/decoders.py, commit 0a87f92.
PUBLISHED = {
    "up_dwc.1.weight": (64, 1, 3, 3), "up_dwc.2.weight": (64,), "up_dwc.2.bias": (64,),
    "up_dwc.2.running_mean": (64,), "up_dwc.2.running_var": (64,), "up_dwc.2.num_batches_tracked": (),
    "pwc.0.weight": (32, 64, 1, 1), "pwc.0.bias": (32,),
}  # fmt: skip


def test_the_published_parameters_load():
    module = EUCB(64, 32)
    assert {name: tuple(value.shape) for name, value in module.state_dict().items()} == PUBLISHED
    module.load_state_dict({name: torch.zeros(shape) for name, shape in PUBLISHED.items()})
    assert "up_dwc.3.weight" in EUCB(8, 8, activation="prelu").state_dict()


def test_initial_values_are_the_published_ones():
    torch.manual_seed(0)
    module = EUCB(64, 512)
    assert module.pwc[0].weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not module.pwc[0].bias.any()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((8, 8, 2), "expected kernel_size to be odd, because the window is centred on a pixel, got 2: use 1 or 3"),
        ((8, 8, 3, 2), "expected stride 1, got 2: with another it doesn't upsample by two"),
        ((8, 8, 3, 1, "rel"), "unknown activation 'rel'; did you mean 'relu'"),
        ((0, 8), "expected in_channels to be an integer of at least 1, got 0"),
        ((8, 8.0), "expected out_channels to be an integer of at least 1, got 8.0"),
    ],
)
def test_settings_that_can_not_work_are_said(arguments, said):
    with pytest.raises(ValueError, match=said):
        EUCB(*arguments)


def test_an_input_of_other_channels_is_said():
    with pytest.raises(ValueError, match=r"expected x of shape \(N, 8, H, W\), got \(1, 4, 3, 3\)"):
        EUCB(8, 8)(torch.zeros(1, 4, 3, 3))


def test_it_lives_as_yolo_treats_modules():
    """Built in training mode at batch 1, rectangular, copied, pickled whole, run in half and under autocast."""
    module = EUCB(8, 6).train()
    x = torch.randn(1, 8, 3, 7)
    out = module(x)
    assert out.shape == (1, 6, 6, 14)
    out.sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    module.eval()
    out = module(x)
    torch.testing.assert_close(copy.deepcopy(module)(x), out)
    torch.testing.assert_close(pickle.loads(pickle.dumps(module))(x), out)
    for dtype in (torch.bfloat16, torch.float16):
        torch.testing.assert_close(copy.deepcopy(module).to(dtype)(x.to(dtype)).float(), out, rtol=0.1, atol=0.02)
        with torch.autocast("cpu", dtype):
            torch.testing.assert_close(module(x).float(), out, rtol=0.1, atol=0.02)


@pytest.mark.filterwarnings("ignore")  # while it is traced, sizes are tensors
def test_it_is_traced_and_exported():
    module = EUCB(8, 6).eval()
    x = torch.randn(1, 8, 4, 6)
    torch.testing.assert_close(torch.jit.trace(module, x)(x), module(x))
    torch.testing.assert_close(torch.export.export(module, (x,)).module()(x), module(x))
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    file = io.BytesIO()
    torch.onnx.export(module, (x,), file, opset_version=17, dynamo=False)
    name = onnx.load_from_string(file.getvalue()).graph.input[0].name
    (got,) = runtime.InferenceSession(file.getvalue()).run(None, {name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(got), module(x), rtol=1e-4, atol=1e-5)


def test_its_layer_is_counted_at_any_arguments():
    operator = registry.operator("upsample2x", "eucb")
    for module in (EUCB(6, 4, 5), EUCB(8, 8, activation="prelu")):
        params, macs = operator.layer(module, (2, module.in_channels, 4, 5), ())
        assert params == sum(parameter.numel() for parameter in module.parameters())
        assert macs == 2 * 4 * 5 * 4 * (module.up_dwc[1].weight.numel() + module.pwc[0].weight.numel())


@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_folded_kernel_on_the_input_is_the_kernel_on_the_doubled_image(size):
    kernel, x = torch.randn(size, size).double(), torch.randn(1, 1, 9, 8).double()
    expected = F.conv2d(F.interpolate(x, scale_factor=2), kernel[None, None], padding=size // 2)
    for a in (0, 1):
        for b in (0, 1):
            own = folded(kernel, a, b)
            # Its first row and column are of the parent of the kernel's first tap.
            first = [(-(size // 2) + child) // 2 for child in (a, b)]
            for row in range(3, 6):
                for column in range(3, 6):
                    top, left = row + first[0], column + first[1]
                    window = x[0, 0, top : top + own.shape[0], left : left + own.shape[1]]
                    torch.testing.assert_close((window * own).sum(), expected[0, 0, 2 * row + a, 2 * column + b])


# --- Planted bugs -----------------------------------------------------------------------------------------------


def forward(
    larger=lambda x: F.interpolate(x, scale_factor=2),
    depthwise=lambda m, x: m.up_dwc[1](x),
    norm=lambda m, x: m.up_dwc[2](x),
    act=torch.relu,
    shuffle=lambda x: x,
    mix=lambda m, x: m.pwc[0](x),
    out=lambda x: x,
):
    """The forward pass, but for the steps given."""

    def run(m, x):
        return out(mix(m, shuffle(act(norm(m, depthwise(m, larger(x)))))))

    return run


def padded(mode):
    def depthwise(m, x):
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode), m.up_dwc[1].weight, groups=x.shape[1])

    return depthwise


def kernel(change):
    return lambda m, x: F.conv2d(x, change(m.up_dwc[1].weight), padding=1, groups=x.shape[1])


def askew(m, x):
    return F.conv2d(F.pad(x, (2, 0, 2, 0)), m.up_dwc[1].weight, groups=x.shape[1])


def frozen(m, x):
    bn = m.up_dwc[2]
    return F.batch_norm(x, bn.running_mean.clone(), bn.running_var.clone(), bn.weight, bn.bias, False)


def epsilon(m, x):
    bn = m.up_dwc[2]
    return F.batch_norm(x, None, None, bn.weight, bn.bias, True, eps=1e-3)


def before_it_is_doubled(m, x):
    return F.interpolate(m.up_dwc[1](x), scale_factor=2)


def past_64(x):
    return torch.cat((x[:, :64], x[:, 64:] * 0.99), 1)


MUTANTS = {
    "bilinear": forward(larger=lambda x: F.interpolate(x, scale_factor=2, mode="bilinear")),
    "shifted": forward(larger=lambda x: F.interpolate(x, scale_factor=2).roll(1, 3)),
    "doubled_after": forward(larger=lambda x: x, depthwise=before_it_is_doubled),
    "kernel_transposed": forward(depthwise=kernel(lambda w: w.mT)),
    "kernel_flipped": forward(depthwise=kernel(lambda w: w.flip(2, 3))),
    "reflected": forward(depthwise=padded("reflect")),
    "replicated": forward(depthwise=padded("replicate")),
    "padded_above": forward(depthwise=askew),
    "first_kernel_for_all": forward(depthwise=kernel(lambda w: w[:1].expand_as(w))),
    "norm_missing": forward(norm=lambda m, x: x),
    "norm_frozen": forward(norm=frozen),
    "norm_epsilon": forward(norm=epsilon),
    "act_missing": forward(act=lambda x: x),
    "act_relu6": forward(act=lambda x: F.relu6(x * 3) / 3),
    "act_silu": forward(act=F.silu),
    "act_first": forward(norm=lambda m, x: m.up_dwc[2](torch.relu(x)), act=lambda x: x),
    "two_groups_shuffled": forward(shuffle=lambda x: shuffled(x, 2)),
    "bias_missing": forward(mix=lambda m, x: F.conv2d(x, m.pwc[0].weight)),
    "mixed_transposed": forward(mix=lambda m, x: F.conv2d(x, m.pwc[0].weight.transpose(0, 1), m.pwc[0].bias)),
    "first_image_for_all": forward(out=lambda x: x[:1].expand_as(x).contiguous()),
    "detached": forward(larger=lambda x: F.interpolate(x.detach() + 0 * x, scale_factor=2)),
    "dim_past_64": forward(out=past_64),
    "rounded": forward(shuffle=lambda x: x.bfloat16().to(x.dtype)),
}  # fmt: skip


def __getattr__(name):
    """A mutant as a class, to be named on the command line."""
    if name not in MUTANTS:
        raise AttributeError(name)
    return type(name, (EUCB,), {"forward": MUTANTS[name]})


def verdict_on(run, dtype="float32", C=72):
    dims = {"N": 2, "C": C, "H": 5, "W": 4}
    held = {"activation": "relu"}
    case = build(Case("upsample2x", "mutants", "eucb", "torch", dims, dtype, "cpu", "training", None, 0, settings=held))
    expected = gate.reference(case)
    case.module.forward = MethodType(run, case.module)
    return gate.check(case, expected)


def test_the_unchanged_steps_and_the_published_ones_pass():
    for dtype in ("float64", "float32", "bfloat16", "float16"):
        for run in (forward(), published):
            verdict = verdict_on(run, dtype)
            assert verdict.correct, verdict.reason


@pytest.mark.parametrize("name", one_in(3, MUTANTS))
def test_every_mutant_is_convicted(name, record_property):
    verdict = verdict_on(MUTANTS[name])
    record_property("mutant", ("EUCB modules", None if verdict.correct else verdict.reason))
    assert not verdict.correct, f"{name} passes the gate"


@pytest.mark.nightly
@pytest.mark.parametrize("name", MUTANTS)
def test_opbench_check_convicts_every_mutant(name):
    file = Path(__file__)
    wide = ("--fix", "in_channels=72", "--fix", "out_channels=72") if name == "dim_past_64" else ()
    command = [sys.executable, "-m", "opbench", "check", f"{file}:{name}", "--operator", "eucb"]
    done = subprocess.run([*command, *wide], capture_output=True, text=True, timeout=600)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.match(r"(wrong|fragile): ", done.stdout), done.stdout
