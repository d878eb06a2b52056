"""The files of a deployment, each written in a process of its own and proven by the script that goes with them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from opbench.deploy import on_device
from opbench.deploy.nouns import DeviceProof, DeviceRun, ProvenAt, QuantisedArtifact, RefusedArtifact, ShippedArtifact
from opbench.deploy.progress import CaseQuantised, CaseWritten, DeploymentProgress, RuntimeProven
from opbench.deploy.quantising import quantised
from opbench.deploy.writing import (
    Answer,
    EverythingWritten,
    RefusedFile,
    WriteJob,
    WrittenFile,
    WrittenInputs,
    wanted,
)
from opbench.documents import read, replace_file
from opbench.process.child import Child
from opbench.process.death import Death
from opbench.schema import DEFAULT_RUNTIME, Case, OpbenchError, Plan
from opbench.slug import slug

Tell = Callable[[str], None]
MANIFEST = "manifest.json"
SCRIPT = "on_device.py"
# Writing one file of a large network, and proving one.
SECONDS = 600.0


class MadeFiles(msgspec.Struct, frozen=True):
    """What lies in the folder and what couldn't be made; `inputs` names an operator's file and its sets of inputs."""

    artifacts: tuple[ShippedArtifact, ...]
    refused: tuple[RefusedArtifact, ...]
    inputs: dict[str, tuple[str, tuple[str, ...]]]


class FoundFiles(NamedTuple):
    """The files of a deployment, what each runtime makes of them, and of them in int8."""

    made: MadeFiles
    proofs: tuple[DeviceProof, ...]
    quantised: tuple[QuantisedArtifact, ...] = ()


def exportable(plan: Plan, target: str) -> tuple[Case, ...]:
    """The cases of a plan that another runtime executes, as torch builds them; each contender once.

    Raises OpbenchError where there are none.
    """
    cases = [case for panel in plan.panels for case in panel.cases if case.runtime != DEFAULT_RUNTIME]
    if not cases:
        reasons = dict.fromkeys(one.reason for one in plan.skipped)
        raise OpbenchError(f"{target}: nothing of it can be exported: {'; '.join(reasons)}")
    plain = [msgspec.structs.replace(case, runtime=DEFAULT_RUNTIME, across_runtimes=False) for case in cases]
    return tuple({case.id: case for case in plain}.values())


def formats_of(runtimes: Sequence[str]) -> tuple[str, ...]:
    """The formats that some of the runtimes load from a file."""
    return tuple(dict.fromkeys(on_device.RUNTIMES[name] for name in runtimes if name in on_device.RUNTIMES))


def make(
    cases: Sequence[Case],
    extensions: tuple[str, ...],
    folder: Path,
    formats: tuple[str, ...],
    opsets: tuple[int, ...],
    progress: DeploymentProgress,
    tell: Tell,
) -> MadeFiles:
    """Writes every case in every format, but for those that were written before an interruption.

    What hangs or crashes is refused with how, and the next goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    artifacts: list[ShippedArtifact] = []
    refused: list[RefusedArtifact] = []
    inputs: dict[str, tuple[str, tuple[str, ...]]] = {}
    for case in cases:
        key = inputs_key(case)
        name = "" if key in inputs else f"{slug(key)}.npz"
        found = progress.written(case.id)
        if found is None:
            tell(f"writing {case.contender}")
            found = CaseWritten(case.id, _answers(WriteJob(case, extensions, str(folder), formats, opsets, name)), name)
            progress.append(found)
        for answer in found.answers:
            match answer:
                case WrittenFile():
                    artifacts.append(answer.artifact)
                case RefusedFile():
                    refused.append(answer.refused)
                case WrittenInputs():
                    inputs[key] = (found.inputs, answer.sets)
    return MadeFiles(tuple(artifacts), tuple(refused), inputs)


def inputs_key(case: Case) -> str:
    """What inputs and weights depend on, beside the workload."""
    return "-".join((case.operator, *case.variant, *([] if case.dtype == "float32" else [case.dtype])))


def _answers(job: WriteJob) -> tuple[Answer, ...]:
    """What was written and what wasn't. How its process was lost is the reason why all that is missing is."""
    found: list[Answer] = []
    with Child[Answer](["-m", "opbench.deploy.writing"], Answer, broken="writing a file failed") as child:
        child.send(job)
        while not isinstance(answer := child.receive(SECONDS), EverythingWritten):
            if isinstance(answer, Death):
                return (*found, *_lost_with(answer, job, found))
            found.append(answer)
    return tuple(found)


