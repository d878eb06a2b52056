"""The script beside the files, on a device where something doesn't fit: a sentence and an exit code, for each file."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from opbench import documents
from opbench.deploy import on_device
from opbench.deploy.nouns import DeviceRun
from opbench.runtimes import of_onnx

for needed in ("onnx", "onnxruntime", "openvino"):
    pytest.importorskip(needed, reason="the extra opbench[deploy] is not installed")

FILE = "up.onnx"


@pytest.fixture
def carried(tmp_path):
    """A folder as `opbench deploy` ships it, with one file."""
    import json

    folder = tmp_path / "carried"
    folder.mkdir()
    x = torch.randn(1, 8, 6, 6)
    expected = nn.Upsample(scale_factor=2)(x).numpy()
    np.savez(folder / "up.npz", **{"own.input0": x.numpy(), "own.expected": expected, "own.bound": expected * 0 + 1e-6})
    entry = {"file": FILE, "contender": "nearest[torch]", "format": "onnx", "axes": "fixed"}
    manifest = {
        "target": "nearest",
        "definition": "the definition",
        "files": [{**entry, "inputs": "up.npz", "sets": ["own"]}],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    shutil.copyfile(on_device.__file__, folder / "on_device.py")
    (folder / FILE).write_bytes(of_onnx.write(nn.Upsample(scale_factor=2), (x,)))
    return folder


def on_a_device(folder, *words):
    """What the script says of the file: its exit code, and the proof."""
    document = folder / "device.json"
    command = [sys.executable, folder / "on_device.py", "--rounds", "0", *words, "-o", document]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    (found,) = documents.read(document, DeviceRun).proofs
    return done.returncode, found


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_file_as_it_was_shipped_is_right(carried, runtime):
    code, found = on_a_device(carried, "--runtime", runtime)
    assert (code, found.proof) == (0, "right")


class Two(nn.Module):
    def forward(self, x, y):
        return x + y


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_file_with_other_inputs_is_refused_in_a_sentence(carried, runtime):
    x = torch.randn(1, 8, 6, 6)
    (carried / FILE).write_bytes(of_onnx.write(Two().eval(), (x, x)))
    code, found = on_a_device(carried, "--runtime", runtime)
    assert (code, found.proof) == (2, "refused")
    assert found.reason.startswith("the file has 2 inputs (")
    assert found.reason.endswith("there are 1 to give it")


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_file_of_another_fixed_size_is_refused_in_the_runtimes_words(carried, runtime):
    (carried / FILE).write_bytes(of_onnx.write(nn.Upsample(scale_factor=2), (torch.randn(1, 8, 9, 9),)))
    code, found = on_a_device(carried, "--runtime", runtime)
    assert (code, found.proof) == (2, "refused")
    assert "9" in found.reason


def test_what_is_no_model_is_refused_and_what_is_missing_too(carried):
    (carried / FILE).write_bytes(b"no model at all")
    assert on_a_device(carried)[1].proof == "refused"
    (carried / FILE).unlink()
    code, found = on_a_device(carried)
    assert (code, found.proof) == (2, "refused")
    assert FILE in found.reason


def test_a_runtime_that_is_not_there_is_a_sentence(carried):
    (carried / "onnxruntime.py").write_text("raise ImportError('No module named onnxruntime')\n")
    code, found = on_a_device(carried)
    assert (code, found.proof, found.reason) == (2, "refused", "No module named onnxruntime")


def test_a_runtime_that_crashes_its_process_costs_one_file(carried):
    (carried / "openvino.py").write_text("import os\nos.abort()\n")  # of the runtime's name, and dies
    code, found = on_a_device(carried, "--runtime", "openvino")
    assert (code, found.proof) == (1, "crashed")
    assert found.reason.startswith("its process ended with code -6")
