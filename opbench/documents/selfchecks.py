"""Which selfcheck a run is judged by: the one that was given, or one of its machine that lies near it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from opbench.documents import KINDS, contains, read
from opbench.errors import OpbenchError
from opbench.schema import Environment, Selfcheck


def find_selfcheck(given: Path | None, near: Collection[Path], environment: Environment) -> Selfcheck | None:
    """The one given, or the first in the folders `near` that was taken on the machine of `environment`."""
    if given is not None:
        found = read(given, Selfcheck)
        if _machine(found.environment) != _machine(environment):
            raise OpbenchError(
                f"{given} was taken on another machine ({found.environment.cpu}, {found.environment.cores} cores) than "
                f"the run ({environment.cpu}, {environment.cores} cores); give the selfcheck of that machine or none"
            )
        return found
    for folder in near:
        if contains(folder, KINDS["selfcheck"]):
            found = read(folder, Selfcheck)
            if _machine(found.environment) == _machine(environment):
                return found
    return None


def _machine(environment: Environment) -> tuple[str, str, int, str | None]:
    return (environment.machine, environment.cpu, environment.cores, environment.gpu)
