"""Whether a figure taken beside other load is right or named `disturbed`: panels under planted loads, in one table.

    python tests/bench/disturbance.py --panels 200 -o results/xeon-2core/disturbance

Contenders of 1, 10 and 100 parallel regions, a convolution and the CPU kernels of both cores, with one thread and with
two. Loads: none; one core busy; every core busy; bursts of 50 ms; a copy that takes memory bandwidth; where this user
may make one, a cgroup of 0.5 or 1.5 cores. `off` is how far the nearer end of an `ok` row's interval lies from the
quiet median: by the promise at most 5 %. `without` is the same where nothing watches, as it was before.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

BUDGET_SECONDS = 2.0
BUSY = "while True: pass"
BURSTS = "import time\nwhile True:\n end = time.time() + .05\n while time.time() < end: pass\n time.sleep(.1)"
COPIES = "import numpy\na = numpy.ones(1 << 26, numpy.uint8)\nb = a.copy()\nwhile True: numpy.copyto(b, a)"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
LOADS = {
    "none": (),
    "one core busy": (BUSY,),
    "every core busy": (BUSY,) * CORES,
    "bursts of 50 ms": (BURSTS,),
    "memory bandwidth": (COPIES,),
    "cgroup of 0.5 cores": (),
    "cgroup of 1.5 cores": (),
}
BASELINE = "1 region"


def panel(threads: int, watched: bool, seed: int) -> dict[str, object]:
    """One panel in this process: each contender's outcome, and its ratio to the baseline with its interval."""
    import torch

    from opbench.measure.disturbance import DisturbanceGuard
    from opbench.measure.latency import WallClock, measure_panel
    from opbench.measure.probes import Probes
    from opbench.measure.watching import DisturbanceWatch
    from opbench.operators.carafe import carafe
    from opbench.operators.dcnv3 import dcnv3
    from opbench.statistics.ratios import ratio

    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    x = draw(1, 64, 64, 64)
    weight = draw(64, 64, 3, 3) / 24
    mask = draw(1, 25, 128, 128).softmax(1)
    rows = draw(1, 40, 40, 64)
    offset, scale = 2 * draw(1, 40, 40, 4 * 18), draw(1, 40, 40, 4, 9).softmax(-1).flatten(3)
    part = draw(1, 64, 32, 32)

    def regions(count: int) -> object:
        y = part
        for _ in range(count):
            y = y + 1
        return y

    calls = {
        BASELINE: lambda: x + 1,
        "10 regions": lambda: regions(10),
        "100 regions": lambda: regions(100),
        "convolution": lambda: torch.nn.functional.conv2d(x, weight, padding=1),
        "carafe[cpu]": lambda: carafe(x, mask, kernel_size=5, group_size=1, scale_factor=2, implementation="cpu"),
        "dcnv3[cpu]": lambda: dcnv3(rows, offset, scale, kernel_size=3, pad=1, group=4, implementation="cpu"),
    }
    around = DisturbanceWatch(DisturbanceGuard(), Probes(threads)) if watched else None
    begin = time.perf_counter()
    with torch.inference_mode():
        found = measure_panel(
            calls, BASELINE, clock=WallClock(), precision=0.01, budget_seconds=BUDGET_SECONDS,
            first_call_seconds=dict.fromkeys(calls, 0.0), seed=seed, around=around,
        )  # fmt: skip
    rows_found = {}
    for name, latency in found.items():
        if name != BASELINE:
            told = ratio(latency, found[BASELINE])
            outcome = "disturbed" if latency.stop == "disturbed" or told is None else "ok"
            rows_found[name] = {
                "outcome": outcome,
                "phase": latency.phase,
                "ratio": told and [told.value, told.low, told.high],
            }
    return {"seconds": time.perf_counter() - begin, "rows": rows_found}


@contextlib.contextmanager
def loaded(load: str) -> Iterator[list[str]]:
    """The load while it lasts; yields what must stand before a command to be under it."""
    others = [subprocess.Popen([sys.executable, "-c", program]) for program in LOADS[load]]
    try:
        if load.startswith("cgroup"):
            with _cgroup(float(load.split()[2])) as prefix:
                yield prefix
        else:
            yield []
    finally:
        for other in others:
            other.kill()
            other.wait()


