"""What is asked of every module that people paste into networks, beside its definition: a verdict, counts, a long life.

A network is built at batch 1 in training, copied, saved whole, run in half precision and under autocast, on images that
are no squares, traced and exported.
"""

import copy
import io
import warnings
from dataclasses import replace

import pytest
import torch

from opbench import registry
from opbench.build import build
from opbench.measure.macs import contradiction, count
from opbench.schema import MODES, Case
from opbench.verify import gate

IMAGE = (2, 6, 5, 7)


def case_of(operator, implementation, dims, dtype="float32", mode="training", **settings):
    """A case of no suite."""
    return Case(
        task=operator.task,
        workload="pasted",
        operator=operator.name,
        implementation=implementation,
        dims=dims,
        dtype=dtype,
        device="cpu",
        mode=mode,
        settings={**operator.settings, **settings},
    )


def is_right_and_counted(operator, dims, **settings):
    """Every implementation and mode: within the bound, and no counter contradicts the closed form.

    In float32; the tests of the bounds try all dtypes.
    """
    for mode in MODES:
        held = None
        for name, implementation in operator.implementations.items():
            if implementation.missing() or implementation.compiles or "cpu" not in implementation.devices:
                continue
            case = case_of(operator, name, dims, mode=mode, **settings)
            built = build(case)
            held = held or gate.reference(built)
            verdict = gate.check(built, held)
            assert verdict.correct, f"{case.id}: {verdict.reason}"
            assert not verdict.basis, verdict.basis
            assert not contradiction(count(case, built)), f"{case.id}: {contradiction(count(case, built))}"


def verdict_on(monkeypatch, operator, made, dims, dtype="float32", mode="training", **settings):
    """The gate's verdict on `made(dims, implementation)` in the place of the operator's own module."""
    wrong = replace(operator, module=made)
    # Parameters are drawn by the module they are for.
    monkeypatch.setattr(registry, "operator", lambda task, name: wrong)
    built = build(case_of(operator, next(iter(operator.implementations)), dims, dtype, mode, **settings))
    return gate.check(built, gate.reference(built))


def fault_on(monkeypatch, operator, made, tries):
    """What the gate says of `made` at the first (dims, mode) at which it is wrong; None where it passes all of them."""
    for dims, mode in tries:
        verdict = verdict_on(monkeypatch, operator, made, dims, "float32", mode)
        if not verdict.correct:
            return verdict.reason
    return None


def keys(module):
    """What a state dict holds, by name: shapes."""
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def lives(module, shape=IMAGE):
    """A module goes through all that a training framework does to it."""
    torch.manual_seed(0)
    x = torch.randn(shape)
    _learns(module, x)
    evaluated = module.eval()
    with torch.no_grad():
        expected = evaluated(x)
        assert torch.equal(copy.deepcopy(evaluated)(x), expected)
        assert torch.equal(_reloaded(evaluated)(x), expected)
        torch.testing.assert_close(evaluated(x.to(memory_format=torch.channels_last)), expected)
        for one in range(shape[0]):
            torch.testing.assert_close(evaluated(x[one : one + 1]), expected[one : one + 1])
        for dtype in (torch.bfloat16, torch.float16):
            out = copy.deepcopy(evaluated).to(dtype)(x.to(dtype))
            assert out.dtype == dtype
            torch.testing.assert_close(out.float(), expected, rtol=0.1, atol=0.1 * float(expected.abs().max()))
    _learns(module.train(), x, torch.autocast("cpu", torch.bfloat16))
    # As strides are found: one square image, in training.
    module(torch.randn(1, shape[1], 8, 8))


def _learns(module, x, context=None):
    """Every parameter gets a gradient that is finite."""
    module.zero_grad()
    with context or torch.enable_grad():
        out = module(x)
    out.float().square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, f"{name} gets no gradient"
        assert parameter.grad.isfinite().all(), f"{name}: a gradient that isn't finite"


def _reloaded(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def is_exported(module, shape=IMAGE, *, batches=True):
    """By torch.jit.trace, torch.export and the older ONNX exporter; with `batches`, of one image for several.

    A traced one is also called with other images: what it computes may not be fixed by those it was traced with.
    """
    torch.manual_seed(0)
    x, other = torch.randn(shape), torch.randn(shape[0] + 1, shape[1], shape[2] + 3, shape[3] + 2)
    module.eval()
    with torch.no_grad():
        expected = module(other)
        torch.testing.assert_close(torch.jit.trace(module, x)(x), module(x))
        torch.testing.assert_close(torch.export.export(module, (x,)).module()(x), module(x))
        runtime, onnx = pytest.importorskip("onnxruntime"), pytest.importorskip("onnx")
        axes = {0: "N", 2: "H", 3: "W"} if batches else {}
        file = io.BytesIO()
        with warnings.catch_warnings():
            # Of the exporter's own end, and of its own code.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module, (x,), file, opset_version=17, dynamo=False, input_names=["x"], output_names=["out"],
                dynamic_axes={"x": axes, "out": axes},
            )  # fmt: skip
        onnx.checker.check_model(onnx.load_from_string(file.getvalue()))
        session = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
        given, right = (other, expected) if batches else (x, module(x))
        (out,) = session.run(None, {"x": given.numpy()})
        torch.testing.assert_close(torch.from_numpy(out), right, rtol=1e-4, atol=1e-4)
