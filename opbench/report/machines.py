"""Several runs beside each other: machines.md and machines.html.

Seconds of two machines can't be compared: a faster machine is faster at everything. So each latency is given as a
multiple of what that very machine needs at least (its own copy rate and matrix product, measured in the same run), and
as the ratio to the baseline on that machine; seconds stand beside them, never alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from opbench.analyse.standings import Row, Standing, standings
from opbench.documents import replace_file
from opbench.report import evidence, limits, numbers, tables
from opbench.report.escape import code, prose
from opbench.report.page import page
from opbench.report.table import Table
from opbench.schema import Run
from opbench.statistics.roofline import TOO_LOW, over_least_time, roofline

REPORT, PAGE = "machines.md", "machines.html"
NOTE = (
    "Times least: the latency over the least time that this machine's own yardsticks allow (the slower of moving the "
    "least bytes at its copy rate and multiplying the MACs at its matrix product's rate); in brackets the ends of both "
    "intervals together. Near 1x nothing is left to gain on that machine; below 1x the data stayed in a cache. "
    "Vs baseline: the ratio to the panel's baseline on that machine, with its 95 % interval."
)
# What names a run rather than the machine it was taken on.
_OF_THE_RUN = frozenset({"started", "wall time", "asked precision", "budget", "visits", "seed"})


# A panel's id and its dimensions: two suites may call different sizes by one name.
Identity = tuple[str, tuple[tuple[str, int], ...]]


class MachineColumn(msgspec.Struct, frozen=True):
    """One run and its panels by what makes them the same work."""

    label: str
    run: Run
    panels: Mapping[Identity, Standing]


def write(runs: Sequence[Run], folder: str | os.PathLike[str]) -> Path:
    """Writes both files into `folder`; the path of machines.md, written last."""
    text = markdown(runs)
    replace_file(Path(folder) / PAGE, page(text, {}))
    replace_file(Path(folder) / REPORT, text.encode())
    return Path(folder) / REPORT


def markdown(runs: Sequence[Run]) -> str:
    """The comparison of two runs or more as Markdown; the same runs give the same text."""
    sides = [
        MachineColumn(f"run {number}", run, {_identity(standing): standing for standing in standings(run)})
        for number, run in enumerate(runs, start=1)
    ]
    return "\n\n".join(_blocks(sides)) + "\n"


def _blocks(sides: Sequence[MachineColumn]) -> Iterator[str]:
    yield f"# {len(sides)} runs side by side"
    yield _machines(sides).markdown()
    yield "## What differs"
    differing = _differences(sides)
    yield differing.markdown() if differing.rows else "Nothing that a run records of its machine."
    yield "## Yardsticks"
    yield _yardsticks(sides).markdown()
    yield "## Every panel"
    shared = _shared(sides)
    yield prose(NOTE) if shared else "No panel is in more than one of these runs."
    for identity, having in shared.items():
        dims = " ".join(f"{name}={size}" for name, size in identity[1])
        yield f"### {code(identity[0])}"
        yield prose(dims)
        yield _panel(identity, having).markdown()
    yield from _alone(sides, shared)


def _machines(sides: Sequence[MachineColumn]) -> Table:
    rows = []
    for side in sides:
        where = side.run.environment
        rows.append(
            (
                side.label,
                where.machine,
                where.gpu or where.cpu,
                numbers.exactly(where.threads),
                where.versions.get("torch", "unknown"),
                (where.commit or "unknown")[:12] + (" (dirty)" if where.dirty else ""),
                side.run.settings.suite,
                side.run.started,
                evidence.tally(tuple(side.panels.values()), side.run),
            )
        )
    header = ("", "machine", "processor", "threads", "torch", "commit", "suite", "started", "cases")
    return Table(header, tuple(rows), names=())


def _differences(sides: Sequence[MachineColumn]) -> Table:
    """Every detail of the environment that is not the same in all runs."""
    found = [{row[0]: row[1] for row in evidence.environment(side.run).rows} for side in sides]
    names = dict.fromkeys(name for details in found for name in details if name not in _OF_THE_RUN)
    rows = tuple(
        (name, *(details.get(name, "not recorded") for details in found))
        for name in names
        if len({details.get(name) for details in found}) > 1
    )
    return Table(("what", *(side.label for side in sides)), rows, names=())


def _yardsticks(sides: Sequence[MachineColumn]) -> Table:
    found = [{row[:3]: row[3] for row in limits.yardsticks(side.run).rows} for side in sides]
    names = dict.fromkeys(name for rates in found for name in rates)
    rows = tuple((" ".join(name), *(rates.get(name, numbers.NOT_MEASURED) for rates in found)) for name in names)
    return Table(("yardstick", *(side.label for side in sides)), rows, names=())


def _shared(sides: Sequence[MachineColumn]) -> dict[Identity, list[MachineColumn]]:
    """The panels that more than one run has, in the order they first appear."""
    every = dict.fromkeys(identity for side in sides for identity in side.panels)
    having = {identity: [side for side in sides if identity in side.panels] for identity in every}
    return {identity: found for identity, found in having.items() if len(found) > 1}


def _identity(standing: Standing) -> Identity:
    return standing.panel.id, tuple(sorted(standing.case.dims.items()))


def _panel(identity: Identity, sides: Sequence[MachineColumn]) -> Table:
    """A row for each contender; for each run its multiple of the least time, its ratio, and the median."""
    contenders = dict.fromkeys(
        row.case.contender for side in sides for row in side.panels[identity].ranked()
    )  # in the order of the first run
    header = ("contender", *(f"{side.label}: {what}" for what in ("times least", "vs baseline") for side in sides))
    rows = []
    for contender in contenders:
        cells = [(side, side.panels[identity], side.panels[identity].row(contender)) for side in sides]
        rows.append(
            (
                contender,
                *(_multiple(side.run, standing, row) for side, standing, row in cells),
                *(
                    tables.latency_ratio(row, standing.methods[0] if standing.methods else "")
                    for _, standing, row in cells
                ),
            )
        )
    return Table(header, tuple(rows))


def _multiple(run: Run, standing: Standing, row: Row | None) -> str:
    """`3.19x [2.09, 14.2] (1.04 ms)`, or why there is no such figure."""
    if row is None:
        return tables.median(row, "")
    if row.outcome != "ok":
        return row.outcome
    counts = row.record.counts if row.record else None
    found = over_least_time(roofline(run.yardsticks, row.case, counts), standing.sampled(row))
    seconds = tables.median(row, standing.methods[0] if standing.methods else "")
    if isinstance(found, str):
        return found
    value, low, high = (numbers.plain(one) for one in found)
    too_low = f", {TOO_LOW}" if found[0] < 1 else ""
    return f"{value}x [{low}, {high}] ({seconds}){too_low}"


def _alone(sides: Sequence[MachineColumn], shared: Iterable[Identity]) -> Iterator[str]:
    """What one run has and no other, counted, so that nobody takes the tables for all of it."""
    compared = set(shared)
    for side in sides:
        count = len(set(side.panels) - compared)
        if count:
            yield f"Only in {side.label}, so not compared: {count} {'panel' if count == 1 else 'panels'}."
