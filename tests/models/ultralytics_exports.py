"""What becomes of a swapped YOLOv8n in ultralytics' own `export(format=...)`: one format, in a process of its own.

    python tests/models/ultralytics_exports.py onnx          {"outcome": "right", "said": "0.4 of the bound"}
    python tests/models/ultralytics_exports.py others        a row each for those that aren't executed here

right or wrong: the file was executed, and its whole output held against the float64 definition of the network. written:
there is a file, and nothing here that executes it. refused: the exporter says why. Nothing is installed by the way.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

SIZE = 64
SWAP = "upsample=carafe"
# Those that are executed here.
PROVEN = ("torchscript", "onnx", "openvino", "ncnn")


def exported(format_):
    """(outcome, sentence) of one format."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        yolo, made = network()
        try:
            path = yolo.export(format=format_, imgsz=SIZE, device="cpu", verbose=False)
        except Exception as error:  # of whatever kind the exporter raises
            return "refused", " ".join(str(error).split())[:300] or type(error).__name__
        return judged(made, EXECUTED[format_](Path(path), made.inputs))


def network():
    """(the package's YOLO with the swap in it, as a user has it; the same as a case, with its inputs)."""
    from ultralytics import YOLO

    from opbench import registry
    from opbench.build import build
    from opbench.models import deployed
    from opbench.schema import Case

    registry.load()
    deployed.register_deployed("yolov8n.yaml", swaps=(SWAP,))
    dims = {"N": 1, "C": 3, "H": SIZE, "W": SIZE}
    operator = next(iter(deployed.swap_names([deployed.parse_swap(SWAP)])))
    made = build(Case(deployed.TASK, "export", operator, "unfold", dims, "float32", "cpu", "inference", 2.0))
    yolo = YOLO("yolov8n.yaml", verbose=False)
    yolo.model = made.module.model
    for part in yolo.model.modules():
        if getattr(part, "implementation", None) is not None:
            part.implementation = "auto"  # as swap() leaves it: it must export by itself
    return yolo, made


def judged(made, got):
    """Whether an output is within the bound of the definition at each element."""
    from opbench.verify.gate import reference

    verdict = reference(made).judge({"output": got})
    return ("right", f"{verdict.worst_ratio:.2g} of the bound") if verdict.correct else ("wrong", verdict.reason)


def torchscript(path, inputs):
    import torch

    return torch.jit.load(str(path))(*inputs)


def onnx(path, inputs):
    from opbench.runtimes.of_onnx import onnxruntime_session

    return onnxruntime_session(path.read_bytes(), 1)(*inputs)


def openvino(path, inputs):
    import openvino

    from opbench.runtimes.of_onnx import openvino_compiled

    return openvino_compiled(openvino.Core().read_model(next(path.glob("*.xml"))), 1)(*inputs)


def ncnn(path, inputs):
    from opbench.runtimes.of_ncnn import NcnnFiles, ncnn_net

    param, weights = (next(path.glob(f"*.ncnn.{end}")) for end in ("param", "bin"))
    return ncnn_net(NcnnFiles(param.read_text(), weights.read_bytes()), 1)(*inputs)


EXECUTED = {"torchscript": torchscript, "onnx": onnx, "openvino": openvino, "ncnn": ncnn}


def apart(format_, seconds=900):
    """The same in a process of its own, which may hang or crash: {"outcome": ..., "said": ...}."""
    environment = {**os.environ, "YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true"}
    command = [sys.executable, __file__, format_]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return {"outcome": "refused", "said": f"no answer within {seconds} s"}
    for line in reversed(done.stdout.splitlines()):
        if line.startswith('{"outcome"'):
            return json.loads(line)
    last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "")
    return {"outcome": "crashed", "said": f"exit code {done.returncode}: {last[:200]}"}


def formats():
    """Every format that the package knows, by the name that export() takes."""
    from ultralytics.engine.exporter import export_formats

    return tuple(export_formats()["Argument"][1:])


def others():
    """(format, outcome, sentence) of every format that isn't executed here, one after the other in this process."""
    import torch
    from ultralytics import YOLO

    from opbench.models import swap
    from opbench.operators.carafe import YoloCARAFE

    yolo = YOLO("yolov8n.yaml", verbose=False)
    swap(yolo.model, torch.nn.Upsample, YoloCARAFE)
    for name in formats():
        if name in PROVEN:
            continue
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            try:
                path = yolo.export(format=name, imgsz=SIZE, device="cpu", verbose=False)
            except BaseException as error:  # of whatever kind the exporter raises; some end the process
                yield name, "refused", " ".join(str(error).split())[:300] or type(error).__name__
            else:
                yield name, "written", f"{path}; not executed here"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if sys.argv[1] == "others":
        for row in others():
            print("| `{}` | {} | {} |".format(*row), flush=True)
    else:
        outcome, said = exported(sys.argv[1])
        print(json.dumps({"outcome": outcome, "said": said}), flush=True)
