"""What runs on a node of a fleet: a supervisor as a run on one machine has, and what it is told and answers.

Requests and answers are JSON text, as between a run and its worker: a node may have another opbench, which then passes
over fields that it doesn't know. An actor of Ray holds a `NodeWorker`; nothing here imports Ray.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import queue
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec
from msgspec.structs import replace

from opbench.documents import decode, encode
from opbench.engine.attempts import Attempts, answers_file
from opbench.engine.entries import Entry, Lost, PanelFinished, Surroundings
from opbench.engine.executor import ANSWERS
from opbench.engine.limits import OWN_SECONDS, STEP_SECONDS, WorkerLimits
from opbench.engine.messages import CalledFirst, Survey
from opbench.engine.planner import planned
from opbench.engine.supervisor import FORK_SERVER, Supervisor
from opbench.measure.cores import fitting, look
from opbench.options import parse
from opbench.process.child import MEMORY_SHARE
from opbench.process.memory import free_bytes
from opbench.run_request import RunRequest
from opbench.schema import Case, Device, DType, Environment, Panel, Record, Settings

OPENMP = "OMP_NUM_THREADS"


class NodeSetup(msgspec.Struct, frozen=True):
    """What a node is told before anything else.

    `words` are those of the run's command line, in which `files`, by their names here, stand for suites and files of
    declarations of the one who asked. `extensions` are the latter. `openmp` is how many threads OpenMP was told to
    take there, which Ray changes. `slots`: how many panels the node measures at once, each with its part of the memory.
    """

    words: tuple[str, ...] = ()
    files: dict[str, str] = {}
    extensions: tuple[str, ...] = ()
    threads: int | Literal["auto"] | None = None
    openmp: str | None = None
    step_seconds: float | None = None
    own_seconds: float | None = None
    memory_bytes: int | None = None
    slots: int = 1
    worker: str = FORK_SERVER


class NodeDescribed(msgspec.Struct, frozen=True):
    """What a node is; `clock` is its time of day, `said` what whoever starts a run there is to know of it."""

    environment: Environment
    host: str
    clock: float
    threads: int | None
    said: tuple[str, ...] = ()


class NodeSurvey(msgspec.Struct, frozen=True):
    """Measure these yardsticks; `best` are the fastest probes that a selfcheck of this machine has seen."""

    yardsticks: tuple[tuple[Device, DType], ...]
    best: tuple[float, float, float] | None = None


class NodeVisitWork(msgspec.Struct, frozen=True):
    """Measure a panel; `earlier` visits of it, contenders `lost` in this one, what nodes had that were lost with it."""

    panel: Panel
    replica: int
    settings: Settings
    earlier: tuple[PanelFinished, ...] = ()
    lost: tuple[Record, ...] = ()
    killed: tuple[tuple[str, ...], ...] = ()


def outline(entry: PanelFinished) -> PanelFinished:
    """An earlier visit without its samples: a later one needs its outcomes and how many calls a sample has."""
    records = tuple(
        Record(
            case=record.case,
            outcome=record.outcome,
            latencies=tuple(replace(one, samples_seconds=((),), waited=(), left_out=()) for one in record.latencies),
        )
        for record in entry.records
    )
    return replace(entry, records=records, probes=None)


class _Notes:
    """A ledger of one visit, whose entries go to whoever asked for it."""

    def __init__(self, work: NodeVisitWork, tell: Callable[[Entry], None]) -> None:
        key = (work.replica, work.panel.id)
        self.finished = {(entry.replica, entry.panel): entry for entry in work.earlier}
        self.lost = {key: list(work.lost)}
        self.killed = {key: list(work.killed)}
        self._tell = tell

    def append(self, entry: Entry) -> None:
        """Tells of it."""
        if isinstance(entry, Lost):
            self.lost.setdefault((entry.replica, entry.panel), []).append(entry.record)
        self._tell(entry)


class NodeWorker:
    """One slot of a node: measures one panel at a time, by a supervisor of its own.

    The supervisor belongs to one thread, which lives as long as this does: its processes end with the thread that
    started them.
    """

    def __init__(self, setup: bytes) -> None:
        self._setup = decode(setup, NodeSetup)
        if self._setup.openmp is None:
            os.environ.pop(OPENMP, None)
        else:
            os.environ[OPENMP] = self._setup.openmp
        self._folder = Path(tempfile.mkdtemp(prefix="opbench-node-"))
        for name, text in self._setup.files.items():
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "opbench-node")
        self._supervisor: Supervisor | None = None
        self._replica = 0

    def describe(self) -> bytes:
        """What this node is: a `NodeDescribed`."""
        return encode(self._thread.submit(self._describe).result())

    def plan(self) -> bytes:
        """What the run measures of a suite on this node: a `LaidOut`."""
        places = [str(self._folder / word) if word in self._setup.files else word for word in self._setup.words]
        return encode(planned(parse(RunRequest, places)))

    def survey(self, work: bytes) -> bytes:
        """The environment and the yardsticks that a `NodeSurvey` asks for: `Surroundings`."""
        return encode(self._thread.submit(self._survey, decode(work, NodeSurvey)).result())

    def measure(self, work: bytes) -> Iterator[bytes]:
        """Carries out a `NodeVisitWork`; each entry of its journal when it is known, `PanelFinished` last."""
        told: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        done = self._thread.submit(self._visit, decode(work, NodeVisitWork), told.put)
        done.add_done_callback(lambda _: told.put(None))
        while (entry := told.get()) is not None:
            yield encode(entry)
        done.result()

    def first_call(self, case: bytes) -> bytes:
        """Times the first call of a case: a `CalledFirst`."""
        return encode(self._thread.submit(self._first_call, decode(case, Case)).result())

    def close(self) -> None:
        """Ends what it has started, and leaves nothing behind."""
        self._thread.submit(self._close).result()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _describe(self) -> NodeDescribed:
        said: list[str] = []
        setup, cores = self._setup, look()
        supervisor = self._supervisor
        if supervisor is None:
            memory = setup.memory_bytes
            if memory is None and setup.slots > 1:
                memory = int(MEMORY_SHARE * free_bytes()) // setup.slots
            supervisor = self._supervisor = Supervisor(
                extensions=tuple(str(self._folder / name) for name in setup.extensions),
                threads=fitting(setup.threads, said.append, cores),
                limits=WorkerLimits(
                    step_seconds=setup.step_seconds or STEP_SECONDS,
                    own_seconds=setup.own_seconds or OWN_SECONDS,
                    memory_bytes=memory,
                ),
                worker=setup.worker,
                cores=cores,
            )
        found = supervisor.survey(Survey((), supervisor.memory_bytes, supervisor.cores))
        return NodeDescribed(found.environment, socket.gethostname(), time.time(), supervisor.threads, tuple(said))

    def _started(self) -> Supervisor:
        assert self._supervisor is not None, "a node is asked what it is before anything else"
        return self._supervisor

    def _survey(self, work: NodeSurvey) -> Surroundings:
        began, supervisor = time.perf_counter(), self._started()
        found = supervisor.survey(Survey(work.yardsticks, supervisor.memory_bytes, supervisor.cores))
        supervisor.best = work.best
        return Surroundings(found.environment, found.yardsticks, found.called_seconds, time.perf_counter() - began)

    def _visit(self, work: NodeVisitWork, tell: Callable[[Entry], None]) -> None:
        supervisor = self._started()
        if work.replica != self._replica:
            self._replica = work.replica
            supervisor.fresh()
        answers = answers_file(self._folder / ANSWERS, work.panel, work.settings)
        notes = _Notes(work, tell)
        Attempts(work.panel, work.replica, work.settings, notes, supervisor, answers=answers, preempted=True).run()

    def _first_call(self, case: Case) -> CalledFirst:
        return self._started().first_call(case)

    def _close(self) -> None:
        if self._supervisor is not None:
            with contextlib.suppress(OSError):
                self._supervisor.__exit__(None, None, None)
            self._supervisor = None
