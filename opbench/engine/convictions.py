"""Who brought a worker down: a suspect is convicted only if it fails alone, too, in a fresh process.

Whose call a process died in is evidence against him, not proof: a thread, a timer or a process that another one left
may have struck then. Where the suspect is well alone, the others are tried alone. Each trial waits, before it is over,
for as long as the panel had taken: what strikes late has its time.

The run itself may be killed, by a contender as by a person or a machine that is out of memory. Nobody is left to ask
then; a run that is resumed reads in its journal what was measured each time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from opbench.engine.limits import Fault
from opbench.engine.messages import PanelMeasured
from opbench.schema import Case, Record

# What a trial waits at most.
LINGER_SECONDS = 20.0
# A run that was killed so often in one panel measures each of its cases alone before it measures them together.
KILLED_TOGETHER = 2
# Of so many kills that befell a case, one of them while it was alone, it is the cause.
KILLED = 3
# Where it was measured well on an earlier visit, it is the cause only if so many of them befell it alone: somebody else
# may kill a run again and again, and each time that it goes on it goes on with the same panel.
KILLED_ALONE_THOUGH_WELL = 8
# Nodes of a fleet go without anybody's fault, and more often than once: so many must have gone with it alone.
KILLED_ALONE_IN_A_FLEET = 20
# Measures a case alone, in a fresh process that then waits for so many seconds.
Trial = Callable[[Case, float], PanelMeasured | Fault]


def guilty(cases: Sequence[Case], fault: Fault, seconds: float, alone: Trial) -> tuple[Case, Fault] | None:
    """Which of the cases fails alone, and how; None where each is well by itself.

    `fault` is how all of them together ended, after `seconds`; nothing strikes late that has sent a result.
    """
    suspect = None if fault.contender is None else cases[fault.contender]
    others = [case for case in cases if case is not suspect]
    for case in [suspect, *others] if suspect else others:
        found = alone(case, 0.0 if fault.outcome == "incorrect" else min(seconds, LINGER_SECONDS))
        if isinstance(found, Fault):
            return case, found
    return None


def kills_the_run(
    case: Case, killed: Sequence[Sequence[str]], *, was_well: bool = False, preempted: bool = False
) -> Record | None:
    """The record of a case that kills the run, by what a worker had each time that it was killed; None of another.

    `preempted`: it is a node of a fleet that was lost each time, as nodes are without anybody's fault.
    """
    times = sum(case.id in cases for cases in killed)
    alone = sum(tuple(cases) == (case.id,) for cases in killed)
    needed = KILLED_ALONE_IN_A_FLEET if preempted else KILLED_ALONE_THOUGH_WELL if was_well else 1
    if times < KILLED or alone < needed:
        return None
    what = "its node was lost" if preempted else "the run itself was killed"
    message = f"{what} {times} times while this was measured, {alone} of them alone"
    return Record(case=case, outcome="crashed", message=message)


def to_be_tried_alone(cases: Sequence[Case], killed: Sequence[Sequence[str]]) -> Sequence[Case]:
    """The cases among which is one, perhaps, that kills the run: none before it was killed often enough."""
    return cases if len(killed) >= KILLED_TOGETHER and len(cases) > 1 else ()
