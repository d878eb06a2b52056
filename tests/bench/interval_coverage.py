"""Whether published intervals hold what the next run finds: a suite run many times, in one table.

    python tests/bench/interval_coverage.py --threads 1 --threads 2 -o results/xeon-2core/coverage -- --suite default

What stands after `--` goes to `opbench run`. A run that is in the folder already is not taken again, so that a stopped
benchmark goes on where it was. Of every row, the truth is the median of its figure over all runs with as many threads.

    held      intervals that hold it: by the promise at least 93 %
    missed    intervals whose nearer end lies more than 5 % from it: at most 1 %
    changed   rows that `compare` of any two of the runs calls regressed or improved: at most 1 %
    found     rows slowed down by 10 % in one of two runs, by changing its samples, that `compare` calls regressed: at
              least 90 %
    width     of the interval, as a share of the figure: half of it, in the median
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import statistics
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from opbench.analyse.compare.runs import compare
from opbench.analyse.standings import standings
from opbench.api import load_run
from opbench.errors import OpbenchError
from opbench.schema import Run

FAR = 0.05
PLANTED = 1.10
PLANTS = 200


def taken(folder: Path, runs: int, threads: int, options: Sequence[str]) -> list[Run]:
    """The runs with as many threads, one after another; those that are there already are read."""
    found = []
    for number in range(runs):
        place = folder / f"threads-{threads}" / f"run-{number:03d}"
        if not (place / "run.json").exists():
            asked = ["run", *options, "--threads", str(threads), "-o", str(place)]
            asked += ["--resume"] if (place / "journal.jsonl").exists() else []
            done = subprocess.run([sys.executable, "-m", "opbench", *asked], capture_output=True, text=True)
            if not (place / "run.json").exists():
                raise SystemExit(f"{' '.join(asked)} ended with {done.returncode}:\n{done.stderr}")
        found.append(load_run(place))
    return found


def intervals(run: Run) -> dict[str, tuple[float, float, float]]:
    """(low, value, high) of every ratio to a baseline, by case and method."""
    return {
        f"{row.case.id} {timing.method}": (timing.ratio.low, timing.ratio.value, timing.ratio.high)
        for standing in standings(run)
        for row in standing.rows
        if not row.is_baseline
        for timing in row.timings
        if timing.ratio
    }


def coverage(runs: Sequence[Run]) -> dict[str, float]:
    """Shares of all intervals of all runs, and their width."""
    by_row: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for run in runs:
        for name, found in intervals(run).items():
            by_row[name].append(found)
    held, missed, widths = [], [], []
    for rows in by_row.values():
        truth = statistics.median(value for _, value, _ in rows)
        for low, value, high in rows:
            held.append(low <= truth <= high)
            missed.append(low > truth * (1 + FAR) or high < truth * (1 - FAR))
            widths.append((high - low) / 2 / value)
    return {
        "intervals": len(held),
        "held": share(held),
        "missed": share(missed),
        "width": statistics.median(widths) if widths else math.nan,
    }


def outcomes(runs: Sequence[Run]) -> Counter[str]:
    """What became of the cases of all runs."""
    return Counter(record.outcome for run in runs for record in run.records)


def changed(runs: Sequence[Run]) -> dict[str, float]:
    """Rows that `compare` of any two runs calls changed, and pairs in which it calls any regressed."""
    words, bad = [], []
    for base, head in itertools.combinations(runs, 2):
        found = compared(base, head)
        words += [word in ("regressed", "improved") for word in found.values()]
        bad.append("regressed" in found.values())
    return {"compared": len(words), "changed": share(words), "pairs": len(bad), "red": share(bad)}


def compared(base: Run, head: Run) -> dict[str, str]:
    """The decision on every row's time."""
    try:
        found = compare(base, head)
    except OpbenchError:  # no case in common
        return {}
    return {row.case.id: row.times[0].decision for row in found.rows if row.times}


def found_plants(runs: Sequence[Run], plants: int) -> dict[str, float]:
    """Rows slowed down in the head of a random pair that `compare` calls regressed."""
    pairs = list(itertools.permutations(runs, 2))
    draw, words = random.Random(0), []
    for _ in range(plants if pairs else 0):
        base, head = draw.choice(pairs)
        baselines = {case.id for panel in head.panels for case in panel.cases if case.contender == panel.baseline}
        names = [r.case.id for r in head.records if r.outcome == "ok" and r.case.id not in baselines]
        if names:
            name = draw.choice(names)
            word = compared(base, slowed(head, name)).get(name)
            words += [word == "regressed"] if word else []
    return {"planted": len(words), "found": share(words)}


def slowed(run: Run, name: str) -> Run:
    """The run in which one case takes longer by the planted share."""

    def slower(samples: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
        return tuple(tuple(PLANTED * sample for sample in visit) for visit in samples)

    records = tuple(
        replace(
            record,
            latencies=tuple(replace(one, samples_seconds=slower(one.samples_seconds)) for one in record.latencies),
        )
        if record.case.id == name
        else record
        for record in run.records
    )
    return replace(run, records=records)


def share(words: Sequence[bool]) -> float:
    """Of so many that are true; NaN of none."""
    return sum(words) / len(words) if words else math.nan


def table(by_threads: Mapping[int, Mapping[str, float]]) -> str:
    """The table as Markdown, a row for each number of threads."""
    lines = [
        "| threads | runs | intervals | held | missed by 5 % | half width | rows compared | changed | pairs red "
        "| planted +10 % | found |",
        "| " + " | ".join(["---:"] * 11) + " |",
    ]
    for threads, one in by_threads.items():
        cells = (
            f"{threads}", f"{one['runs']}", f"{one['intervals']}", f"{one['held']:.1%}", f"{one['missed']:.1%}",
            f"{one['width']:.1%}", f"{one['compared']}", f"{one['changed']:.2%}", f"{one['red']:.1%}",
            f"{one['planted']}", f"{one['found']:.1%}",
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Takes the runs, prints the table and writes it with its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--threads", type=int, action="append")
    parser.add_argument("--plants", type=int, default=PLANTS)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("options", nargs="*", help="of opbench run, after --")
    asked = parser.parse_args()
    by_threads: dict[int, dict[str, float]] = {}
    tallies: dict[int, dict[str, int]] = {}
    for threads in asked.threads or [1]:
        runs = taken(asked.output, asked.runs, threads, asked.options)
        by_threads[threads] = {
            "runs": len(runs), **coverage(runs), **changed(runs), **found_plants(runs, asked.plants),
        }  # fmt: skip
        tallies[threads] = dict(outcomes(runs))
    text = f"`{' '.join(['python', *sys.argv])}`\n\n{table(by_threads)}\n\n" + "\n".join(
        f"Outcomes with {threads} thread{'' if threads == 1 else 's'}: "
        + ", ".join(f"{count} {outcome}" for outcome, count in tally.items())
        for threads, tally in tallies.items()
    )
    print(text)
    asked.output.mkdir(parents=True, exist_ok=True)
    (asked.output / "coverage.md").write_text(text + "\n", encoding="utf-8")
    figures = {"coverage": by_threads, "outcomes": tallies}
    (asked.output / "coverage.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
