"""What executes a contender: torch itself, or what a module is written down for.

A runtime takes a built module and its inputs and gives back what is called in its place. What that computes is held
against the definition like any other contender's output before it is timed; nothing here is believed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from opbench.schema import DEFAULT_RUNTIME

if TYPE_CHECKING:
    from opbench.runtimes.prepared import Prepare

# Apart from the extra: ncnn brings OpenCV along.
NCNN = "ncnn pnnx"


def _no_module(name: str, package: str, cure: str = "'opbench[deploy]'") -> str | None:
    if importlib.util.find_spec(name) is None:
        return f"{package} is not installed: pip install {cure}"
    return None


def _onnx_and(name: str, package: str, cure: str = "'opbench[deploy]'") -> str | None:
    return _no_module(name, package, cure) or _no_module("onnx", "onnx")


def _ncnn_and_pnnx() -> str | None:
    return _no_module("ncnn", "ncnn", NCNN) or _no_module("pnnx", "pnnx, which writes files for ncnn,", NCNN)


@dataclass(frozen=True)
class Runtime:
    """`missing()` gives the reason why it can't run here, or None; `prepare` is "module:function" (see `Prepare`).

    `records` says that it executes a graph which an exporter has written down; `device` is where it executes it, "" for
    wherever torch does.
    """

    name: str
    title: str
    prepare: str = ""
    missing: Callable[[], str | None] = lambda: None
    records: bool = True
    device: str = "cpu"

    def load(self) -> Prepare:
        """The function that makes a module ready for it; imported now, with the runtime itself."""
        found: Prepare = resolve_name(self.prepare)
        return found


RUNTIMES: Mapping[str, Runtime] = {
    runtime.name: runtime
    for runtime in (
        Runtime(DEFAULT_RUNTIME, "torch, eager", records=False, device=""),
        Runtime("torch-compile", "torch.compile", "opbench.runtimes.of_torch:compiled", records=False),
        Runtime("torch-export", "the program of torch.export", "opbench.runtimes.of_torch:program"),
        Runtime("torchscript", "TorchScript: traced and frozen", "opbench.runtimes.of_torch:script"),
        Runtime(
            "onnxruntime",
            "ONNX Runtime, CPU provider",
            "opbench.runtimes.of_onnx:onnxruntime",
            partial(_onnx_and, "onnxruntime", "onnxruntime"),
        ),
        Runtime(
            "openvino",
            "OpenVINO, CPU, float32 kept",
            "opbench.runtimes.of_onnx:openvino",
            partial(_onnx_and, "openvino", "openvino"),
        ),
        Runtime("ncnn", "ncnn, CPU, float32 kept", "opbench.runtimes.of_ncnn:ncnn", _ncnn_and_pnnx),
        Runtime(
            "tensorrt",
            "TensorRT, float32 kept",
            "opbench.runtimes.of_tensorrt:tensorrt",
            partial(_onnx_and, "tensorrt", "tensorrt", "tensorrt, beside a CUDA device"),
            device="cuda",
        ),
    )
}
