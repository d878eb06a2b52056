"""`opbench deploy`: files that are right, planted ones that are not, and the script that proves them on a device."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from factory import make_artifact, make_deployment, make_device_proof, make_device_run
from torch import nn
from typer.testing import CliRunner

from opbench import documents, registry
from opbench.cli import app
from opbench.deploy import issues, on_device, targets
from opbench.deploy.nouns import Deployment, DeviceRun
from opbench.models import deployed
from opbench.report.deployment import write_deployment, write_device
from opbench.report.deployment.verdict import verdict
from opbench.runtimes import of_onnx
from opbench.schema import OpbenchError

for needed in ("onnx", "onnxruntime", "openvino"):
    pytest.importorskip(needed, reason="the extra opbench[deploy] is not installed")

# A person's own file: a parameter that no layer holds, two outputs, a batch norm with statistics of its own.
OWN = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, channels=8):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, 2, 1), nn.BatchNorm2d(channels), nn.SiLU())
        self.mix = nn.Conv2d(channels, channels, 3, padding=1)
        self.up = nn.Upsample(scale_factor=2)
        self.scale = nn.Parameter(torch.randn(channels, channels))
        self.stem[1].running_mean.fill_(0.25)

    def forward(self, x):
        x = self.up(self.mix(self.stem(x)))
        return torch.einsum("nchw,cd->ndhw", x, self.scale), x.mean((2, 3))
"""


@pytest.fixture(scope="module", autouse=True)
def _declared():
    registry.load()


def invoke(*words):
    return CliRunner().invoke(app, ["deploy", *map(str, words)])


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """CARAFE's files for ONNX Runtime, of one opset, proven and not timed."""
    folder = tmp_path_factory.mktemp("deploy") / "out"
    asked = ["carafe", "--shape", "N=1,C=8,H=6,W=6", "--runtime", "onnxruntime", "--opset", "17", "--prove-only"]
    done = invoke(*asked, "--threads", "1", "-o", folder)
    assert done.exit_code == 0, done.output
    return folder


def test_each_graph_is_written_with_fixed_and_free_axes_and_is_right(shipped):
    found = documents.read(shipped / "deploy.json", Deployment)
    assert {(one.contender, one.axes) for one in found.artifacts} == {
        (contender, axes)
        for contender in ("nearest[torch]", "carafe[unfold]", "carafe[slices]")
        for axes in ("fixed", "free")
    }
    assert not found.refused
    assert [one.proof for one in found.proofs] == ["right"] * 6
    free = next(one for one in found.proofs if one.file == "carafe-slices-opset17-free.onnx")
    assert [one.shape for one in free.at] == [(1, 8, 6, 6), (2, 8, 7, 9)]
    assert all(one.peak_bytes > 1 << 20 and one.load_seconds > 0 for one in found.proofs)
    assert all(one.bytes == (shipped / "artifacts" / one.file).stat().st_size for one in found.artifacts)
    assert "carafe[cpu] can't be exported: it is machine code of opbench's own" in found.not_tried
    assert found.int8 == "int8: not measured"


def test_the_report_says_what_is_right_and_how_to_go_on(shipped):
    text = (shipped / "report.md").read_text()
    assert "In ONNX Runtime 6 of 6 files are right" in text
    assert "opbench deploy carafe --runtime onnxruntime" in text
    assert "int8: not measured" in text


