"""ONNX Runtime and OpenVINO: one file written by torch's exporter, executed by each."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import io
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from opbench.errors import NeedsOpset
from opbench.runtimes.prepared import CantBeMade, Executed, refused
from opbench.schema import Artifact

# The newest opset whose GridSample every runtime here has: ONNX Runtime's CUDA provider lacks the one of 20, and
# TensorRT's parser takes it for nearest.
OPSET = 17
EXPORTER = "torch.onnx (TorchScript)"
DYNAMO = "torch.onnx (dynamo)"
# The first that has GridSample, and the last that some exporter of torch writes: beyond TRACED that of torch.export.
OPSETS = (16, 23)
TRACED = 20


def write(module: nn.Module, inputs: tuple[Tensor, ...], *, opset: int = OPSET, free: bool = False) -> bytes:
    """The module as an ONNX file: one output `output`, inputs `input0`, ...; `free` leaves batch and size open.

    Raises CantBeMade with the exporter's own words.
    """
    names = [f"input{position}" for position in range(len(inputs))]
    if opset > TRACED:
        return _by_dynamo(module, inputs, names, opset, free=free)
    axes = {name: {0: "batch", 2: f"height{name[5:]}", 3: f"width{name[5:]}"} for name in names}
    written = io.BytesIO()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if free:  # what comes out may have no height, as boxes don't
                rank = module(*inputs).ndim
                axes["output"] = {0: "batch", **{axis: f"side{axis}_out" for axis in range(2, rank)}}
            torch.onnx.export(
                module,
                inputs,
                written,  # type: ignore[arg-type]  # a file object, which this exporter takes
                dynamo=False,
                opset_version=opset,
                input_names=names,
                output_names=["output"],
                dynamic_axes=axes if free else None,
            )
    except NeedsOpset as error:
        raise OpsetTooLow(error) from error
    except Exception as error:  # of whatever kind the exporter raises
        raise refused("torch.onnx can't write it down", error) from error
    return written.getvalue()


class OpsetTooLow(CantBeMade):
    """What the module needs has no place in a file of the opset asked for; `least` is the first that has it."""

    def __init__(self, error: NeedsOpset) -> None:
        super().__init__(f"torch.onnx can't write it down: {error}")
        self.least = error.least


def exporter(opset: int) -> str:
    """Who writes a file of an opset."""
    return EXPORTER if opset <= TRACED else DYNAMO


def _by_dynamo(module: nn.Module, inputs: tuple[Tensor, ...], names: Sequence[str], opset: int, *, free: bool) -> bytes:
    if importlib.util.find_spec("onnxscript") is None:
        raise CantBeMade(f"opset {opset} needs onnxscript, which is not installed: pip install 'opbench[deploy]'")
    auto = torch.export.Dim.AUTO
    axes: Any = tuple({0: auto, 2: auto, 3: auto} for _ in inputs)
    parameters = inspect.signature(module.forward).parameters.values()
    if any(one.kind is one.VAR_POSITIONAL for one in parameters):
        axes = (axes,)
    try:
        with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                module,
                inputs,
                dynamo=True,
                opset_version=opset,
                input_names=names,
                output_names=["output"],
                dynamic_shapes=axes if free else None,
                external_data=False,
            )
        content: bytes = program.model_proto.SerializeToString()
    except Exception as error:  # of whatever kind the exporter raises
        raise refused("torch.onnx can't write it down", error) from error
    if (written := opset_of(content)) != opset:
        raise CantBeMade(f"torch.onnx wrote opset {written} where {opset} was asked for")
    return content


def opset_of(content: bytes) -> int:
    """The version of ONNX's own operations in a file."""
    import onnx

    imported = onnx.load_model_from_string(content).opset_import
    return next((one.version for one in imported if one.domain in ("", "ai.onnx")), 0)


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
    return openvino_compiled(openvino_model(content), threads)


def openvino_model(content: bytes) -> Any:
    """An ONNX file as OpenVINO reads it. Raises CantBeMade with its own words.

    It has a kernel for ONNX's DeformConv, and reads none from a file: here it is told which operation that is.
    """
    import openvino

    core = openvino.Core()
    if b"DeformConv" in content:
        from openvino.frontend.onnx import ConversionExtension

        core.add_extension(ConversionExtension("DeformConv", _deformable_convolution))
    try:
        return core.read_model(model=io.BytesIO(content))
    except Exception as error:  # RuntimeError for the most part
        raise refused("OpenVINO can't load it", error) from error


def _deformable_convolution(node: Any) -> Any:
    """ONNX's DeformConv, with a mask and without a bias, as OpenVINO's: samples fade out beyond the border."""
    from openvino import opset8

    pads = node.get_attribute("pads")
    x, weight, offset, mask = (node.get_input(position) for position in (0, 1, 2, 4))
    found = opset8.deformable_convolution(
        x, offset, weight, strides=node.get_attribute("strides"), pads_begin=pads[:2], pads_end=pads[2:],
        dilations=node.get_attribute("dilations"), mask=mask, group=node.get_attribute("group"),
        deformable_group=node.get_attribute("offset_group"), bilinear_interpolation_pad=True,
    )  # fmt: skip
    return found.outputs()


def openvino_compiled(model: Any, threads: int) -> Callable[..., Tensor]:
    """What executes a model that OpenVINO has read: torch tensors in, its first output out."""
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    try:
        compiled = openvino.Core().compile_model(model, "CPU", settings)
    except Exception as error:  # likewise
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
    opset = OPSET
    try:
        content = write(module, inputs)
    except OpsetTooLow as error:
        opset = error.least
        content = write(module, inputs, opset=opset)
    begin = time.perf_counter()
    run = start(content, threads)
    seconds = time.perf_counter() - begin
    return Executed(module, run, Artifact(f"{EXPORTER}, opset {opset}", len(content), nodes_of(content), seconds))


def nodes_of(content: bytes) -> int:
    """How many operations an ONNX file has, those of nested graphs included."""
    return sum(1 for _ in operations(content))


def operations(content: bytes) -> Iterator[str]:
    """The type of each operation of an ONNX file, those of nested graphs included."""
    import onnx

    def of(graph: Any) -> Iterator[str]:
        for node in graph.node:
            yield node.op_type
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    yield from of(attribute.g)

    return of(onnx.load_model_from_string(content).graph)


def external_files(model: Any) -> set[str]:
    """The other files that an ONNX model keeps tensors in, as it names them, wherever in it a tensor may stand."""

    def of_nodes(nodes: Any) -> Iterator[Any]:
        for attribute in (attribute for node in nodes for attribute in node.attribute):
            yield from (
                attribute.t,
                *attribute.tensors,
                attribute.sparse_tensor.values,
                attribute.sparse_tensor.indices,
            )
            for graph in (attribute.g, *attribute.graphs):
                yield from of_graph(graph)

    def of_graph(graph: Any) -> Iterator[Any]:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        yield from of_nodes(graph.node)

    tensors = [*of_graph(model.graph), *(one for function in model.functions for one in of_nodes(function.node))]
    return {entry.value for one in tensors for entry in one.external_data if entry.key == "location"}
