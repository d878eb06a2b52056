"""A run over the nodes of a cluster: what each node type measures, and a run document of each.

    connect    every node with a free place says what it is; alike ones make a type
    plan       a node of each type lays the suite out; workloads are shared out among types
    measure    each type is a run of its own (`opbench.engine.run:execute`), at the same time as the others

One type's document stands where that of a run on one machine does, in DIR; of several each stands in DIR/TYPE.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from opbench.documents import decode, read
from opbench.engine.entries import NAME as JOURNAL
from opbench.engine.entries import Surroundings
from opbench.engine.entries import read as read_journal
from opbench.engine.estimate import seconds_of
from opbench.engine.fleet.cluster import Cluster, NodeGone, connected
from opbench.engine.fleet.describing import described_by
from opbench.engine.fleet.executor import RayExecutor
from opbench.engine.fleet.node import OPENMP, NodeSetup
from opbench.engine.fleet.node_types import NodeType, shared_out, told_apart
from opbench.engine.fleet.slots import Crew, Slot
from opbench.engine.log import Log, Write
from opbench.engine.planner import LaidOut
from opbench.engine.resuming import differences
from opbench.engine.run import execute
from opbench.engine.surveying import Known
from opbench.options import command_line, words
from opbench.run_request import RunRequest
from opbench.schema import Environment, OpbenchError, Panel, Run


class TypePlan(NamedTuple):
    """What the nodes of a type measure: their share of the suite, and how long each panel is thought to take."""

    kind: NodeType
    accelerator: str | None
    slots: tuple[Slot, ...]
    at_once: int
    threads: int | None
    laid_out: LaidOut
    seconds: Mapping[str, float]

    @property
    def told(self) -> tuple[str, ...]:
        """For a table: the type, its accelerator, nodes, panels at once, panels, cases, and minutes at most."""
        panels = self.laid_out.plan.panels
        nodes = len({slot.node.id for slot in self.slots})
        seconds = sum(self.seconds.get(panel.id, 0.0) for panel in panels) / self.at_once
        counts = (nodes, self.at_once, len(panels), sum(len(panel.cases) for panel in panels))
        return (self.kind.name, self.accelerator or "", *map(str, counts), f"{seconds / 60:.1f}")


class Fleet(NamedTuple):
    """A cluster whose nodes have said what they are, and what each type is to measure."""

    crew: Crew
    plans: tuple[TypePlan, ...]


@contextlib.contextmanager
def planned_fleet(request: RunRequest, say: Write) -> Iterator[Fleet]:
    """The fleet of a run; its slots end with the context. Raises OpbenchError where no node can take part."""
    with connected(request.address) as cluster:
        cluster.refuse_missing(request.accelerator)
        crew = Crew(
            cluster,
            node_setup(request),
            wants_gpu="cuda" in (request.device or ("cuda",)),
            share_cpu=request.share_cpu,
            say=say,
        )
        try:
            plans: list[TypePlan] = []
            for accelerator in request.accelerator or (None,):
                plans += _plans(cluster, crew, accelerator, request, say, {one.kind.name for one in plans})
            yield Fleet(crew, tuple(plans))
        finally:
            crew.close()


def measured_on_fleet(
    fleet: Fleet,
    request: RunRequest,
    places: Sequence[Path],
    *,
    tell: Callable[[int, str], None],
    finish: Callable[[Run, Path], None],
    known: Known = lambda environment: None,
) -> tuple[tuple[Run, Path], ...]:
    """Every type's run with its folder, one of `places` (see `type_folders`).

    `tell(done, what)` hears of every panel that is begun.
    """
    counts = [0] * len(places)

    def run_of(number: int) -> tuple[Run, Path]:
        plan, place = fleet.plans[number], places[number]
        done = _finished_before(place) if request.resume and len(places) > 1 else None
        if done is not None:
            counts[number] = len(done.panels) * done.settings.replicas
            return done, place
        with Log(place) as log:
            executor = RayExecutor(
                fleet.crew,
                plan.kind,
                plan.slots,
                accelerator=plan.accelerator,
                seconds=plan.seconds,
                threads=plan.threads,
                log=log.write,
            )

            def progress(count: int, panel: Panel | None) -> None:
                counts[number] = count
                at_work = f"{executor.at_work + 1} of {fleet.crew.at_once(executor.slots)} at work"
                tell(sum(counts), f"{panel.id} ({plan.kind.name}: {at_work})" if panel else "")

            run = execute(
                plan.laid_out.plan,
                replace(plan.laid_out.settings, extensions=request.extensions),
                place,
                command=command_line("run", request),
                progress=progress,
                executor=executor,
                finish=lambda finished: finish(finished, place),
                resume=request.resume,
                within_seconds=request.within,
                known=known,
                log=log.write,
            )
        return run, place

    if len(places) == 1:
        return (run_of(0),)
    return _at_once(run_of, len(places), fleet.crew)


def _at_once(run_of: Callable[[int], tuple[Run, Path]], many: int, crew: Crew) -> tuple[tuple[Run, Path], ...]:
    """All types at the same time; Ctrl-C, and an error of one, ends them all with what they have finished.

    Each ends within seconds. Whoever presses Ctrl-C again meanwhile waits as well: the connection to the cluster must
    not be closed beneath them.
    """
    with concurrent.futures.ThreadPoolExecutor(many) as threads:
        begun: list[concurrent.futures.Future[tuple[Run, Path]]] = []
        try:
            for number in range(many):
                begun.append(threads.submit(run_of, number))  # noqa: PERF401  # each is known if the next is interrupted
            while any(not one.done() for one in begun):
                concurrent.futures.wait(begun, timeout=0.2, return_when=concurrent.futures.FIRST_EXCEPTION)
                if any(one.done() and one.exception() is not None for one in begun):
                    crew.stopped.set()
        except BaseException:
            crew.stopped.set()
            while any(not one.done() for one in begun):
                with contextlib.suppress(KeyboardInterrupt):
                    concurrent.futures.wait(begun)
            raise
    errors = [error for one in begun if (error := one.exception()) is not None]
    for error in sorted(errors, key=lambda error: isinstance(error, KeyboardInterrupt)):
        raise error
    return tuple(one.result() for one in begun)


def node_setup(request: RunRequest) -> NodeSetup:
    """What every node is told: the command line, with the files that it names."""
    files: dict[str, str] = {}

    def sent(path: str, folder: str) -> str:
        name = f"{folder}/{Path(path).name}"
        try:
            files[name] = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise OpbenchError(f"{path}: can't be read and sent to the nodes: {error}") from error
        return name

    extensions = tuple(sent(path, f"with-{number}") for number, path in enumerate(request.extensions))
    suite = sent(request.suite, "suite") if request.suite.endswith(".toml") else request.suite
    there = replace(request, suite=suite, extensions=extensions, address=None, accelerator=(), timings=None)
    return NodeSetup(
        words=tuple(words(replace(there, executor="local"))),
        files=files,
        extensions=extensions,
        threads=request.thread_count,
        openmp=os.environ.get(OPENMP),
        step_seconds=request.timeout,
        memory_bytes=request.memory_bytes,
    )


def type_folders(fleet: Fleet, folder: Path) -> tuple[Path, ...]:
    """Where each type's document stands: in the run's folder if it is the only one, or was when the run began."""
    kinds = [plan.kind for plan in fleet.plans]
    if len(kinds) == 1:
        return (folder,)
    began = _began_on(folder / JOURNAL)
    alone = next((kind for kind in kinds if began is not None and not differences(began, kind.environment)), None)
    return tuple(folder if kind is alone else folder / kind.name for kind in kinds)


def _began_on(journal: Path) -> Environment | None:
    """The environment of the first node of a run that a journal is of."""
    entries = read_journal(journal)[0] if journal.exists() else []
    first = next((entry for entry in entries if isinstance(entry, Surroundings)), None)
    return first.environment if first else None


def _finished_before(place: Path) -> Run | None:
    """The document of a type that a resumed run has nothing to add to."""
    if (place / JOURNAL).exists() or not (place / "run.json").exists():
        return None
    return read(place / "run.json", Run)


def _plans(
    cluster: Cluster, crew: Crew, accelerator: str | None, request: RunRequest, say: Write, taken: set[str]
) -> list[TypePlan]:
    """The types of the nodes with an accelerator, each with its share of the suite."""
    described = described_by(crew, crew.claim(accelerator), accelerator, say)
    by_name = {slot.name: (slot, found) for slot, found in described}
    kinds = told_apart({name: found.environment for name, (_, found) in by_name.items()}, taken)
    laid_out: list[LaidOut] = []
    for kind, names in kinds:
        if kind.apart:
            say(f"{kind.name}: {kind.apart}")
        slot = by_name[names[0]][0]
        try:
            text = cluster.answer(slot.actor.plan.remote())
        except NodeGone as gone:
            raise OpbenchError(f"node {slot.name} was lost while it planned ({gone}); try again") from gone
        assert text is not None
        laid_out.append(decode(text, LaidOut))
    earlier = seconds_of(read(request.timings, Run)) if request.timings else {}
    seconds = [{**found.seconds, **earlier} for found in laid_out]
    slots_of = [tuple(by_name[name][0] for name in names) for _, names in kinds]
    at_once = [crew.at_once(slots) for slots in slots_of]
    shares = shared_out([found.plan for found in laid_out], at_once, seconds)
    plans = []
    for (kind, names), slots, most, found, share, expected in zip(
        kinds, slots_of, at_once, laid_out, shares, seconds, strict=True
    ):
        if share.panels or len(kinds) == 1:
            threads = by_name[names[0]][1].threads
            plans.append(TypePlan(kind, accelerator, slots, most, threads, replace(found, plan=share), expected))
        else:
            say(f"{kind.name}: its nodes have nothing to measure")
            for slot in slots:
                crew.release(slot)
    return plans