def planted(shipped, tmp_path, module, name="carafe-slices-opset17.onnx"):
    """The folder with one file in another's place, and what the script says there."""
    folder = tmp_path / "artifacts"
    shutil.copytree(shipped / "artifacts", folder)
    (folder / name).write_bytes(of_onnx.write(module.eval(), (torch.randn(1, 8, 6, 6),)))
    command = [sys.executable, folder / "on_device.py", "--file", name, "--rounds", "2", "-o", tmp_path / "device.json"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    return done, documents.read(tmp_path / "device.json", DeviceRun)


def test_the_script_convicts_a_planted_file_on_the_device_and_times_nothing_of_it(shipped, tmp_path):
    done, found = planted(shipped, tmp_path, nn.Upsample(scale_factor=2))  # nearest, for CARAFE
    assert done.returncode == 1, done.stderr
    (one,) = found.proofs
    assert one.proof == "wrong"
    assert "where rounding explains" in one.reason
    assert not one.samples_seconds
    assert found.definition == "the float64 definition of carafe"


def test_the_script_times_a_right_file_and_opbench_reads_its_document(shipped, tmp_path):
    command = [sys.executable, shipped / "artifacts" / "on_device.py", "--file", "carafe-slices-opset17.onnx"]
    command += ["--rounds", "3", "-o", tmp_path / "device.json"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (one,) = documents.read(tmp_path / "device.json", DeviceRun).proofs
    assert len(one.samples_seconds) == 3
    said = CliRunner().invoke(app, ["report", str(tmp_path / "device.json"), "-o", str(tmp_path / "report")])
    assert said.exit_code == 0, said.output
    assert "carafe-slices-opset17.onnx" in (tmp_path / "report" / "report.md").read_text()


def test_the_script_needs_nothing_of_opbench():
    source = subprocess.run([sys.executable, on_device.__file__, "--help"], capture_output=True, text=True, check=False)
    assert source.returncode == 0
    assert "opbench." not in "".join(Path(on_device.__file__).read_text().split('"""')[2:])


# --- What the script says of an output ----------------------------------------------------------------------------

EXPECTED = np.array([[1.0, -2.0], [0.0, 3.0]])
BOUND = np.full((2, 2), 1e-6)


@pytest.mark.parametrize(
    ("got", "proof", "said"),
    [
        (EXPECTED + 0.9e-6, "right", ""),
        (EXPECTED, "right", ""),
        (EXPECTED + np.array([[0, 0], [0, 2e-6]]), "wrong", "output[1, 1]: expected 3"),
        (EXPECTED * np.array([[np.nan, 1], [1, 1]]), "wrong", "output[0, 0]: expected 1, got nan"),
        (EXPECTED * 0, "wrong", "all zero where the definition is not"),
        (EXPECTED[:1], "wrong", "expected shape (2, 2), got (1, 2)"),
    ],
)
def test_an_output_is_right_where_no_element_is_further_off_than_its_bound(got, proof, said):
    found = on_device.judged(got.astype(np.float64), EXPECTED, BOUND)
    assert found["proof"] == proof
    assert said in found.get("reason", "")
    json.dumps(found, allow_nan=False)


def test_an_element_without_a_bound_is_right_only_where_it_is_exact():
    assert on_device.judged(EXPECTED, EXPECTED, BOUND * 0)["proof"] == "right"
    assert on_device.judged(EXPECTED + 1e-300, EXPECTED * 1.0, BOUND * 0)["proof"] in ("right", "wrong")
    assert on_device.judged(EXPECTED + 1e-9, EXPECTED, BOUND * 0)["proof"] == "wrong"


# --- Known issues -------------------------------------------------------------------------------------------------


def test_a_known_issue_is_shown_only_where_a_file_would_meet_it():
    def ids(opset, **operations):
        return {one.id for one in issues.applying([make_artifact(opset=opset, operations=operations)])}

    assert ids(20, GridSample=1) == {
        "tensorrt-gridsample-nearest",
        "onnxruntime-cuda-gridsample",
        "rknn-gridsample",
    }
    assert ids(17, GridSample=1) == {"rknn-gridsample"}
    assert ids(17, Gather=4, Resize=1) == set()
    assert ids(20, Gather=4) == set()


def test_every_known_issue_has_a_public_source():
    assert all(one.sources and all(link.startswith("https://") for link in one.sources) for one in issues.known())
    assert len({one.id for one in issues.known()}) == len(issues.known())


def test_what_was_not_tried_is_said_with_its_source():
    answer = make_deployment(issues=tuple(issues.applying([make_artifact(opset=20, operations={"GridSample": 1})])))
    said = " ".join(verdict(answer, None))
    assert "TensorRT was not tried here: its ONNX parser is known to take GridSample of opset 20" in said
    assert "https://github.com/NVIDIA/TensorRT/issues/4646" in said


def test_a_wrong_file_is_said_first_with_its_worst_element():
    wrong = make_device_proof("a.onnx", "wrong", runtime="openvino")
    first, *_ = verdict(make_deployment(proofs=(make_device_proof(), wrong)), None)
    assert first.startswith("a.onnx is wrong in OpenVINO: output[0, 1]: expected 1, got 2")


@pytest.mark.parametrize("text", ["<b>|x|</b>", "\x1b[31mred", "[a](javascript:b)"])
def test_a_hostile_document_is_shown_and_obeyed_by_nothing(tmp_path, text):
    run = msgspec.structs.replace(make_device_run(make_device_proof(text, "wrong", version=text)), target=text)
    write_device(run, tmp_path)
    write_deployment(make_deployment(target=text, proofs=run.proofs), tmp_path / "other")
    for path in (tmp_path / "report.md", tmp_path / "other" / "report.md"):
        assert "\x1b" not in path.read_text()
        assert "<b>|x|</b> " not in path.read_text()


# --- Bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["carrafe"], "unknown operator 'carrafe'"),
        (["carafe", "--opset", "24"], "--opset 24: expected 16 to 23"),
        (["carafe", "--opset", "15"], "--opset 15: expected 16 to 23"),
        (["carafe", "--dtype", "bfloat16"], "--dtype: unknown dtype 'bfloat16'"),
        (["carafe", "--int8", "--dtype", "float16"], "--int8 quantises float32 files of onnxruntime or openvino"),
        (["carafe", "--int8", "--runtime", "torchscript"], "and none of them is written here"),
        (["carafe", "--runtime", "onnx"], "unknown runtime 'onnx'"),
        (["carafe", "--runtime", "torch"], "there is no runtime to deploy to"),
        (["carafe", "--shape", "Q=3"], "--shape Q: unknown size 'Q'"),
        (["carafe", "--shape", "C=-1"], "expected a whole number of at least 1"),
        (["carafe", "--task", "conv3x3"], "it has no operator 'carafe'"),
        (["carafe", "--swap", "upsample=dysample"], "--swap belongs to a network"),
        (["nowhere.py:Net"], "no such file"),
        (["file.onnx"], "it is exported already; hold it against an operator's definition by `opbench check file.onnx"),
        (["own.py:Net", "--swap", "upsample=carrafe"], "unknown operator 'carrafe'"),
        (["own.py:Net", "--shape", "C=5"], "can't be called"),
    ],
)
def test_what_cannot_be_deployed_is_refused_in_a_sentence_and_nothing_is_written(tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    done = invoke(*words, "-o", "out")
    assert done.exit_code == 2, done.output
    assert said in " ".join(done.output.split())
    assert not (tmp_path / "out").exists()


# --- Networks -----------------------------------------------------------------------------------------------------


def test_a_network_keeps_its_own_weights_and_only_what_is_swapped_in_is_drawn(tmp_path, monkeypatch):
    from opbench.build import build
    from opbench.schema import Case

    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.setattr(registry, "_tasks", dict(registry._tasks))
    monkeypatch.setattr(registry, "_operators", dict(registry._operators))
    target = f"{tmp_path / 'own.py'}:Net"
    deployed.register_deployed(target, swaps=("upsample=carafe",))
    dims = {"N": 1, "C": 3, "H": 32, "W": 32}

    def made(operator, implementation):
        case = Case(deployed.TASK, "own", operator, implementation, dims, "float32", "cpu", "inference", 2.0)
        return build(case).module.model

    plain, swapped = made(deployed.AS_IT_IS, "torch"), made("with-carafe", "unfold")
    for one in (plain, swapped):
        assert one.stem[1].running_mean.eq(0.25).all()
        assert torch.equal(one.mix.weight, plain.mix.weight)
    torch.manual_seed(0)
    own = deployed.load_model(target)
    assert torch.equal(plain.scale, own.scale)
    biases = [value for name, value in swapped.up.named_parameters() if name.endswith("bias")]
    assert biases
    assert all(value.ne(0).all() for value in biases)  # as they are drawn, not as they are made


def test_a_swap_of_several_is_deployed_alone_and_together():
    both = [deployed.parse_swap(text) for text in ("upsample=carafe", "conv3x3=dcnv3", "model.2=carafe")]
    assert list(deployed.swap_names(both)) == ["with-carafe", "with-dcnv3", "with-carafe-2", "with-carafe+dcnv3+carafe"]
    assert list(deployed.implementations(both)) == ["auto", "exported"]
    assert deployed.implementations(both[:1]).keys() >= {"cpu", "unfold", "slices"}


def test_an_operator_that_has_no_graph_is_refused(monkeypatch):
    real = registry.operator("upsample2x", "carafe")
    table = {name: one for name, one in real.implementations.items() if name == "cpu"}
    monkeypatch.setattr(
        registry, "operator", lambda *_: dataclasses.replace(real, implementations=table, preferred=("cpu",))
    )
    with pytest.raises(OpbenchError, match="carafe can't be exported: it is machine code of opbench's own"):
        targets.operator_target("carafe", "", {})


@pytest.mark.nightly
def test_a_persons_own_module_is_deployed_held_against_itself_and_the_verdict_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    done = invoke("own.py:Net", "--size", "32x32", "--budget", "0", "--share-cpu", "--threads", "1", "-o", "out")
    assert done.exit_code == 0, done.output
    found = documents.read(tmp_path / "out" / "deploy.json", Deployment)
    assert {(one.runtime, one.proof) for one in found.proofs} == {("onnxruntime", "right"), ("openvino", "right")}
    assert any("held against itself in float64: no operator was named" in line for line in found.verdict)
    assert [one.runtime for one in found.latencies] == ["torch", "onnxruntime", "openvino"]
    assert [bool(one.ratio) for one in found.latencies] == [False, True, True]


@pytest.mark.nightly
def test_a_yaml_model_with_a_swap_is_right_in_every_runtime(tmp_path, monkeypatch):
    pytest.importorskip("ultralytics")
    monkeypatch.chdir(tmp_path)
    asked = ["yolov8n.yaml", "--size", "64x64", "--swap", "upsample=carafe", "--runtime", "torchscript"]
    asked += ["--runtime", "onnxruntime", "--runtime", "openvino", "--prove-only", "--threads", "1", "-o", "out"]
    done = invoke(*asked)
    assert done.exit_code == 0, done.output
    found = documents.read(tmp_path / "out" / "deploy.json", Deployment)
    assert {one.proof for one in found.proofs} == {"right"}
    assert {one.axes for one in found.artifacts} == {"fixed", "free"}
    assert {one.contender for one in found.artifacts} == {
        "as-it-is[torch]",
        "with-carafe[unfold]",
        "with-carafe[slices]",
    }
