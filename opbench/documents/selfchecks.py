"""The selfcheck that a run is judged by: the one that was given, where it is of the run's machine."""

from __future__ import annotations

from pathlib import Path

from opbench.documents import read
from opbench.errors import OpbenchError
from opbench.schema import Environment, Selfcheck


def selfcheck_of(given: Path | None, environment: Environment) -> Selfcheck | None:
    """The selfcheck at `given`; None where none was. One that merely lies near a run is nobody's choice, and not taken.

    Raises `OpbenchError` where it was taken on another machine than that of `environment`.
    """
    if given is None:
        return None
    found = read(given, Selfcheck)
    if _machine(found.environment) != _machine(environment):
        raise OpbenchError(
            f"{given} was taken on another machine ({found.environment.cpu}, {found.environment.cores} cores) than "
            f"the run ({environment.cpu}, {environment.cores} cores); give the selfcheck of that machine or none"
        )
    return found


def _machine(environment: Environment) -> tuple[str, str, int, str | None]:
    return (environment.machine, environment.cpu, environment.cores, environment.gpu)
