"""What a selfcheck finds out of a machine: pairs of identical or of slowed-down code, timed in turns."""

from __future__ import annotations

from typing import Literal

import msgspec

from opbench.schema.recorded import Environment, StopReason


class Called(msgspec.Struct, frozen=True):
    """What one rival method made of a pair: `seconds` of measuring, second / first, and its verdict."""

    method: str
    seconds: float
    ratio: float
    verdict: Literal["regressed", "improved", "same", "undecided"]


class Trial(msgspec.Struct, frozen=True):
    """Two contenders timed in turns, the second slower by the planted share `effect` (0: the very same work).

    Raw samples in nanoseconds per block, round by round. A round in which the kernel gave the core to somebody else was
    taken again up to three times, `retaken` in all; `interrupted` names the rounds that stayed so. `loaded`: another
    process kept one core busy meanwhile. Trials of the same `contender` and different `process` are replicas. An
    `effect` of None pairs two contenders of different work, for how far the same ratio moves from process to process.
    """

    contender: str
    effect: float | None
    loaded: bool
    process: int
    first_nanoseconds: tuple[int, ...]
    second_nanoseconds: tuple[int, ...]
    interrupted: tuple[int, ...]
    retaken: int
    seconds: float
    stop: StopReason
    rivals: tuple[Called, ...] = ()


class LayoutTrial(msgspec.Struct, frozen=True):
    """Two fresh processes of identical code, timed in turns: nanoseconds of a call, round by round.

    `kind` is that of the case's contender (see `opbench.statistics.layout`); `left_out` names disturbed rounds.
    """

    case: str
    kind: str
    process: int
    first_nanoseconds: tuple[float, ...]
    second_nanoseconds: tuple[float, ...]
    left_out: tuple[int, ...] = ()


class BestProbes(msgspec.Struct, frozen=True):
    """The fastest that a machine has shown: seconds of each probe (see `opbench.measure.probes`) with so many threads.

    `work` tells which version of the probes it was: another one's times are of other work.
    """

    threads: int
    work: str
    integers: float
    copy: float
    product: float


class Selfcheck(msgspec.Struct, frozen=True):
    """What a machine can tell apart: trials of identical and of slowed-down code, and where they were taken.

    Absent in older documents: `layouts`, pairs of processes of identical code; `best`, which is also absent where
    nothing could be probed.
    """

    schema_version: int
    environment: Environment
    command: str
    started: str
    wall_seconds: float
    precision: float
    budget_seconds: float
    trials: tuple[Trial, ...]
    layouts: tuple[LayoutTrial, ...] = ()
    best: BestProbes | None = None
