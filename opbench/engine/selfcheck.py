"""A selfcheck from start to end: fresh processes one after another, half of them beside another that loads a core.

After them pairs of processes of identical code, for the layout floor; between all of them the machine's probes.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.util
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

import opbench
from opbench.engine.environment import environment
from opbench.engine.layouts import layouts, planned
from opbench.engine.trials import EFFECTS, SUBJECTS, Batch, Taken, Wanted
from opbench.measure import pinning
from opbench.measure.phases import best_of
from opbench.measure.probes import Probe
from opbench.process.child import Child
from opbench.process.death import Death
from opbench.schema import SCHEMA_VERSION, LayoutTrial, OpbenchError, Selfcheck, Trial

_WORKER = "opbench.engine.trials"
# Starting takes some seconds, and a trial a quarter of a second or so beside its budget; three external tools take as
# long as the turns did, each.
_START_SECONDS = 60.0
_TRIAL_SECONDS = 20.0
_LOAD = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(100_000))"


@dataclass(frozen=True)
class SelfcheckExtent:
    """How much to take: identical pairs, pairs of every planted effect, processes; half of each beside a load.

    `layouts` are pairs of fresh processes of identical code, on a machine without a load.
    """

    identical: int
    planted: int
    processes: int
    threads: int
    precision: float
    budget_seconds: float
    external_tools: bool
    seed: int = 0
    layouts: int = 0


def selfcheck(extent: SelfcheckExtent, command: str, progress: Callable[[int, int], None]) -> Selfcheck:
    """Takes all trials; `progress(done, total)` counts them. Raises OpbenchError where a tool isn't installed."""
    if extent.external_tools and importlib.util.find_spec("pytest_benchmark") is None:
        raise OpbenchError("selfcheck --rivals needs pytest-benchmark: pip install 'opbench[pytest]'")
    began = time.perf_counter()
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    batches = lay_out(extent)
    laid_out = planned() if extent.layouts else None
    before = sum(len(batch.trials) for batch in batches)
    total = before + extent.layouts * sum(len(panel.cases) for panel in (laid_out.panels if laid_out else ()))
    trials: list[Trial] = []
    shown: list[Probe] = []
    chosen = pinning.choose(extent.threads)
    for batch in batches:
        progress(len(trials), total)
        with _one_core_loaded() if batch.loaded else contextlib.nullcontext():
            for taken in _in_a_process(batch, chosen):
                trials.append(taken.trial)
                shown += [taken.best] if taken.best else []
    pairs: tuple[LayoutTrial, ...] = ()
    if laid_out is not None:
        pairs = layouts(
            laid_out,
            extent.layouts,
            threads=extent.threads,
            seed=extent.seed,
            command=command,
            progress=lambda done: progress(before + done, total),
        )
    progress(total, total)
    here = environment()
    details = {**here.details, pinning.PINNED: chosen.said}
    surroundings = msgspec.structs.replace(here, threads=extent.threads, details=details)
    return Selfcheck(
        schema_version=SCHEMA_VERSION,
        environment=surroundings,
        command=command,
        started=started,
        wall_seconds=time.perf_counter() - began,
        precision=extent.precision,
        budget_seconds=extent.budget_seconds,
        trials=tuple(trials),
        layouts=pairs,
        best=best_of(shown, extent.threads),
    )


def lay_out(extent: SelfcheckExtent) -> list[Batch]:
    """Trials dealt to processes in turn: quiet, loaded, quiet, ... A quiet process also takes the replicas."""
    kinds = 2 * extent.processes
    hands: list[list[Wanted]] = [[] for _ in range(kinds)]
    names = list(SUBJECTS)
    for effect, count in ((0.0, extent.identical), *((effect, extent.planted) for effect in EFFECTS)):
        for index in range(count):
            # A hand goes through all subjects, each beginning with another one.
            hand, place = index % kinds, index // kinds
            name = names[(hand + place) % len(names)]
            hands[hand].append(Wanted(name, name, effect))
    for index in range(0, kinds, 2):
        hands[index] += [Wanted(a, b, None) for a, b in zip(names, names[1:] + names[:1], strict=True)]
    return [
        Batch(
            trials=tuple(hand),
            process=index,
            loaded=index % 2 == 1,
            threads=extent.threads,
            precision=extent.precision,
            budget_seconds=extent.budget_seconds,
            external_tools=extent.external_tools,
            seed=extent.seed,
        )
        for index, hand in enumerate(hands)
        if hand
    ]


def _in_a_process(batch: Batch, chosen: pinning.Pinning) -> Iterator[Taken]:
    """Hands a batch to a fresh process on the chosen cores; what it has taken. Each is a sign of life."""
    root = str(Path(opbench.__file__).parents[1])
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    seconds = _START_SECONDS + _TRIAL_SECONDS * (1 + batch.budget_seconds)
    with pinning.inherited(chosen):
        started = Child[Taken](["-P", "-m", _WORKER], Taken, environment={**os.environ, "PYTHONPATH": paths})
    with started as child:
        child.send(batch)
        for _ in batch.trials:
            taken = child.receive(seconds)
            if isinstance(taken, Death):
                raise OpbenchError(f"selfcheck: process {batch.process} {taken.message}")
            yield taken


@contextlib.contextmanager
def _one_core_loaded() -> Iterator[None]:
    """Another process that computes without pause, and that ends with this one whatever happens."""
    with Child[Taken](["-c", _LOAD], Taken):
        yield
