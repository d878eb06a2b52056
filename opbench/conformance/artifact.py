"""An ONNX file from anywhere, held against an operator's definition: what `opbench check FILE.onnx` does.

The file is executed by ONNX Runtime on the CPU, in a process of its own: a file may crash whatever reads it. Its inputs
are drawn as a case's are, at the file's own sizes, or where an axis is free at several; its output is judged within
the same bound as a module's. A file with the inputs of the operator's core is taken for the core; one with an image
alone for a whole module, whose weights are the file's initializers of the state dict's names.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch

from opbench import registry
from opbench.build import Built, build
from opbench.conformance.cores import cores
from opbench.process.channel import serve
from opbench.process.child import Child
from opbench.process.death import Death
from opbench.runtimes import RUNTIMES
from opbench.schema import Case, OpbenchError, Operator, Setting, Verdict
from opbench.tasks import SLOTS, groups
from opbench.verify.gate import reference

LIMIT_SECONDS = 120.0
SEEDS = 3
SPREAD = 2.0
# Where an axis is free: odd, oblong, one pixel wide, larger than a tile, more than one image.
FREE_SIZES: Sequence[Mapping[str, int]] = (
    {"N": 1, "C": 8, "H": 6, "W": 7},
    {"N": 2, "C": 16, "H": 9, "W": 5},
    {"N": 1, "C": 8, "H": 1, "W": 12},
    {"N": 3, "C": 32, "H": 20, "W": 33},
)
AXES = "NCHW"


class ArtifactJob(msgspec.Struct, frozen=True):
    """A file, what it should compute, and what was said of its sizes: `--shape` and `--fix`, and of its inputs."""

    path: str
    operator: str
    sizes: dict[str, int]
    names: tuple[str, ...] = ()
    seed: int = 0


class ArtifactJudged(msgspec.Struct, frozen=True, tag=True):
    """The file's output at one size and seed."""

    what: str
    sizes: dict[str, int]
    seed: int
    verdict: Verdict


class ArtifactRefused(msgspec.Struct, frozen=True, tag=True):
    """Why the file can't be judged, or not at some size."""

    reason: str


def check_artifact(job: ArtifactJob) -> Iterator[ArtifactJudged | ArtifactRefused]:
    """What is found, size by size. A file that hangs or crashes ONNX Runtime is refused with how."""
    if not Path(job.path).is_file():
        raise OpbenchError(f"{job.path}: no such file")
    if missing := RUNTIMES["onnxruntime"].missing():
        raise OpbenchError(f"{job.path}: {missing}")
    answers = ArtifactJudged | ArtifactRefused | _Done
    with Child[Any](["-m", __name__], answers) as child:
        child.send(job)
        begin = time.monotonic()
        while True:
            answer = child.receive(max(0.1, LIMIT_SECONDS - (time.monotonic() - begin)))
            if isinstance(answer, _Done):
                return
            yield ArtifactRefused(f"ONNX Runtime: {answer.message}") if isinstance(answer, Death) else answer
            if isinstance(answer, Death):
                return


class _Done(msgspec.Struct, frozen=True, tag=True):
    """No more sizes."""


def _answers(job: ArtifactJob) -> Iterator[ArtifactJudged | ArtifactRefused | _Done]:
    yield from judge_here(job)
    yield _Done()


def judge_here(job: ArtifactJob) -> Iterator[ArtifactJudged | ArtifactRefused]:
    """The same in this process, for a file that is trusted not to crash it."""
    registry.load()
    try:
        file = _File(Path(job.path).read_bytes())
        operator = _meant(job, len(file.inputs))
        names = _in_order(job, operator, file)
        sizes = _sizes(job, operator, file.inputs[names[0]])
        for place, (dims, seed) in enumerate(itertools.product(sizes, range(SEEDS))):
            yield _at(operator, file, names, dims, job.seed + seed, first=place == 0)
    except Exception as error:  # of a file from anywhere: whatever reads it may raise anything
        yield ArtifactRefused(str(error) or type(error).__name__)


