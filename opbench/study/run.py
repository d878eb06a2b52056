"""A study from start to end: search the learning rates, train every contender on every seed, time the steps.

Trainings are shared out among processes of one thread each. How many there are changes nothing in the losses: a
training is a function of its contender, learning rate and seed.
"""

from __future__ import annotations

import contextlib
import datetime
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import psutil

from opbench.documents import save
from opbench.documents.kinds import STUDY_VERSION
from opbench.engine.environment import environment
from opbench.process.pool import ChildLostError, Pool
from opbench.schema import OpbenchError
from opbench.study.counting import counted
from opbench.study.declared import Study
from opbench.study.document import (
    NAME,
    PART,
    Contender,
    Purpose,
    StudyDocument,
    StudyResult,
    Training,
)
from opbench.study.images import Source, pictures
from opbench.study.resuming import earlier
from opbench.study.steps import step_seconds, watch
from opbench.study.studies import study_named
from opbench.study.training import SCHEDULE, TrainingJob, examples, train
from opbench.study.worker import Trained

# The same for every contender of every study, fixed before any held-out image was scored.
RATES = (0.003, 0.01, 0.03)
SEARCH_SEED = 1000
ROUNDS = 30
MOST_PROCESSES = 8
WORKER = "opbench.study.worker"
# The longest training of the studies takes some minutes on a core of its own.
TRAINING_SECONDS = 7200.0

Progress = Callable[[int, int, str], None]
CarryOut = Callable[[Sequence[TrainingJob]], Iterator[Training]]


@dataclass(frozen=True)
class Extent:
    """What to do: which studies, how many seeds, from which images, in how many processes.

    `quick` trains two steps of tiny data, to see that everything works; its figures mean nothing.
    """

    studies: tuple[str, ...]
    seeds: int = 6
    images: str = "auto"
    processes: int = 0  # 0: as many as there are cores for this process
    quick: bool = False

    @property
    def source(self) -> Source:
        """The source of images that there is. Raises OpbenchError where the one asked for isn't."""
        return pictures(self.images).source


class TrainingLostError(Exception):
    """A process ended in the middle of a training."""


def run_study(extent: Extent, command: str, output: Path, progress: Progress, *, resume: bool = False) -> StudyDocument:
    """Runs the studies and writes study.json into `output`. `progress(done, total, what)` is told of every training.

    After each training study.part.json holds what there is: that much outlasts Ctrl-C, and a process that is killed
    (TrainingLostError). With `resume` what is there is not trained again. Raises OpbenchError for a study or images
    that there aren't, too few seeds, a folder that can't be written, or trainings of another study to go on with.
    """
    if extent.seeds < 2:
        raise OpbenchError(f"--seeds {extent.seeds}: an interval needs at least 2")
    studies = [study_named(name) for name in dict.fromkeys(extent.studies)]
    source = extent.source
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    began = time.perf_counter()
    surroundings = msgspec.structs.replace(environment(), threads=1)
    results = [_laid_out(study, extent, source) for study in studies]
    total = sum(result.planned for result in results)
    before = earlier(output, results, surroundings, extent.quick) if resume else None
    if before is not None and before.complete:  # what is left is its report
        return before
    if before is not None:
        results = list(before.studies)
        started, began = before.started, began - before.wall_seconds

    def document() -> StudyDocument:
        seconds = time.perf_counter() - began
        return StudyDocument(STUDY_VERSION, surroundings, command, started, seconds, extent.quick, tuple(results))

    save(document(), output / PART)  # a folder that can't be written is found out now
    with _workers(extent) as carry_out:
        for index, study in enumerate(studies):
            for changed in _carried_out(study, results[index], extent, source, carry_out):
                results[index] = changed
                save(document(), output / PART)
                done = sum(len(result.trainings) for result in results)
                progress(done, total, study.name)
    for index, study in enumerate(studies):
        progress(total, total, f"{study.name}: steps in turns")
        data = examples(study.name, source, extent.quick)
        if extent.quick:  # no figure of it means anything
            taken = step_seconds(study, data, 3)
        else:
            with watch() as around:
                taken = step_seconds(study, data, ROUNDS, around)
        contenders = tuple(
            msgspec.structs.replace(contender, step_seconds=taken.seconds[contender.name])
            for contender in results[index].contenders
        )
        results[index] = msgspec.structs.replace(results[index], contenders=contenders, step_phase=taken.phase)
    finished = document()
    save(finished, output / NAME)
    (output / PART).unlink(missing_ok=True)
    return finished


