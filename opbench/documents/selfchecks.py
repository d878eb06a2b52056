"""Selfchecks of a run's machine: the one that was given to judge by, and one near it that tells the machine's best."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path

from opbench.documents import read
from opbench.errors import OpbenchError
from opbench.schema import Environment, Selfcheck, shares_differ


def selfcheck_of(given: Path | None, environment: Environment) -> Selfcheck | None:
    """The selfcheck at `given`; None where none was. One that merely lies near a run is nobody's choice, and not taken.

    Raises `OpbenchError` where it was taken on another machine than that of `environment`.
    """
    if given is None:
        return None
    found = read(given, Selfcheck)
    if shares := tuple(shares_differ(found.environment.share, environment.share)):
        raise OpbenchError(
            f"{given} was taken with another share of its machine than the run ({', '.join(shares)}); give a "
            "selfcheck taken as the run was, or none"
        )
    if _machine(found.environment) != _machine(environment):
        raise OpbenchError(
            f"{given} was taken on another machine ({found.environment.cpu}, {found.environment.cores} cores) than "
            f"the run ({environment.cpu}, {environment.cores} cores); give the selfcheck of that machine or none"
        )
    return found


def selfcheck_near(folders: Collection[Path], environment: Environment) -> Selfcheck | None:
    """The first in `folders` that was taken on the machine of `environment`; one that can't be read is none.

    It tells a run that begins how fast the machine has been. Nothing is judged by it.
    """
    for folder in folders:
        with contextlib.suppress(OpbenchError):
            found = read(folder, Selfcheck)
            shares = tuple(shares_differ(found.environment.share, environment.share))
            if _machine(found.environment) == _machine(environment) and not shares:
                return found
    return None


def _machine(environment: Environment) -> tuple[str, str, int, str | None]:
    return (environment.machine, environment.cpu, environment.cores, environment.gpu)
