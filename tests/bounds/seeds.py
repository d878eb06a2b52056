"""Tries `run` and `check` of CARAFE seed after seed, with one thread and with two, and writes a table of the margins.

    python tests/bounds/seeds.py --seeds 50 -o results/xeon-2core/bounds

A margin is the largest |error| / bound. `run`: the cases that `opbench run --suite default --task upsample2x
--workload yolov8n-p5-p4 --operator carafe --mode inference --seed S` plans, each through the gate that it passes before
it is timed. `check`: `opbench check TARGET --operator carafe --seed S`, in its default mode with `--only` for the
relations whose answer depends on rounding and seed; with `--quick` all relations, at fewer examples.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from kept_rows import keep

TARGETS = ("CARAFE", "YoloCARAFE")
PARTS = ("run", "check")


def gated(seed: int, threads: int) -> Iterator[dict[str, object]]:
    """Every case of the run at this seed, judged as before it is timed."""
    import torch

    from opbench.build import build
    from opbench.engine.planner import planned
    from opbench.run_request import RunRequest
    from opbench.verify.gate import check, reference

    torch.set_num_threads(threads)
    asked = RunRequest(
        task=("upsample2x",), workload=("yolov8n-p5-p4",), operator=("carafe",), mode=("inference",), seed=seed,
        budget=0.0,
    )  # fmt: skip
    for panel in planned(asked).plan.panels:
        held = {}
        for case in panel.cases:
            built = build(case)
            held[case.operator] = held.get(case.operator) or reference(built)
            verdict = check(built, held[case.operator])
            yield {
                "of": f"run, {case.contender} {case.dtype}", "seed": seed, "threads": threads,
                "right": verdict.correct, "margin": verdict.worst_ratio, "said": verdict.reason,
            }  # fmt: skip


def checked(target: str, seed: int, threads: int, only: Sequence[str], quick: bool) -> dict[str, object]:
    """The verdict of `opbench check` on a module of opbench's own."""
    from msgspec.structs import replace

    from opbench.conformance.check import check
    from opbench.conformance.findings import BAD, FULL, QUICK, Request

    # The checking process takes its number of threads from here.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    asked = Request(f"opbench.operators.carafe:{target}", "carafe", only=tuple(only), quick=quick, seed=seed)
    # A busy machine tries as many examples as an idle one.
    limits = replace(QUICK if quick else FULL, search_seconds=3600.0, size_seconds=60.0)
    found = check(asked, limits)
    ratios = [result.worst_ratio for result in found.results if result.worst_ratio is not None]
    said = [f"{result.property} {result.dtype}: {result.message}" for result in found.results if result.status in BAD]
    return {
        "of": f"check, {target}", "seed": seed, "threads": threads, "right": found.conformant,
        "margin": max(ratios, default=0.0), "said": f"{found.verdict}: {'; '.join(said)}",
    }  # fmt: skip


def table(rows: Sequence[dict[str, object]]) -> str:
    """The table as Markdown: a line for each thing tried and number of threads."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["of"], row["threads"]].append(row)
    lines = ["| what | threads | seeds | acquitted | worst margin | at seed |", "| --- | --- | --- | --- | --- | --- |"]
    for (of, threads), held in groups.items():
        worst = max(held, key=lambda row: row["margin"])
        right = sum(row["right"] for row in held)
        lines.append(f"| {of} | {threads} | {len(held)} | {right} | {worst['margin']:.3f} | {worst['seed']} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """1 unless all are acquitted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append", help="only this part [both]")
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--threads", type=int, action="append", help="only this number of threads [1 and 2]")
    parser.add_argument("--only", action="append", default=[], help="of check only this relation")
    parser.add_argument("--quick", action="store_true", help="check with fewer examples")
    parser.add_argument("-o", "--output", type=Path, help="folder for seeds.md and seeds.jsonl.gz")
    asked = parser.parse_args()
    rows = []
    for part in asked.part or PARTS:
        for threads in asked.threads or (1, 2):
            for seed in range(asked.first, asked.first + asked.seeds):
                if part == "run":
                    found = list(gated(seed, threads))
                else:
                    found = [checked(target, seed, threads, asked.only, asked.quick) for target in TARGETS]
                for row in found:
                    if not row["right"]:
                        print(f"{row['of']} seed {seed} threads {threads}: {row['said']}", file=sys.stderr, flush=True)
                rows += found
    print(table(rows))
    if asked.output:
        _write(asked.output, rows)
    return int(not all(row["right"] for row in rows))


def _write(folder: Path, rows: Sequence[dict[str, object]]) -> None:
    """seeds.md and seeds.jsonl.gz."""
    import torch

    from opbench.engine.environment import environment

    about = __doc__.split("\n\n", 2)[2]
    command = f"python tests/bounds/seeds.py {' '.join(sys.argv[1:])}"
    page = (
        f"# `run` and `check` of CARAFE, seed after seed\n\n{about}\n`{command}`\n\n"
        f"{environment().cpu}, torch {torch.__version__}.\n\n{table(rows)}"
    )
    keep(folder, "seeds", page, rows)


if __name__ == "__main__":
    sys.exit(main())
