"""ncnn on the CPU, through pnnx: two files, the graph as text and its weights.

ncnn has no batch: a tensor's first axis is taken off before and put back after.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from opbench.runtimes.prepared import CantBeMade, Executed, refused
from opbench.schema import Artifact

EXPORTER = "pnnx"
SECONDS = 300.0
# Every way to compute or keep values in less than float32 that ncnn has on some CPU.
LESS_THAN_FLOAT32 = (
    "use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage", "use_int8_inference",
)  # fmt: skip


class NcnnFiles(NamedTuple):
    """What pnnx writes: the graph as text, and the weights."""

    param: str
    weights: bytes


def ncnn(module: nn.Module, inputs: tuple[Tensor, ...], threads: int) -> Executed:
    """The module in ncnn on the CPU, in float32. Raises CantBeMade with the tools' own words."""
    files = write(module, inputs)
    begin = time.perf_counter()
    run = ncnn_net(files, threads)
    seconds = time.perf_counter() - begin
    nodes = sum(1 for _ in layers(files.param))
    return Executed(module, run, Artifact(EXPORTER, len(files.param) + len(files.weights), nodes, seconds))


def write(module: nn.Module, inputs: tuple[Tensor, ...]) -> NcnnFiles:
    """The module traced, and converted by pnnx at these sizes; weights in float32."""
    import pnnx

    for value in inputs:
        if value.dtype != torch.float32:
            raise CantBeMade(f"ncnn is given float32 here, not {str(value.dtype)[6:]}")
        if value.ndim and value.shape[0] != 1:
            raise CantBeMade(f"ncnn takes one image at a time, not a batch of {value.shape[0]}")
    with tempfile.TemporaryDirectory() as folder:
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.jit.save(torch.jit.trace(module, inputs, check_trace=False), os.path.join(folder, "model.pt"))
        except Exception as error:  # of whatever kind the tracer raises
            raise refused("torch.jit.trace can't write it down", error) from error
        shapes = ",".join(f"[{','.join(map(str, value.shape))}]f32" for value in inputs)
        # Its other files go into the folder, too.
        words = [pnnx.EXEC_PATH, "model.pt", f"inputshape={shapes}", "fp16=0"]
        try:
            done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise refused("pnnx can't convert it", error) from error
        param, weights = Path(folder, "model.ncnn.param"), Path(folder, "model.ncnn.bin")
        if done.returncode or not param.is_file() or not weights.is_file():
            said = next((line for line in reversed((done.stderr + done.stdout).splitlines()) if line.strip()), "")
            raise CantBeMade(f"pnnx can't convert it: exit code {done.returncode}: {said[:200]}")
        return NcnnFiles(param.read_text(encoding="utf-8"), weights.read_bytes())


def layers(param: str) -> Iterator[str]:
    """The type of each layer of a graph but its inputs: a line each, after the magic number and the counts."""
    for line in param.splitlines()[2:]:
        kind = line.split(maxsplit=1)[0] if line.strip() else "Input"
        if kind != "Input":
            yield kind


def ncnn_net(files: NcnnFiles, threads: int) -> Callable[..., Tensor]:
    """What executes such files: torch tensors (1, ...) in, the first output out."""
    import ncnn as package

    # It would be loaded and crash when it is called.
    if foreign := sorted({kind for kind in layers(files.param) if "." in kind or ":" in kind}):
        raise CantBeMade(f"ncnn can't load it: it has no layer for {', '.join(foreign)}, which pnnx left as they were")
    net = package.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    for name in LESS_THAN_FLOAT32:
        if hasattr(net.opt, name):
            setattr(net.opt, name, False)
    with tempfile.TemporaryDirectory() as folder:
        param, weights = Path(folder, "model.param"), Path(folder, "model.bin")
        param.write_text(files.param, encoding="utf-8")
        weights.write_bytes(files.weights)
        if net.load_param(str(param)) or net.load_model(str(weights)):
            raise CantBeMade("ncnn can't load it: it says why on standard error alone")
    names, output = list(net.input_names()), next(iter(net.output_names()))

    def run(*given: Tensor) -> Tensor:
        extractor = net.create_extractor()
        held: list[Any] = []  # what a Mat only points to, until the output is there
        for name, value in zip(names, given, strict=True):
            held.append(value.detach()[0].contiguous().numpy())
            extractor.input(name, package.Mat(held[-1]))
        code, found = extractor.extract(output)
        if code:
            raise RuntimeError(f"ncnn gives no output: code {code}")
        return torch.from_numpy(found.numpy().copy())[None]

    return run
