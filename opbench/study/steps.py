"""CPU seconds of a training step: all contenders in turns, in a fresh random order each round, on one thread.

CPU time, not wall time: what the process itself computed. It is a small measurement beside the study, of one process
and a few rounds; `opbench run` is the one for latencies. Waiting for a core takes no CPU time, but a neighbour on the
same core or the same memory makes a step take more of it: probes beside every round tell, and only rounds of one phase
count.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from opbench.measure.disturbance import DisturbanceGuard
from opbench.measure.probes import Probes
from opbench.measure.watching import DisturbanceWatch
from opbench.schema import Phase
from opbench.study.declared import Data, Study
from opbench.study.training import build, one_thread, take_step

RATE = 1e-4
# So many rounds of the machine at its best are enough, however many others there are.
LEAST_CLEAR = 8


class StepTimes(NamedTuple):
    """Contender -> seconds of one step (forward, loss, backward, update), round by round, of one phase."""

    seconds: dict[str, tuple[float, ...]]
    phase: Phase = ""


@contextlib.contextmanager
def watch() -> Iterator[DisturbanceWatch]:
    """What reads the probes on the one core that steps are taken on."""
    made = DisturbanceWatch(DisturbanceGuard(), Probes(1))
    try:
        yield made
    finally:
        made.guard.kernel.close()


def step_seconds(study: Study, data: Data, rounds: int, around: DisturbanceWatch | None = None) -> StepTimes:
    """All contenders in turns; one step each goes before. Rounds of another phase than most are left out."""
    batch = data.batch(np.random.default_rng(0), study.batch)
    with one_thread():
        steps = {entrant.name: _step(study, entrant.name, batch) for entrant in study.entrants}
        for step in steps.values():
            step()
        taken: dict[str, list[float]] = {name: [] for name in steps}
        order = random.Random(study.name)
        if around is not None:
            around.begin_panel()
        for _ in range(rounds):
            if around is not None:
                around.begin_round()
            for name in order.sample(list(steps), len(steps)):
                began = time.process_time_ns()
                steps[name]()
                taken[name].append((time.process_time_ns() - began) / 1e9)
    kept, phase = _of_one_phase(around.end_panel()) if around is not None else (range(rounds), "")
    return StepTimes({name: tuple(seconds[at] for at in kept) for name, seconds in taken.items()}, phase)


def _of_one_phase(clear: Sequence[bool]) -> tuple[Sequence[int], Phase]:
    """Which rounds count: the clear ones where there are enough of them or they are the most."""
    bright = [at for at, is_clear in enumerate(clear) if is_clear]
    dim = [at for at, is_clear in enumerate(clear) if not is_clear]
    return (bright, "clear") if len(bright) >= min(LEAST_CLEAR, max(1, len(dim))) else (dim, "shared")


def _step(study: Study, contender: str, batch: tuple[torch.Tensor, ...]) -> Callable[[], float]:
    network = build(study, contender, seed=0)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    return lambda: take_step(study, network, optimizer, batch, RATE)
