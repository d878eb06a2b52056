"""A selfcheck from start to end: fresh processes one after another, half of them beside another that loads a core."""

from __future__ import annotations

import contextlib
import datetime
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

import opbench
from opbench.document import decode, encode
from opbench.engine.environment import environment
from opbench.engine.trials import EFFECTS, SUBJECTS, Batch, Wanted
from opbench.schema import SCHEMA_VERSION, OpbenchError, Selfcheck, Trial

# A trial takes a quarter of a second or so; a process that takes this much longer is stuck.
_PATIENCE = 20.0
_LOAD = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(100_000))"


@dataclass(frozen=True)
class Extent:
    """How much to take: identical pairs, pairs of every planted effect, processes; half of each beside a load."""

    identical: int
    planted: int
    processes: int
    threads: int
    precision: float
    budget_seconds: float
    rivals: bool
    seed: int = 0


def selfcheck(extent: Extent, command: str, progress: Callable[[int, int], None]) -> Selfcheck:
    """Takes all trials; `progress(done, total)` counts them. Raises OpbenchError where a rival isn't installed."""
    if extent.rivals and importlib.util.find_spec("pytest_benchmark") is None:
        raise OpbenchError("selfcheck --rivals needs pytest-benchmark: pip install 'opbench[pytest]'")
    began = time.perf_counter()
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    batches = lay_out(extent)
    total = sum(len(batch.trials) for batch in batches)
    trials: list[Trial] = []
    for batch in batches:
        progress(len(trials), total)
        with _one_core_loaded() if batch.loaded else contextlib.nullcontext():
            trials += _in_a_process(batch)
    progress(total, total)
    surroundings = msgspec.structs.replace(environment(), threads=extent.threads)
    return Selfcheck(
        schema_version=SCHEMA_VERSION,
        environment=surroundings,
        command=command,
        started=started,
        wall_seconds=time.perf_counter() - began,
        precision=extent.precision,
        budget_seconds=extent.budget_seconds,
        trials=tuple(trials),
    )


def lay_out(extent: Extent) -> list[Batch]:
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
            rivals=extent.rivals,
            seed=extent.seed,
        )
        for index, hand in enumerate(hands)
        if hand
    ]


def _in_a_process(batch: Batch) -> list[Trial]:
    """Hands a batch to a fresh process; its trials."""
    patience = 60 + _PATIENCE * len(batch.trials) * (1 + batch.budget_seconds)
    root = str(Path(opbench.__file__).parents[1])
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "opbench.engine.trials"],
            input=encode(batch),
            capture_output=True,
            env={**os.environ, "PYTHONPATH": paths},
            timeout=patience,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise OpbenchError(
            f"selfcheck: process {batch.process} took more than {patience:.0f} s for {len(batch.trials)} trials"
        ) from None
    if done.returncode != 0:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise OpbenchError(f"selfcheck: process {batch.process} ended with code {done.returncode}: {last}")
    return decode(done.stdout, list[Trial])


@contextlib.contextmanager
def _one_core_loaded() -> Iterator[None]:
    """Another process that computes without pause, and that ends with this one whatever happens."""
    with subprocess.Popen([sys.executable, "-c", _LOAD]) as load:
        try:
            yield
        finally:
            load.kill()
