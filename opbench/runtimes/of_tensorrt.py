"""TensorRT on a CUDA device: an engine built from torch's ONNX file, told to keep float32.

Written to the interface of TensorRT 10; it has not been run by this project, which had no machine with it. What it
computes is held against the definition before it is timed, like every other runtime's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from opbench.runtimes import of_onnx
from opbench.runtimes.prepared import CantBeMade, Executed
from opbench.schema import Artifact


def tensorrt(module: nn.Module, inputs: tuple[Tensor, ...], threads: int) -> Executed:
    """The module in TensorRT on the inputs' device. Raises CantBeMade with the parser's own words."""
    if inputs and inputs[0].dtype != torch.float32:
        raise CantBeMade(f"TensorRT is given float32 here, not {str(inputs[0].dtype)[6:]}")
    content = of_onnx.write(module, inputs)
    begin = time.perf_counter()
    plan = _plan(content)
    run = _context(plan)
    seconds = time.perf_counter() - begin
    exporter = f"{of_onnx.EXPORTER}, opset {of_onnx.OPSET}, TensorRT's builder"
    return Executed(module, run, Artifact(exporter, len(plan), of_onnx.nodes_of(content), seconds))


def _plan(content: bytes) -> bytes:
    """The serialized engine."""
    import tensorrt as package

    logger = package.Logger(package.Logger.ERROR)
    builder = package.Builder(logger)
    network = builder.create_network(0)
    parser = package.OnnxParser(network, logger)
    if not parser.parse(content):
        errors = "; ".join(str(parser.get_error(at)) for at in range(parser.num_errors))
        raise CantBeMade(f"TensorRT can't parse it: {errors[:400]}")
    config = builder.create_builder_config()
    config.clear_flag(package.BuilderFlag.TF32)  # on by default: ten bits of a product's operands
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise CantBeMade("TensorRT can't build an engine of it")
    return bytes(plan)


def _context(plan: bytes) -> Callable[..., Tensor]:
    """What executes an engine on torch's current stream: CUDA tensors in, its first output out, in new memory."""
    import tensorrt as package

    engine = package.Runtime(package.Logger(package.Logger.ERROR)).deserialize_cuda_engine(plan)
    context = engine.create_execution_context()
    names = [engine.get_tensor_name(at) for at in range(engine.num_io_tensors)]
    given = [name for name in names if engine.get_tensor_mode(name) == package.TensorIOMode.INPUT]
    output = next(name for name in names if name not in given)
    held: dict[str, Any] = {"engine": engine}  # a context doesn't keep its engine

    def run(*inputs: Tensor) -> Tensor:
        for name, value in zip(given, inputs, strict=True):
            held[name] = value.detach().contiguous()
            context.set_tensor_address(name, held[name].data_ptr())
        found = torch.empty(tuple(context.get_tensor_shape(output)), device=inputs[0].device)
        context.set_tensor_address(output, found.data_ptr())
        if not context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
            raise RuntimeError("TensorRT executed nothing")
        return found

    return run
