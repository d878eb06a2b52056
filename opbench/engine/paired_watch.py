"""What disturbs the blocks of two revisions' workers: each says how its threads waited, the kernel tells the rest."""

from __future__ import annotations

from dataclasses import dataclass, field

from opbench.engine.revision_worker import TimedBlock
from opbench.measure.disturbance import (
    SLICE_SECONDS,
    STEAL_TICK_SECONDS,
    WAITED_SHARE_AT_MOST,
    Counters,
    KernelCounters,
    Waited,
    waited,
)
from opbench.measure.pairs import TimedTurn

# Steal is counted in ticks: one of them says nothing of a shorter block.
_LEAST_STOLEN_SECONDS = 2 * STEAL_TICK_SECONDS
_UNREAD = Counters(None, None, None)


@dataclass
class PairedWatch:
    """Judges each block as it comes back. `why` names the worst that was seen since it was last emptied."""

    kernel: KernelCounters = field(default_factory=KernelCounters)
    allowed: float = WAITED_SHARE_AT_MOST
    why: str = ""
    _before: Counters = _UNREAD
    _worst: float = 0.0

    def forget(self) -> None:
        """Another case begins."""
        self.why, self._worst = "", 0.0

    def before(self) -> None:
        """A worker is about to be asked for a block."""
        self._before = self.kernel.read()

    def judge(self, block: TimedBlock) -> TimedTurn:
        """The block as the rounds take it. A clock that stood still or ran back has measured nothing."""
        if not block.seconds > 0:
            self._keep(1.0, "the clock stood still or ran backwards")
            return TimedTurn(block.seconds, True, 1.0)
        # Workers are of this process's group, and one of them at a time is at work.
        shared = waited(self._before, self.kernel.read(), block.seconds)
        own = SLICE_SECONDS * block.interrupted if block.waited is None else block.waited
        stolen = shared.stolen if shared.stolen * block.seconds >= _LEAST_STOLEN_SECONDS else 0.0
        lost = Waited(own / block.seconds, shared.throttled, stolen)
        spoilt = lost.share > self.allowed or (block.waited is None and block.interrupted)
        if spoilt:
            self._keep(lost.share, lost.why)
        return TimedTurn(block.seconds, spoilt, min(1.0, lost.share))

    def close(self) -> None:
        """Closes the kernel's files."""
        self.kernel.close()

    def _keep(self, share: float, why: str) -> None:
        if share > self._worst or not self.why:
            self._worst, self.why = share, why
