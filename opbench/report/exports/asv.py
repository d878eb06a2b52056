"""A folder for airspeed velocity (asv): results and benchmarks of version 2, and a configuration to start from.

    asv.conf.json                        `repo` is to name the checkout whose commits were measured
    results/benchmarks.json              what was measured: a benchmark is a panel's latency, ratio, memory, ...
    results/MACHINE/machine.json
    results/MACHINE/COMMIT8-ENV.json     figures: of a benchmark, one for each contender (its parameter)

A failed contender is null and so is a skipped one: asv draws neither, and its NaN for what was skipped is no JSON. A
benchmark's `version` is a hash of the panel's definition, so that asv doesn't join figures of different dimensions
under one name.

Source: https://asv.readthedocs.io/en/stable/dev.html
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from opbench.analyse.history.digest import machine_key
from opbench.analyse.history.store import moment
from opbench.analyse.standings import Row, Standing
from opbench.quantities import RATIO, SECONDS, Quantity, exact, published
from opbench.report.escape import visible
from opbench.report.exports.rows import ExportedRun, finite
from opbench.schema import OpbenchError, Run

BENCHMARKS = "results/benchmarks.json"
VERSION = 2
MACHINE_VERSION = 1
CONFIGURATION_VERSION = 1
SKIPPED = None
_RESULT_COLUMNS = ("result", "params", "version", "started_at", "duration", "stats_q_25", "stats_q_75")

Document = dict[str, Any]
Figure = tuple[float, float | None, float | None]  # value, quartiles


def asv(runs: Sequence[ExportedRun], folder: Path) -> Mapping[str, bytes]:
    """The files by their paths in `folder`; benchmarks that are described there already stay so."""
    files: dict[str, bytes] = {}
    described = _known(folder / BENCHMARKS)
    for found in runs:
        run = found.run
        machine, commit = machine_key(run.environment), _commit(run)
        results = {}
        for name, entry, result in _benchmarks(found):
            described[name] = _described_with(described.get(name), entry)
            results[name] = result
        place = f"results/{machine}"
        files[f"{place}/machine.json"] = _json({**_machine(run), "version": MACHINE_VERSION})
        path = f"{place}/{commit[:8]}-{_environment_name(run)}.json"
        if path in files:
            raise OpbenchError(
                f"two runs of commit {commit[:8]} on {machine}: asv holds one result a commit, machine and environment"
            )
        files[path] = _json(_results(run, commit, results))
    files[BENCHMARKS] = _json({**dict(sorted(described.items())), "version": VERSION})
    if not (folder / "asv.conf.json").exists():
        files["asv.conf.json"] = _json(_CONFIGURATION)
    return files


_CONFIGURATION = {
    "version": CONFIGURATION_VERSION,
    "project": "opbench",
    "repo": ".",
    "branches": ["HEAD"],
    "environment_type": "existing",
    "results_dir": "results",
    "html_dir": "html",
}


def _benchmarks(found: ExportedRun) -> Iterator[tuple[str, Document, list[object]]]:
    """(name, its description, its row of results) for every panel and quantity that any contender has."""
    began = moment(found.run.started)
    started = int(began.timestamp() * 1000) if began else None
    standing_of = {one.standing.panel.id: one.standing for one in found.cases}
    for standing in standing_of.values():
        rows = [row for row in standing.rows if found.selection.takes(row.case.id)]
        skipped = _skipped(found, standing)
        contenders = [*(visible(row.case.contender) for row in rows), *skipped]
        times, counts = published("asv", "time"), exact("asv")
        wanted = [(of, name, method) for method in standing.methods for of, name in times]
        for of, told, method in (*wanted, *((of, name, "") for of, name in counts)):
            figures = [_figure(of, row, method) for row in rows]
            if all(figure is None for figure in figures):
                continue
            values = [figure[0] if figure else None for figure in figures]
            quartiles = [
                [*(figure[side] if figure else None for figure in figures), *([None] * len(skipped))] for side in (1, 2)
            ]
            if all(low is None for low in quartiles[0]):
                quartiles = []  # a row ends where nothing more is known
            name = _name(standing, told, method)
            version = _version(standing, of)
            entry = {
                "code": "",
                "name": name,
                "param_names": ["contender"],
                "params": [[repr(contender) for contender in contenders]],
                "timeout": 60.0,
                "type": of.name("asv type"),
                "unit": of.unit,
                "version": version,
            }
            result: list[object] = [
                [*values, *([SKIPPED] * len(skipped))], entry["params"], version, started, None, *quartiles,
            ]  # fmt: skip
            yield name, entry, result


def _figure(of: Quantity, row: Row, method: str) -> Figure | None:
    """None for every case that did not end `ok`: null says "failed" to asv. Ends, where asv knows any: of seconds."""
    if row.outcome != "ok":
        return None
    if not of.timed:
        value = of.of(row.record)
        return None if value is None else (value, None, None)
    found = of.of_timing(row.timing(method))
    if found is None or not finite(found[0]):
        return None
    return found if of is SECONDS else (found[0], None, None)


def _skipped(run: ExportedRun, standing: Standing) -> list[str]:
    """Contenders of the panel that were planned away."""
    start = f"{standing.panel.id}/"
    present = {row.case.contender for row in standing.rows}
    found = (one.case.removeprefix(start) for one in run.skipped if one.case.startswith(start))
    return list(dict.fromkeys(visible(name) for name in found if name not in present))


def _described_with(known: object, entry: Document) -> Document:
    """The description, with the contenders that another run of the same benchmark has beside."""
    if isinstance(known, dict) and known.get("version") == entry["version"] and _lists(known.get("params")):
        return {**entry, "params": [list(dict.fromkeys([*known["params"][0], *entry["params"][0]]))]}
    return entry


def _lists(params: object) -> bool:
    return isinstance(params, list) and len(params) == 1 and isinstance(params[0], list)


def _known(path: Path) -> Document:
    """The benchmarks that the folder describes already."""
    if not path.exists():
        return {}
    try:
        held = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise OpbenchError(f"{path}: can't be read as asv's benchmarks: {error}") from None
    if not isinstance(held, dict) or held.get("version") != VERSION:
        raise OpbenchError(f"{path}: expected asv's benchmarks of version {VERSION}; give another folder")
    return {name: entry for name, entry in held.items() if name != "version"}


def _results(run: Run, commit: str, results: Mapping[str, list[object]]) -> Document:
    where = run.environment
    began = moment(run.started)
    return {
        "commit_hash": commit,
        "env_name": _environment_name(run),
        "date": int(began.timestamp() * 1000) if began else 0,
        "params": {**_machine(run), "python": visible(where.python), "torch": visible(where.versions.get("torch", ""))},
        "python": visible(where.python),
        "requirements": {},
        "env_vars": {},
        "result_columns": list(_RESULT_COLUMNS),
        "results": results,
        "durations": {},
        "version": VERSION,
    }


def _machine(run: Run) -> dict[str, str]:
    where = run.environment
    return {
        "arch": visible(where.machine),
        "cpu": visible(where.cpu),
        "machine": machine_key(where),
        "num_cpu": str(where.cores),
        "os": visible(where.platform),
        "ram": str(where.memory_bytes),
    }


def _environment_name(run: Run) -> str:
    where = run.environment
    name = f"python{where.python}-torch{where.versions.get('torch', 'unknown')}-{run.settings.suite}"
    return _safe(name)


def _commit(run: Run) -> str:
    commit = run.environment.commit
    if commit is None or not re.fullmatch("[0-9a-f]{8,64}", commit):
        got = "none" if commit is None else repr(visible(commit, 60))
        raise OpbenchError(f"asv files results by commit, and the run recorded {got} (expected a git hash)")
    return commit


def _name(standing: Standing, quantity: str, method: str) -> str:
    parts = [standing.panel.id.replace("/", "."), quantity, *([method.replace("-", "_")] if method else [])]
    return ".".join(_safe(part) for part in parts)


def _version(standing: Standing, of: Quantity) -> str:
    case = standing.case
    told = [
        case.panel_id,
        sorted(standing.panel.sizes.items()),
        standing.panel.baseline if of is RATIO else "",
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _safe(text: str) -> str:
    """Fit for a file's name, as asv's site makes one of it; what had to be replaced is told apart by a hash."""
    kept = re.sub(r"[^A-Za-z0-9_.=+-]+", "-", text)[:120].lstrip(".-") or "unnamed"
    if kept == text:
        return kept
    return f"{kept}-{hashlib.sha256(text.encode('utf-8', 'backslashreplace')).hexdigest()[:8]}"


def _json(value: Document) -> bytes:
    """JSON that every parser reads: a float that is none would be an error here."""
    return (json.dumps(value, indent=1, ensure_ascii=True, allow_nan=False) + "\n").encode()
