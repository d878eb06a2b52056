"""ONNX Runtime and OpenVINO: one file written by torch's exporter, executed by each."""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from opbench.runtimes.prepared import CantBeMade, Executed, refused
from opbench.schema import Artifact

# The newest opset whose GridSample every runtime here has: ONNX Runtime's CUDA provider lacks the one of 20, and
# TensorRT's parser takes it for nearest.
OPSET = 17
EXPORTER = f"torch.onnx (TorchScript), opset {OPSET}"


def write(module: nn.Module, inputs: tuple[Tensor, ...], *, opset: int = OPSET, free: bool = False) -> bytes:
    """The module as an ONNX file: one output `output`, inputs `input0`, ...; `free` leaves batch and size open.

    Raises CantBeMade with the exporter's own words.
    """
    names = [f"input{position}" for position in range(len(inputs))]
    axes = {name: {0: "batch", 2: f"height{name[5:]}", 3: f"width{name[5:]}"} for name in names}
    written = io.BytesIO()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                inputs,
                written,  # type: ignore[arg-type]  # a file object, which this exporter takes
                dynamo=False,
                opset_version=opset,
                input_names=names,
                output_names=["output"],
                dynamic_axes={**axes, "output": {0: "batch", 2: "height_out", 3: "width_out"}} if free else None,
            )
    except Exception as error:  # of whatever kind the exporter raises
        raise refused("torch.onnx can't write it down", error) from error
    return written.getvalue()


def onnxruntime(module: nn.Module, inputs: tuple[Tensor, ...], threads: int) -> Executed:
    """The module in ONNX Runtime on the CPU."""
    return _executed("ONNX Runtime", onnxruntime_session, module, inputs, threads)


def onnxruntime_session(content: bytes, threads: int) -> Callable[..., Tensor]:
    """What executes an ONNX file in ONNX Runtime: torch tensors in, its first output out."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Threads that spin on after a call would take the cores from the contender that comes next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own exception types derive from several
        raise refused("ONNX Runtime can't load it", error) from error
    names = [one.name for one in session.get_inputs()]
    wanted = [session.get_outputs()[0].name]

    def run(*given: Tensor) -> Tensor:
        values = {name: value.detach().numpy() for name, value in zip(names, given, strict=True)}
        return torch.from_numpy(session.run(wanted, values)[0])

    return run


def openvino(module: nn.Module, inputs: tuple[Tensor, ...], threads: int) -> Executed:
    """The module in OpenVINO on the CPU, told to keep float32: left alone it may compute in bfloat16."""
    return _executed("OpenVINO", openvino_request, module, inputs, threads)


def openvino_request(content: bytes, threads: int) -> Callable[..., Tensor]:
    """What executes an ONNX file in OpenVINO: torch tensors in, its first output out."""
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    try:
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(model=io.BytesIO(content)), "CPU", settings)
    except Exception as error:  # RuntimeError for the most part
        raise refused("OpenVINO can't load it", error) from error
    request = compiled.create_infer_request()

    def run(*given: Tensor) -> Tensor:
        values = {position: value.detach().numpy() for position, value in enumerate(given)}
        request.infer(values, share_inputs=True)
        # The request's own buffer is written again by the next call.
        return torch.from_numpy(request.get_output_tensor(0).data.copy())

    return run


def _executed(
    runtime: str,
    start: Callable[[bytes, int], Callable[..., Tensor]],
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    threads: int,
) -> Executed:
    if inputs and inputs[0].dtype not in (torch.float32, torch.float64, torch.float16):
        raise CantBeMade(f"{runtime} is given float32, float64 or float16 here, not {str(inputs[0].dtype)[6:]}")
    content = write(module, inputs)
    begin = time.perf_counter()
    run = start(content, threads)
    seconds = time.perf_counter() - begin
    return Executed(module, run, Artifact(EXPORTER, len(content), nodes_of(content), seconds))


def nodes_of(content: bytes) -> int:
    """How many operations an ONNX file has, those of nested graphs included."""
    import onnx

    def count(graph: Any) -> int:
        inner = (attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g"))
        return len(graph.node) + sum(map(count, inner))

    return count(onnx.load_model_from_string(content).graph)
