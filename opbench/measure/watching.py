"""What is watched beside a panel on the CPU: each block's waits for a core, and the machine's phase in each round."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from opbench.measure.disturbance import DisturbanceGuard
from opbench.measure.phases import Phases
from opbench.measure.probes import Probe, Probes
from opbench.schema import ProbedPanel


@dataclass
class DisturbanceWatch:
    """One process's; made before foreign code runs. `best` is what earlier panels have seen of this machine."""

    guard: DisturbanceGuard
    probes: Probes
    best: Probe | None = None
    _phases: Phases = field(default_factory=Phases)

    def knows(self, best: tuple[float, float, float] | None) -> None:
        """Takes over what other processes have seen of this machine at its best."""
        if best is not None:
            self.best = Probe(*best) if self.best is None else Probe(*map(min, best, self.best))
        self._phases = Phases(self.best)

    def begin_panel(self) -> None:
        """Forgets the rounds of the panel before, not the machine's best."""
        self._phases = Phases(self.best)
        self.guard.why = ""

    def begin_round(self) -> bool:
        """Reads the probes; whether the round seems to be a clear one."""
        return self._phases.add(self.probes.read())

    def end_panel(self) -> list[bool]:
        """Which rounds were clear, by all that is known at the end."""
        if not self._phases.rounds:
            return []
        self.best = self._phases.known_best()
        return self._phases.clear()

    def probed(self, panel: str, process: int) -> ProbedPanel | None:
        """The probes of the panel that was measured last; None where it was not timed."""
        if not self._phases.rounds:
            return None
        columns = zip(*self._phases.rounds, strict=True)
        return ProbedPanel(panel, process, *(tuple(map(_nanoseconds, column)) for column in columns))


def _nanoseconds(seconds: float) -> int:
    """For a document; 0 where the cores never ran together."""
    return round(1e9 * seconds) if math.isfinite(seconds) else 0
