"""What an earlier selfcheck has seen of the machine that a run begins on."""

from __future__ import annotations

from pathlib import Path

from opbench.analyse.compare.runs import MINIMUM_EFFECT
from opbench.documents.selfchecks import selfcheck_near
from opbench.engine.surveying import KnownMachine
from opbench.schema import Environment
from opbench.statistics.power import quote


def known_machine(folder: Path, environment: Environment) -> KnownMachine | None:
    """The selfcheck of the machine, from the run's folder or the two above; one that can't be read is none."""
    found = selfcheck_near((folder, *folder.absolute().parents[:2]), environment)
    return KnownMachine(found, quote(found, MINIMUM_EFFECT).sentence) if found else None
