"""Who brought a worker down: a suspect is convicted only if it fails alone, too, in a fresh process.

Whose call a process died in is evidence against him, not proof: a thread, a timer or a process that another one left
may have struck then. Where the suspect is well alone, the others are tried alone. Each trial waits, before it is over,
for as long as the panel had taken: what strikes late has its time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from opbench.engine.messages import PanelMeasured
from opbench.engine.supervisor import Fault
from opbench.schema import Case

# What a trial waits at most.
LINGER_SECONDS = 20.0
# Measures a case alone, in a fresh process that then waits for so many seconds.
Trial = Callable[[Case, float], PanelMeasured | Fault]


def guilty(cases: Sequence[Case], fault: Fault, seconds: float, alone: Trial) -> tuple[Case, Fault] | None:
    """Which of the cases fails alone, and how; None where each is well by itself.

    `fault` is how all of them together ended, after `seconds`.
    """
    suspect = None if fault.contender is None else cases[fault.contender]
    others = [case for case in cases if case is not suspect]
    for case in [suspect, *others] if suspect else others:
        found = alone(case, min(seconds, LINGER_SECONDS))
        if isinstance(found, Fault):
            return case, found
    return None
