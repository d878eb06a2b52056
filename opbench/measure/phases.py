"""Phases of a shared machine: whether a round was taken while the machine was at its best, by the probes beside it.

`clear`: each probe within a stated share of the best that was seen. `shared`: somebody else has part of the core, the
caches or the memory. Contenders differ in what bounds them, so that a ratio of one phase is not that of the other: a
figure is of rounds of one phase, named, never of a mixture. Rounds are chosen by the probes alone, never by how long a
contender took, so that choosing doesn't bend what is chosen.
"""

from __future__ import annotations

import inspect
import math
import statistics
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from opbench.measure import probe_code, probes
from opbench.measure.probes import Probe
from opbench.schema import BestProbes, Phase

# How much longer than at its best a probe may take in a clear round. A busy sibling thread makes the loop of integers
# take 1.3 to 1.4 times as long and a matrix product 1.2 times; a small copy scatters most.
CLEAR_WITHIN = Probe(1.12, 1.3, 1.12)
# An interrupt makes one reading longer, a phase lasts for seconds: the median of so many rounds tells them apart.
SMOOTHED_OVER = 5
# The best is no single lucky reading but the fastest twentieth.
BEST_SHARE = 0.05
# Fewer of a contender's rounds than this are no phase but luck: two vCPUs that are one core's threads for most of the
# time read clear now and then.
CLEAR_SHARE_AT_LEAST = 0.1


def probes_work() -> str:
    """Which work the probes do: a digest of their source. A best that another version has shown is of other work."""
    return f"{zlib.crc32(''.join(map(inspect.getsource, (probes, probe_code))).encode()):08x}"


def best_of(shown: Collection[Probe], threads: int) -> BestProbes | None:
    """The fastest of each probe, as a selfcheck keeps it; None where the cores never ran together."""
    together = [probe for probe in shown if all(map(math.isfinite, probe))]
    return BestProbes(threads, probes_work(), *map(min, zip(*together, strict=True))) if together else None


def known(best: BestProbes | None, threads: int) -> Probe | None:
    """What a selfcheck has kept, where it is of the same work with as many threads."""
    if best is None or (best.threads, best.work) != (threads, probes_work()):
        return None
    return Probe(best.integers, best.copy, best.product)


class Used(NamedTuple):
    """Which of a contender's rounds its figures are of: their phase, and the positions of all others."""

    phase: Phase
    left_out: tuple[int, ...]


@dataclass
class Phases:
    """The probes of a panel, round by round. `best`: of this machine, from earlier panels or a selfcheck."""

    best: Probe | None = None
    rounds: list[Probe] = field(default_factory=list)

    def add(self, probe: Probe) -> bool:
        """Another round; whether it seems clear by what is known so far."""
        self.rounds.append(probe)
        return self._clear(self.rounds[-SMOOTHED_OVER:], self.known_best())

    def known_best(self) -> Probe:
        """The best so far, of this panel and before it."""
        columns = [sorted(column) for column in zip(*self.rounds, strict=True)]
        own = Probe(*(column[int(BEST_SHARE * len(column))] for column in columns))
        return own if self.best is None else Probe(*map(min, own, self.best))

    def clear(self) -> list[bool]:
        """Of every round, by all that is known at the end."""
        best, half = self.known_best(), SMOOTHED_OVER // 2
        return [
            self._clear(self.rounds[max(0, at - half) : at + half + 1], best) for at in range(len(self.rounds))
        ]  # fmt: skip

    @staticmethod
    def _clear(near: Sequence[Probe], best: Probe) -> bool:
        middle = Probe(*map(statistics.median, zip(*near, strict=True)))
        return all(
            math.isfinite(now) and now <= within * least
            for now, within, least in zip(middle, CLEAR_WITHIN, best, strict=True)
        )


def used(clear: Sequence[bool], clean: Sequence[int], rounds: int, least: int) -> Used:
    """The rounds that a contender's figures are of, out of the `clean` ones (undisturbed pairs) of its `rounds`.

    The clear ones where there are `least` of them and a tenth of all, or they are the most; else the shared ones.
    """
    bright = [at for at in clean if clear[at]]
    dim = [at for at in clean if not clear[at]]
    enough = max(min(least, len(dim) or 1), CLEAR_SHARE_AT_LEAST * len(clean))
    phase: Phase = "clear" if len(bright) >= enough else "shared"
    kept = set(bright if phase == "clear" else dim)
    return Used(phase, tuple(at for at in range(rounds) if at not in kept))
