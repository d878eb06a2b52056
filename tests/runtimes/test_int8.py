"""int8: a signal over an error in dB, of what was quantised, marked as no proof; or the report says "not measured"."""

import math

import pytest
import torch
from factory import make_deployment
from typer.testing import CliRunner

from opbench import documents, registry
from opbench.build import build
from opbench.cli import app
from opbench.deploy import quantising
from opbench.deploy.nouns import INT8_NOT_PROVEN, Deployment, QuantisedArtifact
from opbench.report.deployment import write_deployment
from opbench.report.deployment.verdict import verdict
from opbench.runtimes import of_onnx
from opbench.schema import Case
from opbench.verify.gate import reference

for needed in ("onnx", "onnxruntime", "openvino"):
    pytest.importorskip(needed, reason="the extra opbench[deploy] is not installed")


@pytest.fixture(scope="module", autouse=True)
def _declared():
    registry.load()


@pytest.mark.parametrize(("error", "expected"), [(0.1, 20.0), (0.001, 60.0), (1.0, 0.0)])
def test_the_signal_over_the_error_in_decibels(error, expected):
    signal = torch.full((4, 4), 3.0, dtype=torch.float64)
    assert quantising.decibels(signal * (1 + error), signal) == pytest.approx(expected)


def test_no_error_and_no_number_have_no_figure():
    signal = torch.ones(4, dtype=torch.float64)
    assert quantising.decibels(signal, signal) == math.inf
    assert quantising._figure(signal.float(), signal) == (None, "no error at all")
    for stray in (math.nan, math.inf):
        assert quantising._figure(signal * stray, signal) == (None, "its output is no number")
    assert quantising._figure(signal, 0 * signal) == (None, "the definition's output is zero everywhere")
    assert quantising._figure(signal[:2], signal) == (None, "its output is (2,), expected (4,)")


def small():
    dims = {"N": 1, "C": 8, "H": 12, "W": 12, "G": 2}
    return Case("conv3x3", "small", "conv3x3", "torch", dims, "float32", "cpu", "inference", 2.0)


def found_of(tmp_path):
    made = build(small())
    content = of_onnx.write(made.module, made.inputs)
    job = quantising.QuantiseJob(made.case, (), str(tmp_path), "conv.onnx", ("onnxruntime", "openvino"), 1)
    draws = quantising.calibration_inputs(made, 4)
    expected = reference(made).expected["output"]
    return list(quantising._static(job, content, made, expected, draws))


def test_a_convolution_of_eight_bits_is_near_its_definition_in_each_runtime(tmp_path):
    found = found_of(tmp_path)
    assert [one.runtime for one in found] == ["onnxruntime", "openvino"]
    for one in found:
        assert 20 < one.decibels < 60, one
        assert (tmp_path / one.file).stat().st_size == one.bytes
    operations = set(of_onnx.operations((tmp_path / found[0].file).read_bytes()))
    assert {"QuantizeLinear", "DequantizeLinear"} <= operations


def test_the_ranges_come_from_other_draws_than_what_is_judged():
    made = build(small())
    draws = [one for (one,) in quantising.calibration_inputs(made, 3)]
    assert all(one.shape == made.inputs[0].shape and one.dtype == torch.float32 for one in draws)
    every = [*draws, made.inputs[0]]
    assert not any(torch.equal(one, other) for at, one in enumerate(every) for other in every[at + 1 :])


def test_what_can_not_be_quantised_has_the_reason_and_no_figure(tmp_path, monkeypatch):
    def fails(*_):
        raise ValueError("no such node")

    monkeypatch.setattr(quantising, "_quantised_file", fails)
    assert {(one.decibels, one.reason) for one in found_of(tmp_path)} == {
        (None, "it can't be quantised: ValueError: no such node")
    }
    assert not list(tmp_path.iterdir())


def test_the_report_marks_int8_as_not_proven(tmp_path):
    quantised = (
        QuantisedArtifact("carafe[slices]", "onnxruntime", "some method", 8, "a-int8.onnx", 1000, 31.4159),
        QuantisedArtifact("carafe[slices]", "openvino", "nncf", 8, reason="not measured: nncf is not installed"),
    )
    answer = make_deployment(quantised=quantised, int8=INT8_NOT_PROVEN)
    said = " ".join(verdict(answer, None))
    assert "int8: signal over error against float64, not proven." in said
    assert "In int8 by some method, ONNX Runtime keeps: carafe[slices] 31.4 dB." in said
    assert "OpenVINO has no figure of carafe[slices]: not measured: nncf is not installed" in said
    text = write_deployment(answer, tmp_path).read_text()
    assert "## int8, not proven" in text
    assert "31.4 dB" in text


def deployed(tmp_path, *words):
    asked = ["deploy", *words, "--runtime", "onnxruntime", "--runtime", "openvino", "--opset", "17", "--prove-only"]
    done = CliRunner().invoke(app, [*asked, "--threads", "1", "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    return documents.read(tmp_path / "out" / "deploy.json", Deployment)


@pytest.mark.nightly
def test_an_operator_is_quantised_in_each_runtime_beside_its_proof(tmp_path):
    found = deployed(tmp_path, "carafe", "--shape", "N=1,C=8,H=6,W=6", "--int8")
    assert found.int8 == INT8_NOT_PROVEN
    static = [one for one in found.quantised if one.method == quantising.STATIC]
    assert {(one.contender, one.runtime) for one in static} == {
        (contender, runtime)
        for contender in ("nearest[torch]", "carafe[unfold]", "carafe[slices]")
        for runtime in ("onnxruntime", "openvino")
    }
    assert all(one.decibels is None or one.decibels > 5 for one in static)
    assert {one.proof for one in found.proofs} == {"right"}
    manifest = (tmp_path / "out" / "artifacts" / "manifest.json").read_text()
    assert "int8" not in manifest


@pytest.mark.nightly
@pytest.mark.parametrize("operator", ["carafe", "dcnv3"])
def test_half_precision_files_are_within_the_bound_of_half_precision(tmp_path, operator):
    found = deployed(tmp_path, operator, "--shape", "N=1,C=16,H=6,W=6", "--dtype", "float16", "--dtype", "float32")
    assert {one.dtype for one in found.artifacts} == {"float16", "float32"}
    assert not found.refused
    assert {one.proof for one in found.proofs} == {"right"}
    half = {one.file for one in found.artifacts if one.dtype == "float16"}
    assert half
    assert all("-float16-" in name for name in half)
