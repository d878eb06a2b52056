"""Run documents of earlier versions, as today's nouns."""

from __future__ import annotations

import msgspec

from opbench.schema import Case, Run

# Schema 1 had CARAFE's own settings among the dimensions of every contender of its task.
_SETTINGS_OF_SCHEMA_1 = {
    "upsample2x": {"carafe": ("k_up", "k_enc", "c_mid", "g"), "yolo-carafe": ("k_up", "k_enc", "c_mid")}
}


def run_of_schema_1(run: Run) -> Run:
    """With operators' own settings where schema 2 has them. Ids stay: what a workload names isn't part of one."""
    panels = (msgspec.structs.replace(one, cases=tuple(map(_modern, one.cases))) for one in run.panels)
    records = (msgspec.structs.replace(one, case=_modern(one.case)) for one in run.records)
    return msgspec.structs.replace(run, panels=tuple(panels), records=tuple(records))


def _modern(case: Case) -> Case:
    owners = _SETTINGS_OF_SCHEMA_1.get(case.task)
    if owners is None:
        return case
    every = {name for names in owners.values() for name in names}
    dims = {name: value for name, value in case.dims.items() if name not in every}
    settings = {name: case.dims[name] for name in owners.get(case.operator, ()) if name in case.dims}
    return msgspec.structs.replace(case, dims=dims, settings=settings)
