"""What is watched beside a panel on the CPU: each block's waits for a core, and the machine's phase in each round."""

from __future__ import annotations

from dataclasses import dataclass, field

from opbench.measure.disturbance import DisturbanceGuard
from opbench.measure.phases import Phases
from opbench.measure.probes import Probe, Probes


@dataclass
class Surroundings:
    """One process's; made before foreign code runs. `best` is what earlier panels have seen of this machine."""

    guard: DisturbanceGuard
    probes: Probes
    best: Probe | None = None
    _phases: Phases = field(default_factory=Phases)

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

    @property
    def rounds(self) -> tuple[Probe, ...]:
        """The probes of the panel, round by round."""
        return tuple(self._phases.rounds)
