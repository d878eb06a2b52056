"""Whether a document is of the schema that it names, and holds a record for all that was planned."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from opbench import registry
from opbench.analyse.history.store import moment
from opbench.build import seed_text
from opbench.contributed.nouns import CheckedPart, Said, Sign, Submission, UncheckedPart
from opbench.schema import Run

# Fields that schema 1 didn't have (see the history in `opbench.schema.recorded`).
SINCE_2: Mapping[str, frozenset[str]] = {
    "Run": frozenset({"probes", "nodes"}),
    "Environment": frozenset({"share"}),
    "Settings": frozenset({"operator_settings", "share_cpu"}),
    "Case": frozenset({"settings", "variant", "runtime", "memory_format", "across_runtimes"}),
    "Target": frozenset({"runtime", "across_runtimes"}),
    "Record": frozenset({"artifact"}),
    "Counts": frozenset({"traffic_bytes"}),
    "Latency": frozenset({"waited", "left_out", "phase"}),
    "Yardstick": frozenset({"fits_bytes"}),
}
# A contributor's clock may be set to another zone; it is not a day ahead.
SKEW = datetime.timedelta(days=1)
# Of fields that a schema doesn't have: the first few tell enough.
_TOLD = 5


def schema(given: Submission) -> Iterator[Said]:
    """The fields are those of the version that the document names, and no others."""
    raw = msgspec.json.decode(given.document)
    version = raw.get("schema_version", 0)
    unknown = list(_unknown({name: held for name, held in raw.items() if name != "kind"}, given.run, "$", version))
    for path in unknown[:_TOLD]:
        more = f" (and {len(unknown) - _TOLD} more)" if len(unknown) > _TOLD and path == unknown[_TOLD - 1] else ""
        yield Sign("schema", path, f"schema {version} has no such field{more}")
    known = registry.tasks()
    for at, record in enumerate(given.run.records):
        task = known.get(record.case.task)
        if task is not None and (foreign := set(record.case.dims) - {*task.dims, *task.defaults}):
            yield Sign(
                "schema",
                f"$.records[{at}].case.dims",
                f"{', '.join(sorted(foreign))}: no dimension of task {task.name}",
            )
    started = moment(given.run.started)
    if started is None:
        yield Sign("schema", "$.started", f"{given.run.started[:100]!r} is no moment")
    elif started > datetime.datetime.now(datetime.UTC) + SKEW:
        yield Sign("schema", "$.started", f"{given.run.started} has not come yet")
    yield CheckedPart("fields of the schema", 1)


def _unknown(raw: Any, noun: Any, path: str, version: int) -> Iterator[str]:
    """The paths of what is in a document and not in its noun, or not in that version's."""
    if isinstance(noun, msgspec.Struct) and isinstance(raw, dict):
        name = type(noun).__name__
        fields = set(noun.__struct_fields__) - (SINCE_2.get(name, frozenset()) if version < 2 else frozenset())
        for key, value in raw.items():
            if key not in fields:
                yield f"{path}.{key}"
            else:
                yield from _unknown(value, getattr(noun, key), f"{path}.{key}", version)
    elif isinstance(noun, tuple) and isinstance(raw, list) and noun and isinstance(noun[0], msgspec.Struct):
        for at, (value, held) in enumerate(zip(raw, noun, strict=False)):
            yield from _unknown(value, held, f"{path}[{at}]", version)


def whole(given: Submission) -> Iterator[Said]:
    """Every planned case has a record and every record was planned; each latency has a place for every visit."""
    run = given.run
    measured = {record.case.id for record in run.records}
    planned = {case.id for panel in run.panels for case in panel.cases}
    for case in (case for panel in run.panels for case in panel.cases if case.id not in measured):
        yield Sign("records", case.id, "planned, and without a record: a run records whatever becomes of a case")
    for record in run.records:
        if record.case.id not in planned:
            yield Sign("records", record.case.id, "recorded, and not planned in any panel")
        for latency in record.latencies:
            if len(latency.samples_seconds) != run.settings.replicas:
                yield Sign(
                    "records",
                    record.case.id,
                    f"{latency.method}: samples of {len(latency.samples_seconds)} processes, where the run visits each "
                    f"panel {run.settings.replicas} times",
                )
        if record.outcome == "ok" and not record.latencies:
            yield Sign("records", record.case.id, "the outcome is ok, and nothing was timed")
        if record.outcome != "ok" and record.latencies and record.outcome not in ("throttled", "disturbed"):
            yield Sign("records", record.case.id, f"timed, although the outcome is {record.outcome}")
    yield CheckedPart("a record for each planned case", len(planned))


def seeds(given: Submission) -> Iterator[Said]:
    """The seeds that the manifest names are those of the document's cases, and so is where it was taken."""
    if given.manifest is None:
        yield UncheckedPart("proof seeds", "no manifest beside the document; they are taken from the cases")
        return
    held = given.manifest.seeds
    for panel in given.run.panels:
        for case in panel.cases:
            if held.get(panel.id) != seed_text(case):
                yield Sign(
                    "seeds", case.id, f"drawn by {seed_text(case)!r}, where the manifest says {held.get(panel.id)!r}"
                )
    if given.manifest.environment != given.run.environment:
        yield Sign("seeds", "$.environment", "another environment than the manifest names")
    yield CheckedPart("proof seeds", len(held))


def contenders_of_files(run: Run) -> frozenset[str]:
    """Nothing is known here of operators that a run's own files declared."""
    known = {(one.task, one.name): one for one in registry.every_operator()}
    found = set()
    for record in run.records:
        operator = known.get((record.case.task, record.case.operator))
        if operator is None or record.case.implementation not in operator.implementations:
            found.add(record.case.id)
    return frozenset(found)