class _File:
    """An ONNX file in ONNX Runtime: its inputs by name with their shapes (None: a free axis), and its weights."""

    def __init__(self, content: bytes) -> None:
        import onnx
        from onnx import numpy_helper

        from opbench.runtimes.of_onnx import external_files, onnxruntime_session

        try:
            model = onnx.load_model_from_string(content)
        except Exception as error:  # protobuf's own kinds
            raise OpbenchError("it is no ONNX file") from error
        if outside := sorted(external_files(model)):
            raise OpbenchError(
                f"it keeps tensors in other files ({outside[0][:100]!r}), and one file alone is judged: save it with "
                "save_as_external_data=False"
            )
        graph = model.graph
        held = {one.name for one in graph.initializer}
        self.inputs: dict[str, tuple[int | None, ...]] = {}
        for one in graph.input:
            if one.name not in held:
                axes = one.type.tensor_type.shape.dim
                self.inputs[one.name] = tuple(axis.dim_value or None for axis in axes)
        self.run = onnxruntime_session(content, 1)
        self._graph, self._array = graph, numpy_helper.to_array

    def weights(self) -> dict[str, torch.Tensor]:
        """Its initializers by name; not those that are kept in other files."""
        return {
            one.name: torch.from_numpy(self._array(one).copy())
            for one in self._graph.initializer
            if not one.external_data
        }


def _meant(job: ArtifactJob, inputs: int) -> Operator:
    """The operator's core or module: whichever has so many inputs."""
    core = cores().get(job.operator)
    if core is not None:
        given = core.inputs(_dims(core, job.sizes, FREE_SIZES[0]), 0.0, torch.Generator()) if core.inputs else {}
        if len(given) == inputs:
            return core
    modules = [registry.operators(task).get(job.operator) for task in SLOTS]
    found = next((one for one in modules if one is not None), None)
    if found is not None and inputs == 1:
        return found
    wanted = f"{len(given)} of its core, or " if core is not None else ""
    raise OpbenchError(f"it has {inputs} inputs, {job.operator} {wanted}1 of its module")


def _dims(operator: Operator, said: Mapping[str, int], base: Mapping[str, int]) -> dict[str, int]:
    """All dimensions of the operator's task and its settings, as said, else by default."""
    task = registry.tasks()[operator.task]
    known = {**dict.fromkeys((*task.dims, *task.defaults)), **operator.settings}
    if unknown := sorted(set(said) - set(known)):
        raise OpbenchError(f"{operator.name} has no size {unknown[0]!r} (it has: {', '.join(known)})")
    sizes: dict[str, Any] = {**operator.settings, **{axis: base[axis] for axis in AXES}, **said}
    if "G" in task.dims:
        sizes.setdefault("G", groups(sizes["C"]))
    return task.given(sizes)


def _case(operator: Operator, dims: Mapping[str, int], seed: int) -> Case:
    of_task = {name: value for name, value in dims.items() if name not in operator.settings}
    settings: dict[str, Setting] = {name: dims[name] for name in operator.settings}
    implementation = next(iter(operator.implementations))
    spread = SPREAD if registry.tasks()[operator.task].deformable or operator.deformable else None
    return Case(
        operator.task, "artifact", operator.name, implementation, of_task, "float32", "cpu", "inference", spread, seed,
        settings,
    )  # fmt: skip


def _sizes(job: ArtifactJob, operator: Operator, shape: tuple[int | None, ...]) -> Iterator[dict[str, int]]:
    """Those that the operator's first input has in the file; free axes at several."""
    said: dict[str, int] = {}
    for position, axis in enumerate(_layout(operator, len(shape))):
        if (size := shape[position]) is not None:
            said[axis] = size
    if clash := [axis for axis in said if job.sizes.get(axis, said[axis]) != said[axis]]:
        raise OpbenchError(f"its first input has {clash[0]}={said[clash[0]]}, --shape says {job.sizes[clash[0]]}")
    said = {**said, **job.sizes}
    tried = []
    for base in FREE_SIZES:
        dims = _dims(operator, said, base)
        if dims not in tried and operator.requires(dims) is None:
            tried.append(dims)
            yield dims
    if not tried:
        raise OpbenchError(
            f"{operator.name} has no such size: {operator.requires(_dims(operator, said, FREE_SIZES[0]))}"
        )