def _lost_with(death: Death, job: WriteJob, found: Sequence[Answer]) -> Iterator[RefusedFile]:
    known: list[ShippedArtifact | RefusedArtifact] = [one.artifact for one in found if isinstance(one, WrittenFile)]
    known += [one.refused for one in found if isinstance(one, RefusedFile)]
    there = {(one.format, one.opset, one.axes) for one in known}
    for one in wanted(job):
        if one not in there:
            yield RefusedFile(RefusedArtifact(job.case.named, *one, f"its process {death.message}", job.case.dtype))


def ship(made: MadeFiles, cases: Sequence[Case], folder: Path, target: str, definition: str) -> None:
    """Puts the manifest and the script beside the files."""
    of = {(case.named, str(case.dtype)): made.inputs.get(inputs_key(case)) for case in cases}
    files = []
    for one in made.artifacts:
        if (found := of.get((one.contender, one.dtype))) is None:
            continue
        name, sets = found
        about = {"file": one.file, "contender": one.contender, "format": one.format, "axes": one.axes}
        files.append({**about, "inputs": name, "sets": sets if one.axes == "free" else sets[:1]})
    manifest = {"target": target, "definition": definition, "files": files}
    replace_file(folder / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
    shutil.copyfile(on_device.__file__, folder / SCRIPT)


def prove(
    made: MadeFiles, folder: Path, runtimes: Sequence[str], threads: int, progress: DeploymentProgress, tell: Tell
) -> tuple[DeviceProof, ...]:
    """What the script says of every file, in each runtime that loads files, on this machine; nothing is timed."""
    found: list[DeviceProof] = []
    for runtime in runtimes:
        files = [one for one in made.artifacts if one.format == on_device.RUNTIMES.get(runtime)]
        if not files:
            continue
        if (proofs := progress.proven(runtime, files)) is None:
            tell(f"proving {len(files)} files in {runtime}")
            proofs = _proven(files, folder, runtime, threads)
            progress.append(RuntimeProven(runtime, proofs))
        found += proofs
    return tuple(found)


def _proven(files: Sequence[ShippedArtifact], folder: Path, runtime: str, threads: int) -> tuple[DeviceProof, ...]:
    with tempfile.TemporaryDirectory() as temporary:
        document = Path(temporary) / "device.json"
        command: list[Any] = [sys.executable, folder / SCRIPT, "--runtime", runtime, "--threads", threads]
        command += ["--rounds", 0, "-o", document]
        try:
            done = subprocess.run(
                list(map(str, command)), capture_output=True, text=True, timeout=SECONDS * len(files), check=False
            )
        except subprocess.TimeoutExpired:
            return _lost(files, runtime, f"no answer within {SECONDS * len(files):g} s")
        if not document.is_file():
            last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "")
            return _lost(files, runtime, f"{SCRIPT} ended with code {done.returncode}: {last}")
        return read(document, DeviceRun).proofs


def _lost(files: Sequence[ShippedArtifact], runtime: str, reason: str) -> tuple[DeviceProof, ...]:
    at = (ProvenAt((), "crashed", reason=reason),)
    return tuple(DeviceProof(one.contender, one.file, one.sha256, runtime, "", "", at) for one in files)


def quantise(
    made: MadeFiles,
    cases: Sequence[Case],
    extensions: tuple[str, ...],
    folder: Path,
    runtimes: Sequence[str],
    threads: int,
    progress: DeploymentProgress,
    tell: Tell,
) -> tuple[QuantisedArtifact, ...]:
    """What becomes of each contender's first float32 ONNX file with fixed axes in int8."""
    found: list[QuantisedArtifact] = []
    for case in cases:
        plain = (case.named, "float32", "onnx", "fixed")
        own = (one for one in made.artifacts if (one.contender, one.dtype, one.format, one.axes) == plain)
        artifact = next(own, None)
        if artifact is None or case.dtype != "float32":
            continue
        if case.id not in progress.quantised:
            tell(f"quantising {case.contender}")
            some = quantised(case, extensions, folder, artifact, runtimes, threads)
            progress.append(CaseQuantised(case.id, some))
        found += progress.quantised[case.id]
    return tuple(found)
