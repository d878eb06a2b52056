"""One training, bit for bit the same every time: a contender, a learning rate and a seed -> losses and scores."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
import torch
from torch import nn

from opbench import registry
from opbench.schema import Implementation, OpbenchError, Operator
from opbench.seeds import seed_of
from opbench.study.changes import slot_quantities
from opbench.study.declared import Data, Entrant, Study, Tensors
from opbench.study.document import Purpose, SlotChange, Training
from opbench.study.images import Source
from opbench.study.studies import study_named

WARM_UP = 0.1  # share of the steps
SCHEDULE = "Adam, linear warm-up over the first tenth of the steps, then half a cosine down to 0"


class TrainingJob(msgspec.Struct, frozen=True):
    """What to train: data alone, so that it can be handed to another process."""

    study: str
    contender: str
    purpose: Purpose
    rate: float
    seed: int
    steps: int
    images: Source
    quick: bool


def train(job: TrainingJob) -> Training:
    """Trains from scratch on one thread. The data's order and the weights around the slots depend on the seed alone."""
    study = study_named(job.study)
    data = examples(job.study, job.images, job.quick)
    judged = data.validation if job.purpose == "search" else data.held_out
    with one_thread():
        network = build(study, job.contender, job.seed)
        before = slot_quantities(network, _few(study, judged))
        losses = []
        optimizer = torch.optim.Adam(network.parameters(), lr=job.rate)
        for step in range(job.steps):
            draw = np.random.default_rng([job.seed, step])
            losses.append(take_step(study, network, optimizer, data.batch(draw, study.batch), rate_at(job, step)))
        network.eval()
        scores = study.score(network, judged)
        after = slot_quantities(network, _few(study, judged))
    changes = tuple(SlotChange(*key, before=before[key], after=after[key]) for key in before)
    return Training(job.contender, job.purpose, job.rate, job.seed, tuple(losses), scores, changes)


def take_step(study: Study, network: nn.Module, optimizer: torch.optim.Optimizer, batch: Tensors, rate: float) -> float:
    """Forward, loss, backward, update; the loss."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    loss = study.loss(network, batch)
    loss.backward()
    optimizer.step()
    return float(str(np.float32(loss.item())))


def rate_at(job: TrainingJob, step: int) -> float:
    """The learning rate of a step: SCHEDULE."""
    warm = max(1, round(WARM_UP * job.steps))
    if step < warm:
        return job.rate * (step + 1) / warm
    return job.rate * (1 + math.cos(math.pi * (step - warm + 1) / (job.steps - warm + 1))) / 2


def build(study: Study, contender: str, seed: int) -> nn.Module:
    """The network with the contender in its slots: everything around them alike for all contenders of a seed."""
    entrant = study.entrant(contender)
    operator, implementation = chosen(study, entrant)
    dims = slot_dims(study, entrant)
    made = 0

    def slot() -> nn.Module:
        nonlocal made
        made += 1
        with _seeded(f"{seed}/{study.name}/slot {made}"):
            return operator.module(dims, implementation)

    with _seeded(f"{seed}/{study.name}"):
        return study.network(slot).train()


def chosen(study: Study, entrant: Entrant) -> tuple[Operator, Implementation]:
    """The operator and the first of the contender's implementations that runs here."""
    operator = registry.operator(study.task, entrant.operator)
    reasons = []
    for name in entrant.implementations:
        reason = operator.implementations[name].missing()
        if reason is None:
            return operator, operator.implementations[name]
        reasons.append(f"{name}: {reason}")
    raise OpbenchError(f"{study.name}/{entrant.name} can't run here ({'; '.join(reasons)})")


def slot_dims(study: Study, entrant: Entrant) -> dict[str, Any]:
    """The dimensions of one slot for one image."""
    operator = registry.operator(study.task, entrant.operator)
    return operator.given({"N": 1, **study.slot_dims, **entrant.dims})


@lru_cache(maxsize=4)
def examples(study: str, images: Source, quick: bool) -> Data:
    """The data of a study, drawn or decoded once a process."""
    return study_named(study).data(images, quick)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: sums are then always taken in the same order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def _seeded(text: str) -> Iterator[None]:
    """Torch's own random state set by a text, and put back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(text))
        yield


def _few(study: Study, judged: Tensors) -> torch.Tensor:
    return study.inputs(judged)[:32]
