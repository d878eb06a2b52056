"""The studies there are, by name."""

from __future__ import annotations

from collections.abc import Mapping

from opbench.registry import nearest
from opbench.schema import OpbenchError
from opbench.study import detecting, upsampling
from opbench.study.declared import Study

STUDIES: Mapping[str, Study] = {study.name: study for study in (upsampling.STUDY, detecting.STUDY)}


def study_named(name: str) -> Study:
    """A study by name; an unknown one lists the known."""
    if name not in STUDIES:
        raise OpbenchError(nearest("study", name, STUDIES))
    return STUDIES[name]
