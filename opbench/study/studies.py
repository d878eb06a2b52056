"""The studies there are, by name."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping

import torch

from opbench import registry
from opbench.errors import nearest
from opbench.schema import OpbenchError, Operator
from opbench.study import detecting, downsampling, upsampling
from opbench.study.declared import Entrant, Study

STUDIES: Mapping[str, Study] = {study.name: study for study in (upsampling.STUDY, detecting.STUDY, downsampling.STUDY)}


def joined(study: Study) -> Study:
    """With the operators of its task that it neither names nor leaves out: a new one takes part."""
    known = {entrant.operator for entrant in study.entrants} | set(study.left_out)
    new = [operator for name, operator in registry.operators(study.task).items() if name not in known]
    entrants = []
    for operator in new:
        if reason := _unfit(study, operator):
            print(f"opbench: {study.name}: {operator.name} takes no part: {reason}", file=sys.stderr)
            continue
        order = [name for name in operator.preferred if name in operator.implementations]
        here = [name for name in order or operator.implementations if "cpu" in operator.implementations[name].devices]
        entrants.append(Entrant(operator.name, operator.name, tuple(here), {}))
    return dataclasses.replace(study, entrants=(*study.entrants, *entrants))


def _unfit(study: Study, operator: Operator) -> str:
    """Why an operator that joins can't fill the slot, in words: tried, for one that fails would end the whole study."""
    dims = operator.given({"N": 1, **study.slot_dims})
    try:
        reason = operator.requires(dims)
        if reason is None:
            module = operator.module(dims, next(iter(operator.implementations.values())))
            module(torch.zeros(1, dims["C"], dims["H"], dims["W"]))
        return reason or ""
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def study_named(name: str) -> Study:
    """A study by name; an unknown one lists the known."""
    if name not in STUDIES:
        raise OpbenchError(nearest("study", name, STUDIES))
    return joined(STUDIES[name])
