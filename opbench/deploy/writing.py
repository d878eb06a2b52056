"""A contender written down for other runtimes, in a process of its own: `python -m opbench.deploy.writing`.

Beside the files go its inputs, the outputs of the float64 definition, and by how much each element may differ: what
`on_device.py` holds the files to.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from opbench import registry
from opbench.build import Built, build
from opbench.deploy.nouns import BIN, PARAM, Axes, RefusedArtifact, ShippedArtifact
from opbench.documents import replace_file
from opbench.models.deployed import free_sizes
from opbench.process.channel import serve
from opbench.runtimes import of_ncnn, of_onnx, of_torch
from opbench.runtimes.prepared import CantBeMade
from opbench.schema import Case, OpbenchError
from opbench.slug import slug
from opbench.verify.bounds import allowed
from opbench.verify.gate import reference

# Sides of an image that a network halves five times.
STRIDE = 32


class WriteJob(msgspec.Struct, frozen=True):
    """A contender in torch, the formats and opsets it is written in, and where to; `extensions` declare it.

    `inputs` is the file for its inputs and expected outputs; "" where another implementation has written them.
    """

    case: Case
    extensions: tuple[str, ...]
    folder: str
    formats: tuple[str, ...]
    opsets: tuple[int, ...]
    inputs: str = ""


class WrittenFile(msgspec.Struct, frozen=True, tag=True):
    """An artifact that lies in the folder."""

    artifact: ShippedArtifact


class RefusedFile(msgspec.Struct, frozen=True, tag=True):
    """One that can't be made."""

    refused: RefusedArtifact


class WrittenInputs(msgspec.Struct, frozen=True, tag=True):
    """The names of the sets of inputs: the first is the case's own, the others are of other sizes."""

    sets: tuple[str, ...]


class EverythingWritten(msgspec.Struct, frozen=True, tag=True):
    """No more files."""


Answer = WrittenFile | RefusedFile | WrittenInputs | EverythingWritten


def written(job: WriteJob) -> Iterator[Answer]:
    """The files one after the other, those with fixed axes first; then the inputs."""
    registry.load()
    for path in job.extensions:
        registry.load_file(path)
    made = build(job.case)
    for format_, opset, axes in wanted(job):
        try:
            yield WrittenFile(_artifact(job, made, format_, opset, axes))
        except CantBeMade as error:
            yield RefusedFile(RefusedArtifact(job.case.named, format_, opset, axes, str(error), job.case.dtype))
    if job.inputs:
        yield WrittenInputs(tuple(_save_inputs(job, made)))
    yield EverythingWritten()


def wanted(job: WriteJob) -> Iterator[tuple[str, int, Axes]]:
    """Format, opset and axes of every file, those with fixed axes first."""
    opsets = job.opsets if "onnx" in job.formats else ()
    yield from (("onnx", opset, "fixed") for opset in opsets)
    yield from ((format_, 0, "fixed") for format_ in ("torchscript", "ncnn") if format_ in job.formats)
    yield from (("onnx", opset, "free") for opset in opsets)


class _Content(NamedTuple):
    """What goes into one or two files, by the ends of their names, with who wrote it and what is in it."""

    exporter: str
    files: Mapping[str, bytes]
    nodes: int
    operations: Mapping[str, int] = {}


def _artifact(job: WriteJob, made: Built, format_: str, opset: int, axes: Axes) -> ShippedArtifact:
    found = _content(made, format_, opset, axes)
    precision = "" if job.case.dtype == "float32" else f"-{job.case.dtype}"
    stem = slug(f"{job.case.operator}-{job.case.implementation}{precision}")
    for end, content in found.files.items():
        replace_file(Path(job.folder) / f"{stem}{end}", content)
    whole = b"".join(found.files.values())
    return ShippedArtifact(
        contender=job.case.named,
        file=stem + next(iter(found.files)),
        format=format_,
        exporter=found.exporter,
        opset=opset,
        axes=axes,
        bytes=len(whole),
        nodes=found.nodes,
        sha256=hashlib.sha256(whole).hexdigest(),
        operations=dict(sorted(found.operations.items())),
        dtype=job.case.dtype,
    )


def _content(made: Built, format_: str, opset: int, axes: Axes) -> _Content:
    if format_ == "torchscript":
        content, nodes = of_torch.traced(made.module, made.inputs)
        return _Content(of_torch.TRACER, {".torchscript": content}, nodes)
    if format_ == "ncnn":
        written = of_ncnn.write(made.module, made.inputs)
        layers = Counter(of_ncnn.layers(written.param))
        files = {f".ncnn{PARAM}": written.param.encode(), f".ncnn{BIN}": written.weights}
        return _Content(of_ncnn.EXPORTER, files, sum(layers.values()), layers)
    if axes == "free":
        free_sizes(made.module)
    content = of_onnx.write(made.module, made.inputs, opset=opset, free=axes == "free")
    operations = Counter(of_onnx.operations(content))
    end = f"-opset{opset}{'-free' if axes == 'free' else ''}.onnx"
    return _Content(of_onnx.exporter(opset), {end: content}, sum(operations.values()), operations)


def _save_inputs(job: WriteJob, made: Built) -> Iterator[str]:
    """Writes inputs, expected outputs and bounds; the names of the sets."""
    arrays: dict[str, Any] = {}
    for name, one in (("own", made), ("other", _at_another_size(job.case, made))):
        if one is None:
            continue
        found = reference(one)
        arrays |= {f"{name}.input{at}": value.detach().numpy() for at, value in enumerate(one.inputs)}
        arrays[f"{name}.expected"] = found.expected["output"].numpy()
        arrays[f"{name}.bound"] = (
            allowed(found.terms["output"], found.dtype).expand_as(found.expected["output"]).numpy()
        )
        yield name
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    replace_file(Path(job.folder) / job.inputs, content.getvalue())


def _at_another_size(case: Case, made: Built) -> Built | None:
    """The same weights on another batch and size, for files with free axes; None where the operator has no such."""
    dims = dict(case.dims)
    if not {"N", "H", "W"} <= dims.keys():
        return None
    whole = made.operator.samples > 3 and all(dims[axis] % STRIDE == 0 for axis in "HW")
    height = max(STRIDE, dims["H"] // 2 // STRIDE * STRIDE) if whole else dims["H"] + 1
    width = dims["W"] + (STRIDE if whole else 3)
    dims |= {"N": dims["N"] + 1, "H": height, "W": width}
    other = msgspec.structs.replace(case, dims=dims)
    try:
        if made.operator.requires(registry.given(other)) is not None:
            return None
        built = build(other)
    except (OpbenchError, RuntimeError, ValueError):  # a network that takes one size alone
        return None
    own = list(built.tensors.items())[: len(built.inputs)]
    weights = list(made.tensors.items())[len(made.inputs) :]
    return dataclasses.replace(built, tensors=dict([*own, *weights]), module=made.module)


if __name__ == "__main__":
    serve(WriteJob, written)
