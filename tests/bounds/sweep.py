"""Tries the error bounds on right implementations, seed after seed, and writes a table of the margins.

    python tests/bounds/sweep.py --part operators --seeds 200 -o results/xeon-2core/bounds

A margin is the largest |error| / bound of a case. Seeds take turns at the routes (oneDNN on and off, instruction sets),
and at dtype and mode. `caught` is the share of planted errors that the bound convicts: with r the largest margin of a
subject in one dtype and mode, 8 r times its bound added to one random element. Cases are left out (`overflowing`) in
which the definition's own intermediates are beyond the dtype's largest number.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import itertools
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from cases import PARTS, ROUTES, Subject, routes
from kept_rows import keep

# Elements of each case at which an error is planted.
PLANTED = 4


def measure(subject: Subject, seed: int, turn: int, route: str) -> list[dict[str, object]]:
    """The margins of every implementation of one subject at one seed, and the errors that planted ones add to."""
    import torch

    from opbench.build import build
    from opbench.verify.bounds import allowed
    from opbench.verify.gate import call, reference

    rows, held = [], None
    for case in subject.cases(seed, turn):
        built = build(case)
        held = held or reference(built)
        got = call(built)
        verdict = held.judge(got)
        generator = torch.Generator().manual_seed(seed)
        draws = []
        names = sorted(held.expected)
        for _ in range(PLANTED):
            name = names[int(torch.randint(len(names), (), generator=generator))]
            at = int(torch.randint(held.expected[name].numel(), (), generator=generator))
            bound = allowed(held.terms[name], case.dtype).expand_as(held.expected[name]).flatten()[at]
            error = got[name].double().flatten()[at] - held.expected[name].flatten()[at]
            draws.append(float(error / bound) if bound else 0.0)
        rows.append(
            {
                "subject": subject.name, "contender": case.contender, "dtype": case.dtype, "mode": case.mode,
                "seed": seed, "route": route, "margin": verdict.worst_ratio, "correct": verdict.correct,
                "tensor": verdict.worst.tensor if verdict.worst else "", "basis": verdict.basis, "draws": draws,
            }
        )  # fmt: skip
    return rows


def work(part: str, route_name: str, seeds: range, share: int, of: int, only: list[str]) -> None:
    """One process: every `of`-th subject, at the seeds whose turn it is on this route; a JSON line a case."""
    import torch

    from opbench import registry

    route = next(one for one in ROUTES if one.name == route_name)
    torch.set_num_threads(route.threads)
    torch.backends.mkldnn.set_flags(route.onednn)
    registry.load()
    names = [one.name for one in routes()]
    for subject in [one for one in PARTS[part] if not only or one.name in only][share::of]:
        for seed in seeds:
            if names[seed % len(names)] == route.name:
                for row in measure(subject, seed, seed // len(names), route.name):
                    print(json.dumps(row), flush=True)


def sweep(part: str, seeds: int, processes: int, first: int = 0, only: Sequence[str] = ()) -> list[dict[str, object]]:
    """All routes, each in processes of its own."""
    jobs = [(route, share) for route in routes() for share in range(processes)]

    def run(job: tuple[object, int]) -> list[dict[str, object]]:
        route, share = job
        command = [sys.executable, __file__, "--part", part, "--seeds", str(seeds), "--first", str(first)]
        command += ["--worker", route.name, "--share", str(share), "--of", str(processes)]
        command += [word for name in only for word in ("--only", name)]
        print(route.name, share, file=sys.stderr, flush=True)
        done = subprocess.run(
            command, env={**os.environ, **route.environment}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{route.name}: {done.stderr[-2000:]}")
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    with concurrent.futures.ThreadPoolExecutor(processes) as pool:
        return list(itertools.chain.from_iterable(pool.map(run, jobs)))


@dataclasses.dataclass(frozen=True)
class Summary:
    """One subject: its cases and convictions, the worst margin, the least r of a dtype and mode, what is caught."""

    subject: str
    cases: int
    convicted: int
    measured: int
    overflowing: int
    worst: float
    where: str
    least: float
    least_where: str
    caught: float


def summarise(rows: list[dict[str, object]]) -> list[Summary]:
    """By subject, in the order of the rows' first appearance."""
    subjects = defaultdict(list)
    for row in rows:
        subjects[row["subject"]].append(row)
    return [_summary(name, held) for name, held in subjects.items()]


