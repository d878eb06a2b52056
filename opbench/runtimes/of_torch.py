"""Torch's own ways to leave eager mode: compiled, exported, scripted."""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from opbench.runtimes.prepared import Executed, refused
from opbench.schema import Artifact


def compiled(module: nn.Module, inputs: tuple[Tensor, ...], threads: int) -> Executed:
    """The module under `torch.compile`, for these shapes."""
    return _loaded(module, inputs, "torch.compile", torch.compile(module, dynamic=False), 0, 0)


def program(module: nn.Module, inputs: tuple[Tensor, ...], threads: int) -> Executed:
    """The module as `torch.export` writes it down, saved and loaded again."""
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            written = io.BytesIO()
            exported = torch.export.export(module, inputs)
            torch.export.save(exported, written)
            begin = time.perf_counter()
            written.seek(0)
            loaded = torch.export.load(written)
            seconds = time.perf_counter() - begin
    except Exception as error:  # of whatever kind the exporter raises
        raise refused("torch.export can't write it down", error) from error
    nodes = sum(node.op == "call_function" for node in loaded.graph.nodes)
    return _loaded(module, inputs, "torch.export", loaded.module(), nodes, written.getbuffer().nbytes, seconds)


def script(module: nn.Module, inputs: tuple[Tensor, ...], threads: int) -> Executed:
    """The module as `torch.jit.trace` writes it down, frozen, saved and loaded again."""
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            written = io.BytesIO()
            traced = torch.jit.freeze(torch.jit.trace(module, inputs, check_trace=False))
            torch.jit.save(traced, written)
            begin = time.perf_counter()
            written.seek(0)
            loaded = torch.jit.load(written)
            seconds = time.perf_counter() - begin
    except Exception as error:  # of whatever kind the tracer raises
        raise refused("torch.jit.trace can't write it down", error) from error
    nodes = sum(1 for _ in loaded.inlined_graph.nodes())
    return _loaded(module, inputs, "torch.jit.trace", loaded, nodes, written.getbuffer().nbytes, seconds)


def _loaded(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    exporter: str,
    run: Callable[..., Tensor],
    nodes: int,
    size: int,
    seconds: float = 0.0,
) -> Executed:
    return Executed(module, run, Artifact(exporter=exporter, bytes=size, nodes=nodes, load_seconds=seconds))
