"""Torch's own ways to leave eager mode: compiled, exported, scripted."""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from opbench.runtimes.prepared import Executed, refused
from opbench.schema import Artifact

TRACER = "torch.jit.trace"


def compiled(module: nn.Module, inputs: tuple[Tensor, ...], threads: int) -> Executed:
    """The module under `torch.compile`, for these shapes."""
    artifact = Artifact(exporter="torch.compile", bytes=0, nodes=0, load_seconds=0.0)
    return Executed(module, torch.compile(module, dynamic=False), artifact)


def program(module: nn.Module, inputs: tuple[Tensor, ...], threads: int) -> Executed:
    """The module as `torch.export` writes it down, saved and loaded again."""
    loaded, content, seconds = _loaded(
        "torch.export", lambda file: torch.export.save(torch.export.export(module, inputs), file), torch.export.load
    )
    nodes = sum(node.op == "call_function" for node in loaded.graph.nodes)
    return Executed(module, loaded.module(), Artifact("torch.export", len(content), nodes, seconds))


def script(module: nn.Module, inputs: tuple[Tensor, ...], threads: int) -> Executed:
    """The module as `torch.jit.trace` writes it down, frozen, saved and loaded again."""
    loaded, content, seconds = _traced(module, inputs)
    return Executed(module, loaded, Artifact(TRACER, len(content), _nodes(loaded), seconds))


def traced(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[bytes, int]:
    """The same as a file, and how many operations it has. Raises CantBeMade with the tracer's own words."""
    loaded, content, _ = _traced(module, inputs)
    return content, _nodes(loaded)


def _traced(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Any, bytes, float]:
    def write(file: io.BytesIO) -> None:
        torch.jit.save(torch.jit.freeze(torch.jit.trace(module, inputs, check_trace=False)), file)

    return _loaded(TRACER, write, torch.jit.load)


def _nodes(loaded: Any) -> int:
    return sum(1 for _ in loaded.inlined_graph.nodes())


def _loaded(
    exporter: str, write: Callable[[io.BytesIO], None], load: Callable[[io.BytesIO], Any]
) -> tuple[Any, bytes, float]:
    """What an exporter has written, loaded: with the file, and the seconds that loading took."""
    file = io.BytesIO()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            write(file)
            begin = time.perf_counter()
            file.seek(0)
            loaded = load(file)
            seconds = time.perf_counter() - begin
    except Exception as error:  # of whatever kind the exporter raises
        raise refused(f"{exporter} can't write it down", error) from error
    return loaded, file.getvalue(), seconds