def _summary(name: str, rows: list[dict[str, object]]) -> Summary:
    # Where the definition itself exceeds the dtype there is no right implementation to acquit.
    every, rows = rows, [row for row in rows if "overflows the dtype" not in row["basis"]]
    groups = defaultdict(list)
    for row in rows:
        groups[row["dtype"], row["mode"]].append(row)
    largest, caught = [], []
    for group, held in groups.items():
        r = max(row["margin"] for row in held)
        alike = group[0] == "float64" and held[0]["subject"].startswith("yolov8_model/")
        if r and not alike:
            largest.append((r, " ".join(group)))
            draws = [draw for row in held for draw in row["draws"]]
            caught += [abs(draw + (8 * r if index % 2 else -8 * r)) > 1 for index, draw in enumerate(draws)]
    worst = max(rows, key=lambda row: row["margin"])
    where = f"{worst['contender']} {worst['tensor']}, {worst['dtype']} {worst['mode']}, {worst['route']}"
    return Summary(
        subject=name,
        cases=len(every),
        convicted=sum(not row["correct"] for row in rows),
        measured=sum(bool(row["basis"]) for row in rows),
        overflowing=len(every) - len(rows),
        worst=worst["margin"],
        where=where,
        least=min(largest, default=(0.0, ""))[0],
        least_where=min(largest, default=(0.0, ""))[1],
        caught=sum(caught) / len(caught) if caught else 1.0,
    )


COLUMNS = {
    "subject": lambda one: one.subject,
    "cases": lambda one: str(one.cases),
    "convicted": lambda one: str(one.convicted),
    "bound measured": lambda one: str(one.measured),
    "overflowing": lambda one: str(one.overflowing),
    "worst margin": lambda one: f"{one.worst:.3f}",
    "where": lambda one: one.where,
    "least r": lambda one: f"{one.least:.3f}",
    "of": lambda one: one.least_where,
    "planted errors caught": lambda one: f"{one.caught:.1%}",
}


def table(summaries: list[Summary]) -> str:
    """The table as Markdown."""
    rows = [list(COLUMNS), ["---"] * len(COLUMNS)]
    rows += [[column(one) for column in COLUMNS.values()] for one in summaries]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main() -> int:
    """1 if a right implementation was convicted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, default="operators")
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, help="folder for PART.md and PART.jsonl.gz")
    parser.add_argument("--only", action="append", default=[], help="only this subject, by its name in the table")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--share", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--of", type=int, default=1, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        work(asked.part, asked.worker, range(asked.first, asked.first + asked.seeds), asked.share, asked.of, asked.only)
        return 0
    rows = sweep(asked.part, asked.seeds, asked.processes, asked.first, asked.only)
    summaries = summarise(rows)
    print(table(summaries))
    if asked.output:
        keep(asked.output, asked.part, _page(asked, summaries), rows)
    return int(any(one.convicted for one in summaries))


def _page(asked: argparse.Namespace, summaries: list[Summary]) -> str:
    import torch

    from opbench.engine.environment import environment

    # As it was called, but for the processes, whose number changes nothing.
    command = f"python tests/bounds/sweep.py --part {asked.part} --seeds {asked.seeds}"
    command += f" --first {asked.first}" if asked.first else ""
    command += "".join(f' --only "{name}"' for name in asked.only) + f" -o {asked.output}"
    return (
        f"# Error bounds on right implementations: {asked.part}\n\n{__doc__.split(chr(10) * 2, 2)[2]}\n"
        f"`{command}`\n\n{environment().cpu}, torch {torch.__version__}, routes: "
        f"{', '.join(route.name for route in routes())}.\n\n{table(summaries)}"
    )


if __name__ == "__main__":
    sys.exit(main())
