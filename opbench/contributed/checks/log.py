"""Whether the log beside a run tells of the same machine, panels and times. A log is text, and is changed as easily.

It is the contributor's other account of the same hour: what was changed in one of them alone shows.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

from opbench.contributed.nouns import CheckedPart, Said, Sign, Submission, UncheckedPart
from opbench.engine.forgery import CLOCKS_DIFFER, SLACK_SECONDS
from opbench.engine.log import surroundings
from opbench.schema import Run

_PANEL = re.compile(
    r"panel (?P<id>\S+) \(process (?P<process>\d+)\)(?: on [^:]+)?: (?P<tally>.*); (?P<seconds>[\d.]+) s"
)
_OUTCOME = re.compile(r"(\d+) ([a-z-]+)")
_TOLD = 4


def log(given: Submission) -> Iterator[Said]:
    """The machine, its yardsticks, every panel with its outcomes, and that its samples fit into its seconds."""
    if given.log is None:
        yield UncheckedPart("log", "there is none beside the document")
        return
    lines = [line.partition(" ")[2] for line in given.log.splitlines()]
    told = set(lines)
    missing = [
        line for line in surroundings(given.run.environment, given.run.yardsticks) if " ".join(line.split()) not in told
    ]
    for line in missing[:_TOLD]:
        yield Sign("log", "run.log", f"the document gives `{line[:160]}`, and the log doesn't say so")
    seconds: dict[tuple[str, int], float] = {}
    tallies: dict[tuple[str, int], Counter[str]] = {}
    for line in lines:
        if found := _PANEL.fullmatch(line):
            key = found["id"], int(found["process"])
            seconds[key] = float(found["seconds"])
            tallies[key] = Counter({name: int(count) for count, name in _OUTCOME.findall(found["tally"])})
    yield from _panels(given.run, seconds, tallies)
    yield CheckedPart("visits that the log tells of", len(seconds))


def _panels(
    run: Run, seconds: dict[tuple[str, int], float], tallies: dict[tuple[str, int], Counter[str]]
) -> Iterator[Said]:
    spent: dict[tuple[str, int], float] = {}
    well: dict[tuple[str, int], int] = {}
    for record in run.records:
        for latency in record.latencies:
            for process, samples in enumerate(latency.samples_seconds, start=1):
                key = record.case.panel_id, process
                spent[key] = spent.get(key, 0.0) + latency.calls_per_sample * sum(filter(math.isfinite, samples))
        for process in {at for one in record.latencies for at, rows in enumerate(one.samples_seconds, start=1) if rows}:
            well[record.case.panel_id, process] = well.get((record.case.panel_id, process), 0) + 1
    for key, took in spent.items():
        where = f"{key[0]}, process {key[1]}"
        if key not in seconds:
            if took:
                yield Sign("log", where, "has samples, and the log tells of no such visit")
        elif took > CLOCKS_DIFFER * seconds[key] + SLACK_SECONDS:
            yield Sign("log", where, f"samples come to {took:.4g} s, and the log says that it took {seconds[key]:g} s")
        elif well.get(key, 0) > tallies[key]["ok"]:
            yield Sign("log", where, f"{well[key]} cases have samples, and the log says {tallies[key]['ok']} ok")
    if (total := sum(seconds.values())) > CLOCKS_DIFFER * run.wall_seconds + SLACK_SECONDS:
        yield Sign("log", "$.wall_seconds", f"{run.wall_seconds:.4g} s, and the log's panels took {total:.4g} s")