def best_rate(trainings: Iterable[Training], metric: str) -> float:
    """The learning rate of the best score; a training that diverged is never it, unless all did."""

    def key(training: Training) -> float:
        score = training.scores[metric]
        return -math.inf if math.isnan(score) else score

    return max(trainings, key=key).rate


def _laid_out(study: Study, extent: Extent, source: Source) -> StudyResult:
    """The study with everything but its outcome."""
    data = examples(study.name, source, extent.quick)
    rates = RATES[:2] if extent.quick else RATES
    seeds = tuple(range(min(2, extent.seeds) if extent.quick else extent.seeds))
    batch = data.batch(np.random.default_rng(0), 1)
    return StudyResult(
        name=study.name,
        title=study.title,
        question=study.question,
        task=study.task,
        baseline=study.baseline,
        data=data.description,
        network=study.network_description,
        slots=study.slots,
        steps=2 if extent.quick else study.steps,
        batch=study.batch,
        schedule=SCHEDULE,
        rates=rates,
        search_seed=SEARCH_SEED,
        seeds=seeds,
        metrics=study.metrics,
        loss_title=study.loss_title,
        contenders=tuple(counted(study, entrant, batch) for entrant in study.entrants),
        planned=len(study.entrants) * (len(rates) + len(seeds)),
        anchors=study.anchors(data.held_out),
    )


def _carried_out(
    study: Study, result: StudyResult, extent: Extent, source: Source, carry_out: CarryOut
) -> Iterator[StudyResult]:
    """The result with one training more, again and again: first the search, then what counts."""

    def job(contender: Contender, rate: float, seed: int) -> TrainingJob:
        purpose: Purpose = "search" if seed == SEARCH_SEED else "scored"
        return TrainingJob(study.name, contender.name, purpose, rate, seed, result.steps, source, extent.quick)

    def left(jobs: Sequence[TrainingJob]) -> list[TrainingJob]:
        done = {(one.contender, one.purpose, one.rate, one.seed) for one in result.trainings}
        return [job for job in jobs if (job.contender, job.purpose, job.rate, job.seed) not in done]

    search = [job(contender, rate, SEARCH_SEED) for contender in result.contenders for rate in result.rates]
    for trained in carry_out(left(search)):
        result = _with(result, trained)
        yield result
    contenders = tuple(
        msgspec.structs.replace(c, rate=best_rate(result.of(c.name, "search"), study.metrics[0].name))
        for c in result.contenders
    )
    result = msgspec.structs.replace(result, contenders=contenders)
    # Seed by seed: where it is interrupted, the contenders can be compared over the seeds that all had.
    scored = [job(c, c.rate or 0.0, seed) for seed in result.seeds for c in contenders]
    for trained in carry_out(left(scored)):
        result = _with(result, trained)
        yield result


def _with(result: StudyResult, trained: Training) -> StudyResult:
    """The training in its place, whichever process ended first."""
    names = [contender.name for contender in result.contenders]

    def place(training: Training) -> tuple[bool, int, float, int]:
        return training.purpose == "scored", names.index(training.contender), training.rate, training.seed

    return msgspec.structs.replace(result, trainings=tuple(sorted((*result.trainings, trained), key=place)))


@contextlib.contextmanager
def _workers(extent: Extent) -> Iterator[CarryOut]:
    """Processes to train in; with one, this one. Whatever ends them early, Ctrl-C too, ends them at once."""
    count = extent.processes or min(MOST_PROCESSES, _cores())
    if count == 1 or extent.quick:
        yield lambda jobs: map(train, jobs)
        return
    try:
        with Pool[Trained](["-m", WORKER], Trained, count, seconds=TRAINING_SECONDS) as pool:
            yield lambda jobs: (trained.training for trained in pool.map(jobs))
    except ChildLostError as error:
        raise TrainingLostError(f"a training process {error}") from None


def _cores() -> int:
    if hasattr(psutil.Process, "cpu_affinity"):
        return len(psutil.Process().cpu_affinity())
    return os.cpu_count() or 1