@contextlib.contextmanager
def _cgroup(cores: float) -> Iterator[list[str]]:
    first, second = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
    root = first if first.is_dir() else second
    group = root / f"opbench-{os.getpid()}"
    group.mkdir()
    try:
        if root is first:
            (group / "cpu.cfs_quota_us").write_text(str(int(100_000 * cores)))
        else:
            (group / "cpu.max").write_text(f"{int(100_000 * cores)} 100000")
        yield ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
    finally:
        for _ in range(50):
            with contextlib.suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.1)


def measure(load: str, threads: int, watched: bool, seed: int) -> dict[str, object] | None:
    """One panel in a process of its own under a load; None where this user can't plant it."""
    try:
        with loaded(load) as prefix:
            command = [*prefix, sys.executable, __file__, "--worker", str(threads), str(int(watched)), str(seed)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
    except OSError:
        return None
    return {"load": load, "threads": threads, "watched": watched, **json.loads(done.stdout.splitlines()[-1])}


def table(panels: list[dict[str, object]]) -> str:
    """The table as Markdown: by load, threads and contender."""
    quiet = defaultdict(list)
    for one in panels:
        if one["load"] == "none":
            for name, row in one["rows"].items():
                if row["outcome"] == "ok":
                    quiet[one["threads"], name].append(row["ratio"][0])
    lines = [
        "| load | threads | panels | rows | ok | worst off | ok and over 5 % off | without: worst off | over 5 % off |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for load, threads in itertools.product(LOADS, (1, 2)):
        cells = []
        for watched in (True, False):
            chosen = [
                one for one in panels if (one["load"], one["threads"], one["watched"]) == (load, threads, watched)
            ]
            rows = [(name, row) for one in chosen for name, row in one["rows"].items()]
            fine = [(name, row) for name, row in rows if row["outcome"] == "ok" and (threads, name) in quiet]
            off = [_off(row["ratio"], statistics.median(quiet[threads, name])) for name, row in fine]
            worst = f"{max(off):.1%}" if off else "-"
            over = str(sum(value > 0.05 for value in off))
            if watched:
                cells += [
                    str(len(chosen)),
                    str(len(rows)),
                    f"{len(fine) / len(rows):.0%}" if rows else "-",
                    worst,
                    over,
                ]
            else:
                cells += [worst, over]
        lines.append(f"| {load} | {threads} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _off(told: list[float], quiet: float) -> float:
    """How far the nearer end of an interval lies from the quiet median; 0 where it holds it."""
    _, low, high = told
    return max(low / quiet - 1, 1 - high / quiet, 0.0)


def main() -> None:
    """Panels in turns over loads, threads and both ways of measuring: a drift of the machine meets all alike."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--panels", type=int, default=200, help="watched panels; a quarter as many are not watched")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--worker", nargs=3, metavar=("THREADS", "WATCHED", "SEED"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        threads, watched, seed = map(int, asked.worker)
        print(json.dumps(panel(threads, bool(watched), seed)))
        return
    turns = itertools.cycle(itertools.product(LOADS, (1, 2)))
    panels = []
    for number in range(asked.panels):
        load, threads = next(turns)
        for watched in (True, False) if number % 4 == 0 or load == "none" else (True,):
            found = measure(load, threads, watched, number)
            if found is not None:
                panels.append(found)
        print(f"{number + 1} of {asked.panels}: {load}, {threads}", file=sys.stderr, flush=True)
    said = table(panels)
    print(said)
    if asked.output:
        asked.output.mkdir(parents=True, exist_ok=True)
        (asked.output / "disturbance.json").write_text(json.dumps(panels) + "\n")
        command = f"python tests/bench/disturbance.py --panels {asked.panels} -o {asked.output}"
        page = (
            f"# Figures beside other load\n\n{__doc__.split(chr(10) * 2, 2)[2]}\n`{command}`\n\n{_machine()}\n\n{said}"
        )
        (asked.output / "disturbance.md").write_text(page)


def _machine() -> str:
    import torch

    from opbench.engine.environment import environment

    return (
        f"{environment().cpu}, {CORES} cores, torch {torch.__version__}; {BUDGET_SECONDS:g} s a panel, fresh processes."
    )


if __name__ == "__main__":
    main()
