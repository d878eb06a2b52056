"""A module that takes its exporter or its runtime down costs its own files, in a sentence."""

import pytest
from factory import make_artifact
from typer.testing import CliRunner

from opbench import documents, registry
from opbench.cli import app
from opbench.deploy import making
from opbench.deploy.nouns import Deployment
from opbench.deploy.writing import RefusedFile, WriteJob, WrittenFile
from opbench.process.death import Death
from opbench.schema import Case

for needed in ("onnx", "onnxruntime", "openvino"):
    pytest.importorskip(needed, reason="the extra opbench[deploy] is not installed")

OWN = """
import os

import torch
from torch import nn


class Dies(nn.Conv2d):
    def __init__(self):
        super().__init__(3, 4, 1)

    def forward(self, x):
        if torch.jit.is_tracing():
            os.abort()
        return super().forward(x)


class Branches(nn.Conv2d):
    def __init__(self):
        super().__init__(3, 4, 1)

    def forward(self, x):
        return super().forward(x) * torch.linalg.eigvals(x[0, 0, :3, :3]).real.sum()


class OneSize(nn.Module):
    def __init__(self):
        super().__init__()
        self.flat = nn.Linear(3 * 8 * 8, 5)

    def forward(self, x):
        return self.flat(x.flatten(1))
"""


@pytest.fixture(scope="module", autouse=True)
def _declared():
    registry.load()


def test_what_was_written_before_a_death_is_kept_and_the_rest_refused_with_it():
    case = Case("upsample2x", "w", "nearest", "torch", {"N": 1}, "float32", "cpu", "inference", None)
    job = WriteJob(case, (), "nowhere", ("onnx", "ncnn"), (17, 20))
    there = [WrittenFile(make_artifact(opset=17, axes="fixed"))]
    lost = list(making._lost_with(Death("crash", "died with SIGABRT"), job, there))
    assert all(isinstance(one, RefusedFile) for one in lost)
    assert [(one.refused.format, one.refused.opset, one.refused.axes) for one in lost] == [
        ("onnx", 20, "fixed"),
        ("ncnn", 0, "fixed"),
        ("onnx", 17, "free"),
        ("onnx", 20, "free"),
    ]
    assert {one.refused.reason for one in lost} == {"its process died with SIGABRT"}


def deployed(tmp_path, name, *words):
    (tmp_path / "own.py").write_text(OWN)
    asked = ["deploy", f"{tmp_path / 'own.py'}:{name}", "--shape", "N=1,C=3,H=8,W=8", "--prove-only", "--opset", "17"]
    done = CliRunner().invoke(app, [*asked, "--threads", "1", "-o", str(tmp_path / "out"), *words])
    assert "Traceback" not in done.output
    return done.exit_code, documents.read(tmp_path / "out" / "deploy.json", Deployment)


@pytest.mark.nightly
def test_a_module_that_kills_the_exporter_has_no_file_and_the_command_goes_on(tmp_path):
    code, found = deployed(tmp_path, "Dies")
    assert code == 2
    assert not found.artifacts
    assert all(one.reason.startswith("its process died with SIGABRT") for one in found.refused)
    assert found.refused
    assert not (tmp_path / "out" / "deploy.jsonl").exists()


@pytest.mark.nightly
def test_what_the_exporter_has_no_operation_for_is_refused_in_its_words(tmp_path):
    code, found = deployed(tmp_path, "Branches")
    assert code == 2
    assert {one.reason.partition(":")[0] for one in found.refused} == {"torch.onnx can't write it down"}


@pytest.mark.nightly
def test_a_network_of_one_size_is_proven_at_that_size_alone(tmp_path):
    code, found = deployed(tmp_path, "OneSize")
    assert code == 0
    assert {one.proof for one in found.proofs} == {"right"}
    assert {at.shape for one in found.proofs for at in one.at} == {(1, 3, 8, 8)}
