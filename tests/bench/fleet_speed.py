"""Runs over a local Ray cluster: how much faster two workers are, and whether they find what one machine finds.

    python tests/bench/fleet_speed.py -o results/xeon-2core/fleet

Panels of known sleep, by one worker and by two in turns: their panels per minute, from the first worker's survey on.
And the smoke suite's panel of CARAFE cores, measured by `opbench run` with and without `--executor ray` in turns. Two
runs agree on a ratio where its intervals overlap; what stands beside how often a fleet's and a local run agree is how
often two local ones do.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("", "engine", "fleet")]

from kept_rows import keep
from local_clusters import local_cluster
from ray_processes import fleet, toy_crews
from toy_plan import toy_plan, toy_settings

from opbench.analyse.standings import standings
from opbench.documents import read
from opbench.engine.environment import cpu_name
from opbench.engine.run import execute
from opbench.schema import Run

PANELS = 24
ASKED = ("--suite", "smoke", "--task", "carafe_core", "--mode", "inference", "--budget", "3", "--threads", "1")

Pair = tuple[dict[str, object], dict[str, object]]


def sleeping(address: str, workers: int, folder: Path) -> dict[str, object]:
    """How long so many workers take for panels that sleep."""
    began: list[float] = []  # when a node takes part: what comes before is the start of a cluster's processes
    with toy_crews(address) as made:
        crew, _ = made()
        executor = fleet(crew, workers, log=lambda line: began.append(time.monotonic()))
        plan, settings = toy_plan(PANELS, ("slow",)), toy_settings(replicas=1)
        execute(
            plan, settings, folder, command="toy", progress=lambda done, panel: None, executor=executor,
            finish=lambda run: None,
        )  # fmt: skip
        seconds = time.monotonic() - began[0]
    return {"what": "sleep", "workers": workers, "panels": PANELS, "seconds": seconds}


def measured(number: int, address: str | None, folder: Path) -> Iterator[dict[str, object]]:
    """The ratios that a real run finds, here or on the cluster, with their intervals."""
    more = ["--executor", "ray", "--address", address] if address else []
    command = [sys.executable, "-m", "opbench", "run", *ASKED, *more, "-o", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 2):  # 2: others had the cores all the time
        raise RuntimeError(done.stdout + done.stderr)
    for standing in standings(read(folder / "run.json", Run)):
        for row in standing.rows:
            for timing in row.timings:
                if timing.ratio and not row.is_baseline:
                    yield {
                        "what": "ratio", "executor": "ray" if address else "local", "run": number,
                        "contender": row.case.contender, "ratio": timing.ratio.value, "low": timing.ratio.low,
                        "high": timing.ratio.high,
                    }  # fmt: skip


def agreement(rows: Sequence[dict[str, object]], one: str, other: str) -> tuple[int, int]:
    """In how many pairs of runs, one of each executor, a ratio's intervals overlap; and of how many."""
    ratios = [row for row in rows if row["what"] == "ratio"]
    pairs: list[Pair] = [
        (a, b)
        for a, b in itertools.product(ratios, repeat=2)
        if (a["executor"], b["executor"], a["contender"]) == (one, other, b["contender"])
        and (one != other or a["run"] < b["run"])
    ]
    return sum(a["low"] <= b["high"] and b["low"] <= a["high"] for a, b in pairs), len(pairs)


def page(rows: Sequence[dict[str, object]]) -> str:
    """The tables as Markdown, with the command and the machine."""
    slept = {
        workers: [row["seconds"] for row in rows if row["what"] == "sleep" and row["workers"] == workers]
        for workers in (1, 2)
    }
    gains = [one / two for one, two in zip(slept[1], slept[2], strict=True)]
    lines = [
        "# A local Ray cluster of two workers",
        "",
        __doc__.partition("\n\n")[2].partition("\n\n")[2].strip(),
        "",
        "`python tests/bench/fleet_speed.py -o results/xeon-2core/fleet`",
        "",
        f"{cpu_name()}, Python {platform.python_version()}.",
        "",
        "| workers | panels per minute, each time |",
        "| --- | --- |",
        *(
            f"| {workers} | {', '.join(f'{60 * PANELS / seconds:.1f}' for seconds in found)} |"
            for workers, found in slept.items()
        ),
        "",
        f"Two workers do {statistics.median(gains):.2f} times the panels of one "
        f"({min(gains):.2f} to {max(gains):.2f}); at least 1.8 are asked.",
        "",
        "| runs compared | ratios whose intervals overlap |",
        "| --- | --- |",
    ]
    for one, other in (("ray", "local"), ("local", "local"), ("ray", "ray")):
        alike, of = agreement(rows, one, other)
        share = f" ({alike / of:.0%})" if of else ""  # one run alone makes no pair
        lines.append(f"| {one} with {other} | {alike} of {of}{share} |")
    lines += ["", "| contender | median ratio over Ray | median ratio of local runs |", "| --- | --- | --- |"]
    for contender in dict.fromkeys(row["contender"] for row in rows if row["what"] == "ratio"):
        medians = [
            statistics.median(
                row["ratio"] for row in rows if row.get("executor") == executor and row["contender"] == contender
            )
            for executor in ("ray", "local")
        ]
        lines.append(f"| {contender} | {medians[0]:.4f}x | {medians[1]:.4f}x |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-o", dest="output", type=Path, help="folder for fleet.md and fleet.jsonl.gz")
    parser.add_argument("--times", type=int, default=3, help="how often one worker and two take turns [3]")
    parser.add_argument("--runs", type=int, default=6, help="how many real runs each executor makes [6]")
    asked = parser.parse_args()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as scratch, local_cluster({}, {}) as address:
        for turn, workers in itertools.product(range(asked.times), (1, 2)):
            rows.append(sleeping(address, workers, Path(scratch) / f"{turn}-{workers}"))
            print(json.dumps(rows[-1]), flush=True)
        for run, where in itertools.product(range(asked.runs), (address, None)):
            for row in measured(run, where, Path(scratch) / f"{run}-{'ray' if where else 'local'}"):
                rows.append(row)
                print(json.dumps(row), flush=True)
    print(page(rows))
    if asked.output:
        keep(asked.output, "fleet", page(rows), rows, sort_keys=True)


if __name__ == "__main__":
    main()
