"""What 100,000 cases with 18,000,000 samples cost: planned, journaled, merged, reported, shown. Nothing is measured.

    python tests/bench/scale.py [CASES] [--keep FOLDER]

makes such a run (three processes of 60 rounds a case) and prints seconds and the most memory of each step, each in a
process of its own. Half the cases take half of it where nothing is quadratic: the last column is the growth from half.
"""

import argparse
import contextlib
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))

from factory import make_case, make_counts, make_environment, make_latency, make_memory, make_verdict

from opbench import documents
from opbench.engine.delivery import Delivery
from opbench.engine.entries import NAME, Header, PanelFinished, Surroundings, read, session, written
from opbench.engine.merging import assembled, merged
from opbench.engine.parts import collected
from opbench.schema import Panel, Plan, Record, Settings, Yardstick
from opbench.storage.objects import ObjectStore

PROCESSES, ROUNDS, CONTENDERS = 3, 60, 10
PLACE = Surroundings(
    make_environment(),
    (
        Yardstick("copy", "cpu", "float32", "bytes/second", (14e9,) * 21),
        Yardstick("matmul", "cpu", "float32", "macs/second", (50e9,) * 21),
    ),
    1.0,
    1.0,
)
LATENCY = make_latency(rounds=1)
_DRAW = random.Random(0)
SAMPLES = tuple(_DRAW.uniform(0.9e-3, 1.1e-3) for _ in range(100_000))
STEPS = (
    "plan",
    "journal",
    "resume",
    "merge",
    "save",
    "open",
    "deliver",
    "merge parts",
    "digest",
    "dashboard",
    "report",
)


def planned(cases):
    for at in range(cases // CONTENDERS):
        dims = {"N": 1, "C": 64, "H": 8 + at, "W": 8}
        names = ["nearest[torch]", *(f"carafe[v{number}]" for number in range(1, CONTENDERS))]
        found = tuple(make_case(name, workload=f"size-{at}", dims=dims) for name in names)
        yield Panel(found[0].panel_id, "made up", "nearest[torch]", found)


def header(panels):
    settings = Settings("scale", 0.01, 6.0, replicas=PROCESSES)
    return Header(settings, {panel.id: "0" for panel in panels}, {}, None, "2026-01-02T03:04:05+00:00")


def visit(panel, process, draw):
    """A panel's records at one visit; their samples are of one list, cut anew, as drawing takes longer than writing."""
    shared = {"verdict": make_verdict(), "final_verdict": make_verdict(), "counts": make_counts(macs=1000)}
    records = []
    for case in panel.cases:
        begin = draw.randrange(len(SAMPLES) - ROUNDS)
        samples = (SAMPLES[begin : begin + ROUNDS],)
        latency = msgspec.structs.replace(LATENCY, samples_seconds=samples, waited=((0,) * ROUNDS,))
        records.append(Record(case, "ok", memory=make_memory(), latencies=(latency,), **shared))
    return PanelFinished(process, panel.id, tuple(records), 0.5, 0.6)


def plan(folder, cases):
    found = Plan("scale", tuple(planned(cases)), ())
    (folder / "plan.json").write_bytes(documents.encode(found))


def the_plan(folder):
    return msgspec.json.decode((folder / "plan.json").read_bytes(), type=Plan)


def journal(folder, cases):
    draw, panels = random.Random(1), the_plan(folder).panels
    with (folder / NAME).open("wb") as file:
        for entry in (header(panels), session("scale", "now"), PLACE):
            file.write(written(entry))
        for process in range(PROCESSES):
            for panel in panels:
                file.write(written(visit(panel, process, draw)))


def resume(folder, cases):
    entries, _ = read(folder / NAME)
    assert len(entries) == 3 + PROCESSES * cases // CONTENDERS


def merge(folder, cases):
    entries, _ = read(folder / NAME)
    header = entries[0]
    visits = {(entry.replica, entry.panel): entry for entry in entries if isinstance(entry, PanelFinished)}
    del entries
    return assembled(the_plan(folder), header, [PLACE], lambda *key: visits.pop(key, None), (), "scale")[0]


def save(folder, cases):
    documents.save(merge(folder, cases), folder / "results" / "run.json")


def open_(folder, cases):
    run = documents.read(folder / "results" / "run.json")
    assert (
        sum(len(row) for one in run.records for row in one.latencies[0].samples_seconds) == cases * PROCESSES * ROUNDS
    )


def deliver(folder, cases):
    delivery = Delivery("file://", folder, ObjectStore.at(f"file://{folder / 'store'}"))
    delivery.begin(resume=True)
    delivery.plan(the_plan(folder))
    delivery.deliver(patient=False)
    delivery.index()


def merge_parts(folder, cases):
    (one,) = merged(collected(ObjectStore.at(f"file://{folder / 'store'}")))
    assert one.missing == 0


def digest(folder, cases):
    from opbench.analyse.history.store import read as read_store

    assert len(read_store(folder / "results").runs) == 1


def dashboard(folder, cases):
    from opbench.report.dashboard.site import write_site

    page = write_site(folder / "results", folder / "site").page
    print(f"{page.stat().st_size / 1e6:.1f} MB", end=" ")


def report(folder, cases):
    from opbench.report.markdown import write

    write(documents.read(folder / "results" / "run.json"), folder / "report")
    print(f"{(folder / 'report' / 'report.md').stat().st_size / 1e6:.1f} MB", end=" ")


def step(name, folder, cases):
    """Runs one step in this process and prints its seconds and the most memory it had."""
    work = {"open": open_, "merge parts": merge_parts}.get(name) or globals()[name]
    begin = time.perf_counter()
    work(folder, cases)
    most = resource.getrusage(resource.RUSAGE_SELF)
    print(f"{time.perf_counter() - begin:.2f} {most.ru_utime:.2f} {most.ru_maxrss / 2**20:.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="?", type=int, default=100_000)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--only", nargs="*", choices=STEPS, default=STEPS)
    parser.add_argument("--whole", action="store_true", help="not of half the cases, too")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.step:
        step(asked.step, asked.keep, asked.cases)
        return
    with contextlib.ExitStack() as held:
        root = asked.keep or Path(held.enter_context(tempfile.TemporaryDirectory()))
        print(f"{asked.cases:,} cases, {asked.cases * PROCESSES * ROUNDS:,} samples")
        print("step             seconds   CPU s   GiB   CPU s, half the cases   growth")
        for name in asked.only:
            rows = []
            for cases in (asked.cases,) if asked.whole else (asked.cases // 2, asked.cases):
                folder = root / str(cases)
                folder.mkdir(parents=True, exist_ok=True)
                command = [sys.executable, __file__, str(cases), "--keep", str(folder), "--step", name]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    print(f"{name:16} failed: {(done.stderr.strip().splitlines() or [str(done.returncode)])[-1]}")
                    break
                *more, wall, cpu, memory = done.stdout.split()
                rows.append((float(wall), float(cpu), float(memory), " ".join(more)))
            if rows:
                wall, cpu, memory, more = rows[-1]
                half = f"{rows[0][1]:15.1f} {cpu / rows[0][1]:15.2f}" if len(rows) == 2 else ""
                print(f"{name:16} {wall:7.1f} {cpu:7.1f} {memory:5.2f} {half}   {more}", flush=True)


if __name__ == "__main__":
    main()
