"""What disturbs the blocks of two revisions' workers: each says how its threads waited, the kernel tells the rest."""

from __future__ import annotations

from dataclasses import dataclass, field

from opbench.engine.revision_worker import TimedBlock
from opbench.measure.disturbance import SLICE_SECONDS, DisturbanceGuard
from opbench.measure.pairs import TimedTurn


@dataclass
class PairedWatch:
    """Judges each block as it comes back."""

    guard: DisturbanceGuard = field(default_factory=DisturbanceGuard)

    @property
    def why(self) -> str:
        """The worst since the case began, in words."""
        return self.guard.why

    def forget(self) -> None:
        """Another case begins."""
        self.guard.why = ""

    def before(self) -> None:
        """A worker is about to be asked for a block."""
        self.guard.before()

    def judge(self, block: TimedBlock) -> TimedTurn:
        """The block as the rounds take it. A clock that stood still or ran back has measured nothing."""
        if not block.seconds > 0:
            self.guard.keep(1.0, "the clock stood still or ran backwards")
            return TimedTurn(block.seconds, True, 1.0)
        own = SLICE_SECONDS * block.interrupted if block.waited is None else block.waited
        # Workers are of this process's group, and one at a time is at work: what else is lost, the kernel tells.
        lost = self.guard.lost(block.seconds)._replace(waiting=own / block.seconds)
        interrupted = block.waited is None and block.interrupted > 0
        share, spoilt = self.guard.weigh(lost, block.seconds, spoilt=interrupted)
        return TimedTurn(block.seconds, spoilt, min(1.0, share))

    def close(self) -> None:
        """Closes the kernel's files."""
        self.guard.kernel.close()
