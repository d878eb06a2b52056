"""What of a deployment is finished, in deploy.jsonl of its folder: one that was interrupted goes on from there.

Its lines are written as those of a run's journal are, each on the disk before the next file is begun. It is deleted
when deploy.json holds all of it. What was timed has a journal of its own, that of the run.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

import opbench
from opbench.deploy.nouns import DeviceProof, QuantisedArtifact, ShippedArtifact
from opbench.deploy.writing import Answer, WrittenFile
from opbench.documents import read
from opbench.engine import entries
from opbench.engine.environment import installed_version
from opbench.engine.resuming import digests, other_versions, refuse
from opbench.plural import counted
from opbench.schema import OpbenchError, Run

NAME = "deploy.jsonl"
# Of the files, in the folder of the deployment.
FOLDER = "artifacts"
DOCUMENT = "deploy.json"
# What a file, and what a runtime says of it, depends on.
PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino", "ncnn", "pnnx", "nncf")


class DeploymentBegun(msgspec.Struct, frozen=True, tag=True):
    """What was asked for, with the digests of the files that say what it is, and the versions it was begun with."""

    command: str
    files: dict[str, str]
    versions: dict[str, str]


class CaseWritten(msgspec.Struct, frozen=True, tag=True):
    """All that was written of a contender, and what was refused; `inputs` is its file of inputs, "" for none."""

    case: str
    answers: tuple[Answer, ...]
    inputs: str = ""


class RuntimeProven(msgspec.Struct, frozen=True, tag=True):
    """What a runtime makes of all the files that it loads."""

    runtime: str
    proofs: tuple[DeviceProof, ...]


class CaseQuantised(msgspec.Struct, frozen=True, tag=True):
    """A contender in int8."""

    case: str
    found: tuple[QuantisedArtifact, ...]


class TimingBegun(msgspec.Struct, frozen=True, tag=True):
    """From here on the run's own journal, or run.json, says what was timed."""

    started: str


DeploymentEntry = DeploymentBegun | CaseWritten | RuntimeProven | CaseQuantised | TimingBegun


def begun(command: str, files: Sequence[str]) -> DeploymentBegun:
    """What a deployment is known by; of `files` those that exist."""
    contents = {name: Path(name).read_bytes() for name in files if Path(name).is_file()}
    versions = {name: version for name in PACKAGES if (version := installed_version(name))}
    return DeploymentBegun(command, digests(contents), {"opbench": opbench.__version__, **versions})


class DeploymentProgress:
    """The entries of a folder. Nothing is written there before something is finished.

    Raises OpbenchError for a folder with an unfinished deployment, without `resume`; with it for one of another
    deployment, or that is finished.
    """

    def __init__(self, folder: Path, begun: DeploymentBegun, *, resume: bool) -> None:
        self.path = folder / NAME
        self._begun = begun
        self._written: dict[str, CaseWritten] = {}
        self._proven: dict[str, tuple[DeviceProof, ...]] = {}
        self.quantised: dict[str, tuple[QuantisedArtifact, ...]] = {}
        self._timing_since = ""
        found = _read(self.path) if self.path.is_file() else []
        self._unwritten: list[DeploymentEntry] = [] if found else [begun]
        if not found:
            if resume and (folder / DOCUMENT).exists():
                raise OpbenchError(f"--resume: {folder / DOCUMENT} is finished; leave --resume out to deploy anew")
            return
        if not resume:
            raise OpbenchError(
                f"-o {folder}: {self.path} is of a deployment that was not finished; go on with it by --resume, or "
                "delete the file to start anew"
            )
        self._refuse_another(found[0])
        for entry in found:
            self._take(entry)

    def append(self, entry: DeploymentEntry) -> None:
        """Writes the entry and returns once it is on the disk."""
        self._unwritten.append(entry)
        self._take(entry)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(b"".join(map(entries.written, self._unwritten)))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OpbenchError(f"{self.path}: can't be written: {error.strerror}") from error
        self._unwritten.clear()

    def written(self, case: str) -> CaseWritten | None:
        """What was written of a contender, where all of it lies there as it was."""
        found = self._written.get(case)
        folder = self.path.parent / FOLDER
        if found is None or (found.inputs and not (folder / found.inputs).is_file()):
            return None
        files = [answer.artifact for answer in found.answers if isinstance(answer, WrittenFile)]
        return found if all(_sha256(folder, one) == one.sha256 for one in files) else None

    def proven(self, runtime: str, files: Sequence[ShippedArtifact]) -> tuple[DeviceProof, ...] | None:
        """What a runtime was found to make of exactly these files."""
        found = self._proven.get(runtime, ())
        same = {(one.file, one.sha256) for one in files} == {(one.file, one.sha256) for one in found}
        return found if found and same else None

    def begin_timing(self) -> None:
        """Before the first panel."""
        if not self._timing_since:
            self.append(TimingBegun(datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")))

    def timed(self) -> Run | None:
        """The run, where it was finished before the deployment was interrupted."""
        path = self.path.parent / "run.json"
        if not self._timing_since or not path.is_file():
            return None
        run = read(path, Run)
        return run if run.started >= self._timing_since else None

    def kept(self) -> Iterator[str]:
        """What an interrupted deployment leaves, and how to go on."""
        if not self.path.exists():
            yield "opbench: interrupted; nothing was written yet"
            return
        done = [f"{counted(len(self._written), 'contender')} written"]
        done += [f"{counted(len(self._proven), 'runtime')} proven"] if self._proven else []
        yield f"opbench: interrupted; {', '.join(done)}, kept in {self.path}; go on with:"
        yield f"{self._begun.command} -o {shlex.quote(str(self.path.parent))} --resume"

    def finish(self) -> None:
        """Deletes the file: the document holds all of it."""
        self.path.unlink(missing_ok=True)

    def _take(self, entry: DeploymentEntry) -> None:
        match entry:
            case CaseWritten():
                self._written[entry.case] = entry
            case RuntimeProven():
                self._proven[entry.runtime] = entry.proofs
            case CaseQuantised():
                self.quantised[entry.case] = entry.found
            case TimingBegun():
                self._timing_since = entry.started

    def _refuse_another(self, before: DeploymentBegun) -> None:
        now, reasons = self._begun, []
        if before.command != now.command:
            reasons.append(f"`{before.command}` there, `{now.command}` here")
        reasons += [
            f"{name} is not what it was when the deployment began"
            for name in {**before.files, **now.files}
            if before.files.get(name) != now.files.get(name)
        ]
        reasons += other_versions(before.versions, now.versions)
        refuse(self.path, reasons)


@contextlib.contextmanager
def or_nothing(folder: Path) -> Iterator[None]:
    """Where what was asked for is refused, a folder that wasn't there before isn't there afterwards."""
    before = folder.exists()
    try:
        yield
    except OpbenchError:
        if not before:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _read(path: Path) -> list[Any]:
    """The entries; the torn end of a last line is cut off. Raises OpbenchError for what is no such file."""
    found, end = entries.read_as(path, DeploymentEntry, DeploymentBegun)
    os.truncate(path, end)
    return found


def _sha256(folder: Path, artifact: ShippedArtifact) -> str:
    try:
        content = b"".join((folder / name).read_bytes() for name in artifact.parts)
    except OSError:
        return ""
    return hashlib.sha256(content).hexdigest()
