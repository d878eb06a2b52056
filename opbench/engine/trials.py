"""One process of a selfcheck: pairs of contenders timed in turns, one of them slower by a planted share.

A unit of work is 20 calls of one small case. Slower by 5 % is 21 calls of the very same kind: real work, exact to the
share, alike for every method that times the unit. Each contender of a pair has buffers of its own, built anew.

Run as `python -m opbench.engine.trials`, which answers a `Batch` with a message for every trial it has taken.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator, Mapping

import msgspec
import torch

from opbench import registry
from opbench.build import build
from opbench.measure.interruptions import interruptions
from opbench.measure.pairs import Turn, take_turns
from opbench.measure.phases import Phases
from opbench.measure.probes import Probe, Probes
from opbench.process.channel import serve
from opbench.schema import Called, Case, Trial

_UPSAMPLED = {"N": 1, "C": 16, "H": 8, "W": 8, "k_up": 5, "k_enc": 3, "c_mid": 64, "g": 1}
_MIXED = {"N": 1, "C": 16, "H": 8, "W": 8, "G": 2}
# Calls of 20 to 50 µs on the machine this was made on: a unit takes a millisecond at most, which is short enough to
# come through whole now and then where another process wants the same core.
SUBJECTS: Mapping[str, Case] = {
    f"{task}/{operator}": Case(task, "16x8x8", operator, "torch", dims, "float32", "cpu", "inference", spread)
    for task, operator, dims, spread in (
        ("upsample2x", "nearest", _UPSAMPLED, None),
        ("upsample2x", "bilinear", _UPSAMPLED, None),
        ("upsample2x", "deconv", _UPSAMPLED, None),
        ("conv3x3", "conv3x3", _MIXED, 2.0),
        ("conv3x3", "depthwise-separable", _MIXED, 2.0),
    )
}
# Calls of a unit. 2 % of 20 is no whole call.
_CALLS = {None: 20, 0.0: 20, 0.02: 50, 0.05: 20, 0.1: 20}
EFFECTS = tuple(effect for effect in _CALLS if effect)
_WARM_UP_UNITS = 10
# How often the probes are read after each trial.
_PROBED = 10


class Wanted(msgspec.Struct, frozen=True):
    """One trial to take: a subject, and its opponent (itself where the work is to be the same but for the effect)."""

    first: str
    second: str
    effect: float | None


class Batch(msgspec.Struct, frozen=True):
    """What one process takes."""

    trials: tuple[Wanted, ...]
    process: int
    loaded: bool
    threads: int
    precision: float
    budget_seconds: float
    external_tools: bool
    seed: int


class Taken(msgspec.Struct, frozen=True, tag=True):
    """One trial of a batch; `best`: the machine's fastest probes so far, None beside a load."""

    trial: Trial
    best: Probe | None = None


def take(batch: Batch) -> Iterator[Taken]:
    """Takes the trials in random order, so that no effect lines up with a spell of the machine."""
    torch.set_num_threads(batch.threads)
    probes, phases = None if batch.loaded else Probes(batch.threads), Phases()
    registry.load()
    draw = random.Random(f"{batch.seed}/{batch.process}/{batch.loaded}")
    wanted = list(batch.trials)
    draw.shuffle(wanted)
    with torch.inference_mode():
        for one in wanted:
            trial = _take_one(one, batch, draw)
            if probes is not None:
                for _ in range(_PROBED):
                    phases.add(probes.read())
            yield Taken(trial, phases.known_best() if phases.rounds else None)


def _take_one(wanted: Wanted, batch: Batch, draw: random.Random) -> Trial:
    calls = _CALLS[wanted.effect]
    first = unit(SUBJECTS[wanted.first], calls)
    second = unit(SUBJECTS[wanted.second], round(calls * (1 + (wanted.effect or 0.0))))
    for _ in range(_WARM_UP_UNITS):
        first()
        second()
    gc.collect()
    gc.disable()
    try:
        begin = time.perf_counter()
        rounds = take_turns(
            turn(first), turn(second), precision=batch.precision, budget_seconds=batch.budget_seconds, order=draw
        )
        seconds = time.perf_counter() - begin
    finally:
        gc.enable()
    called: tuple[Called, ...] = ()
    if batch.external_tools:
        from opbench.engine.external_tools import call_all

        called = call_all(first, second, seconds, draw)
    return Trial(
        contender=wanted.first if wanted.effect is not None else f"{wanted.first} against {wanted.second}",
        effect=wanted.effect,
        loaded=batch.loaded,
        process=batch.process,
        first_nanoseconds=tuple(round(value * 1e9) for value in rounds.first),
        second_nanoseconds=tuple(round(value * 1e9) for value in rounds.second),
        interrupted=tuple(rounds.interrupted),
        retaken=rounds.retaken,
        seconds=seconds,
        stop=rounds.stop,
        rivals=called,
    )


def unit(case: Case, calls: int) -> Callable[[], None]:
    """`calls` calls of a freshly built case."""
    built = build(case)
    module, inputs = built.module, built.inputs

    def work() -> None:
        for _ in range(calls):
            module(*inputs)

    return work


def turn(work: Callable[[], object]) -> Turn:
    """One block: its seconds, and whether the kernel took the core away meanwhile."""

    def timed() -> tuple[float, bool]:
        before = interruptions()
        begin = time.perf_counter()
        work()
        seconds = time.perf_counter() - begin
        return seconds, interruptions() != before

    return timed


if __name__ == "__main__":
    serve(Batch, take)
