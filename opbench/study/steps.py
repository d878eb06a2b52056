"""CPU seconds of a training step: all contenders in turns, in a fresh random order each round, on one thread.

CPU time, not wall time: what the process itself computed. It is a small measurement beside the study, of one process
and a few rounds; `opbench run` is the one for latencies.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import numpy as np
import torch

from opbench.study.declared import Data, Study
from opbench.study.training import build, one_thread, take_step

RATE = 1e-4


def step_seconds(study: Study, data: Data, rounds: int) -> dict[str, tuple[float, ...]]:
    """Contender -> seconds of one step (forward, loss, backward, update), round by round; one step each goes before."""
    batch = data.batch(np.random.default_rng(0), study.batch)
    with one_thread():
        steps = {entrant.name: _step(study, entrant.name, batch) for entrant in study.entrants}
        for step in steps.values():
            step()
        taken: dict[str, list[float]] = {name: [] for name in steps}
        order = random.Random(study.name)
        for _ in range(rounds):
            for name in order.sample(list(steps), len(steps)):
                began = time.process_time_ns()
                steps[name]()
                taken[name].append((time.process_time_ns() - began) / 1e9)
    return {name: tuple(seconds) for name, seconds in taken.items()}


def _step(study: Study, contender: str, batch: tuple[torch.Tensor, ...]) -> Callable[[], float]:
    network = build(study, contender, seed=0)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    return lambda: take_step(study, network, optimizer, batch, RATE)
