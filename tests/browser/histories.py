"""Folders of synthetic run documents: months of runs with a step and a spike, many records, and what is no document."""

import json

import msgspec
from factory import (
    make_case,
    make_counts,
    make_environment,
    make_failure,
    make_incorrect,
    make_memory,
    make_record,
    make_run,
)
from hostile import make_hostile_run

from opbench import documents
from opbench.analyse.claims.nouns import Answer
from opbench.schema import Settings

CLAIMS = (
    Answer("softmax keeps training stable", "arXiv 2211.05778", "undecided", "not measured", "none"),
    Answer("DCNv3 needs fewer parameters", "arXiv 2211.05778", "confirmed", "16,108 against 99,180", "dcnv2[gather]"),
    Answer("CARAFE adds negligible parameters", "arXiv 1905.02188", "refuted", "74,148 against 0", "nearest[torch]"),
)
RUNS = 16
STEP_AT = 9
SPIKE_AT = 4


def started(index):
    return f"2025-{1 + index // 28:02d}-{1 + index % 28:02d}T03:04:05+00:00"


def commit(index):
    return f"{index + 1:x}".zfill(4) + "c0ffee" * 6


def save(run, path):
    documents.save(run, path)
    return path


def write_history(folder):
    """`RUNS` runs of one machine and two of another. carafe[cpu] steps to 1.5 times its ratio and has one spike."""
    for index in range(RUNS):
        slower = 1.5 if index >= STEP_AT else 1.0
        slower *= 1.7 if index == SPIKE_AT else 1.0
        torch = "2.6.0" if index < STEP_AT else "2.7.0"
        run = history_run(index, slower, make_environment(commit=commit(index), versions={"torch": torch}))
        save(run, folder / "bench-01" / f"{index:03d}" / "run.json")
    for index in (3, 11):
        where = make_environment(
            machine="bench-02", cpu="Other CPU @ 3.00GHz", threads=4, cores=4, commit=commit(index)
        )
        save(history_run(index, 2.0, where), folder / "bench-02" / f"{index:03d}" / "run.json")


def history_run(index, slower, environment):
    records = []
    for size in (20, 40, 80):
        for mode in ("inference", "training"):
            shared = {"workload": f"neck-{size}", "dims": {"N": 1, "C": 256, "H": size, "W": size}, "mode": mode}
            elements = 256 * size * size
            for contender, ratio, params, macs in (
                ("nearest[torch]", 1.0, 0, 0),
                ("bilinear[torch]", 0.8, 0, 16),
                ("deconv[torch]", 5.0, 589_824, 2304),
                ("carafe[cpu]", 2.0 * slower, 74_148, 389),
            ):
                case = make_case(contender, **shared)
                peak = 5 * elements if index >= STEP_AT and contender == "carafe[cpu]" else 4 * elements
                records.append(
                    make_record(
                        case,
                        seconds=1.8e-9 * elements,
                        ratio=ratio * (1 + 0.004 * ((index * 7 + len(contender)) % 5 - 2)),
                        rounds=12,
                        counts=make_counts(macs * elements, params, min_bytes=20 * elements),
                        memory=make_memory(peak, peak // 2 if mode == "training" else 0),
                    )
                )
    shared = {"workload": "neck-20", "dims": {"N": 1, "C": 256, "H": 20, "W": 20}}
    records.append(make_incorrect(make_case("carafe[mine]", **shared)))
    records.append(make_failure(make_case("dysample[torch]", **shared), "out-of-memory", "asked for 96 GiB"))
    for spread in (0.0, 2.0, 8.0):
        of = {"task": "conv3x3", "workload": "stage-3", "dims": {"N": 1, "C": 128, "H": 40, "W": 40}, "spread": spread}
        for contender, ratio in (("conv3x3[torch]", 1.0), ("dcnv3[cpu]", 3.0 + 0.1 * spread)):
            records.append(make_record(make_case(contender, **of), ratio=ratio, rounds=12))
    return make_run(
        records, environment=environment, started=started(index), command=f"opbench run --suite smoke --seed {index}"
    )


def write_suites(folder):
    """Two runs of the suite `smoke`, then one of `bench`, the newest, with cases of the same names."""
    for index, suite in ((1, "smoke"), (2, "smoke"), (3, "bench")):
        run = history_run(index, 1.0, make_environment(commit=commit(index)))
        settings = Settings(suite=suite, precision=0.01, budget_seconds=6.0)
        save(msgspec.structs.replace(run, settings=settings), folder / suite / f"{index}" / "run.json")


def write_many(folder, runs=100, workloads=5, contenders=10, modes=("inference", "training")):
    """100 runs of 100 records: 10,000 records."""
    for index in range(runs):
        records = [
            make_record(
                make_case(
                    f"carafe[v{number}]" if number else "nearest[torch]",
                    workload=f"size-{size}", dims={"N": 1, "C": 64, "H": 8 << size % 6, "W": 8 << size % 6}, mode=mode,
                ),
                ratio=(1.0 + number) * (1.2 if index > runs // 2 and number == 3 else 1.0),
                seconds=1e-4 * 4 ** (size % 6),
                rounds=8,
                counts=make_counts(1000 * 4 ** (size % 6) * (number + 1), 1000 * number),
            )
            for size in range(workloads)
            for mode in modes
            for number in range(contenders)
        ]  # fmt: skip
        run = make_run(
            records,
            environment=make_environment(commit=commit(index)),
            started=started(index),
            settings=Settings(suite="smoke", precision=0.01, budget_seconds=6.0),
        )
        save(run, folder / f"{index:03d}" / "run.json")


def write_hostile(folder):
    """A run in which every text is an attack, odd numbers, and every kind of file that is no document of ours."""
    save(make_hostile_run(), folder / "hostile" / "run.json")
    huge = msgspec.structs.replace(make_hostile_run(), started="x" * 1_000_000, command="</script>" * 100_000)
    save(huge, folder / "huge" / "run.json")
    good = make_record(make_case("carafe[cpu]"), ratio=3.0)
    base = make_record(make_case())
    odd = make_run(
        [
            base,
            good,
            good,
            make_record(make_case("deconv[torch]"), ratio=float("nan"), verdict=None, final_verdict=None),
        ],
        started="2025-03-01T00:00:00+00:00",
    )
    save(odd, folder / "odd" / "run.json")
    newer = json.loads(documents.render(make_run([base])))
    newer["schema_version"] = 99
    other = {
        "newer": json.dumps(newer).encode(),
        "cut": documents.render(make_run())[:5000],
        "foreign": b'{"benchmarks": []}',
        "empty": b"",
        "<img src=x onerror=alert(1)>": b'{"schema_version": "<script>alert(1)</script>"}',
        "binary": b"\x00\xff\xfe",
    }
    for name, content in other.items():
        (folder / f"{name}.json").write_bytes(content)
