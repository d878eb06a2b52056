"""Workers of revisions that only say how fast their tree's code is: no process, no clock, nothing measured.

`speed.txt` in a tree's folder `opbench` holds seconds of a call; a package that doesn't load holds "broken". Beside it
`layouts` moves each process's speed, one entry a process started of that speed.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from factory import make_case, make_counts, make_memory, make_verdict

from opbench.analyse.compare.paired import PairedRequest
from opbench.analyse.compare.runs import compare
from opbench.engine import paired_record
from opbench.engine.revision_worker import CheckedAgain, Prepared, TimedBlock, Unknown, WorkerLostError
from opbench.process.death import Death
from opbench.schema import Panel, Plan, Record, Settings

CASE = make_case("carafe[cpu]")


@dataclasses.dataclass
class PlantedRevisions:
    """What the workers of a test answer, and which of them were started, in order."""

    speed: dict[Path, float] = dataclasses.field(default_factory=dict)
    layouts: dict[Path, list[float]] = dataclasses.field(default_factory=dict)
    waited: float = 0.0  # share of every block
    unknown: frozenset[Path] = frozenset()
    started: list[Path] = dataclasses.field(default_factory=list)

    def worker(self, revision: Any, threads: int) -> PlantedWorker:
        """In place of `RevisionWorker`."""
        self.started.append(revision.root)
        file = revision.root / "opbench" / "speed.txt"
        said = file.read_text().strip() if file.is_file() else str(self.speed[revision.root])
        if said == "broken":
            raise WorkerLostError(Death("crash", "ended with exit code 1: SyntaxError"), "hello")
        layout = self.layouts.get(revision.root, [])
        return PlantedWorker(self, revision.root, float(said) * (1 + (layout.pop(0) if layout else 0.0)))


class PlantedWorker:
    def __init__(self, planted: PlantedRevisions, root: Path, seconds: float) -> None:
        self.planted, self.root, self.seconds = planted, root, seconds

    def ask(self, seconds: float, **request: Any) -> Any:
        if request["do"] == "prepare":
            if self.root in self.planted.unknown:
                return Unknown()
            record = Record(
                request["case"], "ok", verdict=make_verdict(), counts=make_counts(dispatched={}), memory=make_memory()
            )
            return Prepared(record, self.seconds, self.seconds)
        if request["do"] == "block":
            taken = self.seconds * request["calls"]
            return TimedBlock(taken, False, self.planted.waited * taken)
        return CheckedAgain(make_verdict())

    def close(self) -> None:
        pass


def plant(monkeypatch: Any, **fields: Any) -> PlantedRevisions:
    """Workers of planted revisions, in place of processes, for the rest of a test."""
    found = PlantedRevisions(**fields)
    monkeypatch.setattr(paired_record, "RevisionWorker", found.worker)
    return found


def paired_request(keep=lambda folder, runs: None):
    """One case of two revisions, confirmed in a tenth of a second."""
    return PairedRequest(
        plan=Plan("smoke", (Panel("panel", "made up", "nearest[torch]", (CASE,)),), ()),
        settings=Settings("smoke", 0.01, 0.3, replicas=3),
        threads=1,
        command="opbench compare",
        confirming_seconds=0.1,
        judge=compare,
        progress=lambda text: None,
        keep=keep,
    )