def _layout(operator: Operator, axes: int) -> str:
    """Which axis of the first input is which: read off two drawn ones that differ in one size."""
    if axes != len(AXES) or operator.inputs is None:
        raise OpbenchError(f"its first input has {axes} axes, expected {len(AXES)}")
    base = {"N": 1, "C": 16, "H": 4, "W": 4}
    plain = _first(operator, base)
    found = dict.fromkeys(range(axes), "")
    for axis in AXES:
        other = _first(operator, {**base, axis: 2 * base[axis]})
        found[next(place for place in range(axes) if other[place] != plain[place])] = axis
    return "".join(found.values())


def _first(operator: Operator, sizes: Mapping[str, int]) -> tuple[int, ...]:
    assert operator.inputs is not None
    drawn = operator.inputs(_dims(operator, {}, sizes), 0.0, torch.Generator())
    return tuple(next(iter(drawn.values())).shape)


def _in_order(job: ArtifactJob, operator: Operator, file: _File) -> list[str]:
    """The file's inputs in the order of the operator's: by `--names`, by their own names, else as they come."""
    assert operator.inputs is not None
    wanted = list(operator.inputs(_dims(operator, {}, FREE_SIZES[0]), 0.0, torch.Generator()))
    names = list(job.names) or (wanted if set(wanted) == set(file.inputs) else list(file.inputs))
    if sorted(names) != sorted(file.inputs):
        raise OpbenchError(f"its inputs are {', '.join(file.inputs)}; --names has {', '.join(names)}")
    return names


def _at(
    operator: Operator, file: _File, names: Sequence[str], dims: dict[str, int], seed: int, *, first: bool
) -> ArtifactJudged | ArtifactRefused:
    built = build(_case(operator, dims, seed))
    given = dict(zip(names, built.inputs, strict=True))
    for name, value in given.items():
        for axis, (size, got) in enumerate(zip(file.inputs[name], value.shape, strict=False)):
            if size is not None and size != got:
                raise OpbenchError(
                    f"its input {name} has {size} along axis {axis}, {operator.name} at {_said(dims)} has {got}: "
                    "say which sizes it is of by --fix, as in --fix k=3"
                )
    weights = dict(list(built.tensors.items())[len(given) :])
    if weights:
        built = _with_weights(built, file.weights(), weights)
    try:
        output = file.run(*(given[name] for name in file.inputs))
    except Exception as error:  # ONNX Runtime's own kinds
        if first:
            raise
        return ArtifactRefused(f"at {_said(dims)}: {error}")
    what = "module" if weights else "core"
    return ArtifactJudged(what, dims, seed, reference(built).judge({"output": output}))


def _with_weights(built: Built, held: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> Built:
    """The case with the file's own weights in the place of the drawn ones."""
    missing = [name for name in wanted if name not in held or held[name].shape != wanted[name].shape]
    if missing:
        raise OpbenchError(
            f"it holds no initializer {missing[0]!r} of shape {tuple(wanted[missing[0]].shape)}, so that its weights "
            "are unknown: export it with do_constant_folding=False and training=torch.onnx.TrainingMode.PRESERVE, "
            "or export its core"
        )
    taken = {name: held[name].double() for name in wanted}
    return dataclasses.replace(built, tensors={**built.tensors, **taken})


def _said(dims: Mapping[str, int]) -> str:
    return ",".join(f"{name}={size}" for name, size in dims.items())


if __name__ == "__main__":
    serve(ArtifactJob, _answers)
