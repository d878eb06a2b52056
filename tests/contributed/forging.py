"""An honest submission and the ways to change it: each forger gives the parts of a bundle that others then pack.

The honest one is a part of a reference run, with the log that such a run writes, so that these tests measure nothing.

What is packed is consistent by itself: hashes, digest and log are those of the changed document, unless the forgery is
in one of them. So no forgery is found by the hash of a file.
"""

import functools
import hashlib
import io
import json
import math
import struct
import zipfile
import zlib
from pathlib import Path

from msgspec.structs import replace

from opbench import documents
from opbench.analyse.history.digest import digest, machine_key
from opbench.build import seed_text
from opbench.contributed.bundle import DIGEST, DOCUMENT, LOG, MANIFEST, opened
from opbench.contributed.nouns import BundleManifest
from opbench.engine.environment import commit_here
from opbench.engine.log import finished, surroundings
from opbench.schema import Yardstick

MEASURED = Path(__file__).parents[2] / "results" / "xeon-2core" / "sampling" / "run.json"
# Of it: a panel, its baseline in training, and a few contenders of another panel.
PANELS = {
    "upsample2x/yolo11n-p5-p4/float32/cpu/inference": (),
    "upsample2x/yolo11n-p5-p4/float32/cpu/training": ("nearest[torch]",),
    "conv3x3/yolov8n-c2f-p4/float32/cpu/inference/spread=2px": ("conv3x3[torch]", "dcnv2[cpu]", "snake[cpu]"),
}


@functools.cache
def honest_bundle():
    """The bundle that `opbench submit` would make of that part of the run."""
    run = documents.read(MEASURED)

    def wanted(case):
        return case.panel_id in PANELS and (not PANELS[case.panel_id] or case.contender in PANELS[case.panel_id])

    run = replace(
        run,
        # As if the present code had made it, whose operations it is held to.
        environment=replace(run.environment, commit=commit_here()[0]),
        panels=tuple(
            replace(panel, cases=tuple(filter(wanted, panel.cases))) for panel in run.panels if panel.id in PANELS
        ),
        records=tuple(record for record in run.records if wanted(record.case)),
        probes=tuple(one for one in run.probes if one.panel in PANELS),
        skipped=(),
    )
    return bundle_of(run, log_of(run), seeds_of(run))


def log_of(run):
    """What run.log says of a run: where it was taken, and every visit of a panel a little longer than its samples."""
    lines = list(surroundings(run.environment, run.yardsticks))
    for process in range(run.settings.replicas):
        for panel in run.panels:
            records = [record for record in run.records if record.case.panel_id == panel.id]
            spent = sum(
                latency.calls_per_sample * math.fsum(filter(math.isfinite, latency.samples_seconds[process]))
                for record in records
                for latency in record.latencies
            )
            lines += finished(panel.id, process, records, spent + 1.5)
    return "".join(f"2026-11-28T11:56:33.000+00:00 {' '.join(line.split())}\n" for line in lines)


def files_of(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(files, **compression):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", **compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return held.getvalue()


def bundle_of(run, log, seeds, *, document=None, figures=None, environment=None):
    """A bundle of these parts, whose manifest and hashes agree with them."""
    document = document or documents.render(run)
    files = {DOCUMENT: document, DIGEST: figures or documents.render(digest(run, document)), LOG: log.encode()}
    manifest = BundleManifest(
        members={name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        machine=machine_key(run.environment),
        environment=environment or run.environment,
        seeds=seeds,
        opbench="0.1.0",
        contributor="somebody",
    )
    return packed({MANIFEST: documents.render(manifest), **files})


def submission(given, run=None, **changes):
    """A submission with another run document, or with other parts beside it."""
    parts = {"log": given.log, "seeds": given.manifest.seeds, **changes}
    return opened(bundle_of(run or given.run, **parts))


# --- changing a run -------------------------------------------------------------------------------------------------


def record_of(run, contender, **wanted):
    """The place of the first record of a contender."""
    return next(
        at
        for at, record in enumerate(run.records)
        if record.case.contender == contender and all(getattr(record.case, name) == is_ for name, is_ in wanted.items())
    )


def with_record(run, at, **changes):
    records = list(run.records)
    records[at] = replace(records[at], **changes)
    return replace(run, records=tuple(records))


def with_latency(run, at, **changes):
    return with_record(run, at, latencies=(replace(run.records[at].latencies[0], **changes),))


def with_counts(run, at, **changes):
    return with_record(run, at, counts=replace(run.records[at].counts, **changes))


def with_verdict(run, at, **changes):
    """Both verdicts, as a forger would not forget one."""
    record = run.records[at]
    return with_record(
        run, at, verdict=replace(record.verdict, **changes), final_verdict=replace(record.final_verdict, **changes)
    )


def with_worst(run, at, **changes):
    """A worst element and the ratio that follows from it."""
    for name in ("verdict", "final_verdict"):
        verdict = getattr(run.records[at], name)
        worst = replace(verdict.worst, **changes)
        error = abs(worst.got - worst.expected)
        ratio = error / worst.bound if error else 0.0
        run = with_record(run, at, **{name: replace(verdict, worst=worst, worst_ratio=ratio)})
    return run


def scaled(latency, by, *, whole=True):
    """Samples times a factor; `whole`: in blocks of whole nanoseconds, as a clock would show them."""

    def one(sample):
        block = sample * latency.calls_per_sample * by
        return (round(block * 1e9) / 1e9 if whole else block) / latency.calls_per_sample

    return tuple(tuple(map(one, samples)) for samples in latency.samples_seconds)


def without_rounds(rows, gone):
    return tuple(tuple(value for at, value in enumerate(row) if at not in gone) for row in rows)


# --- the same run as if on a GPU ------------------------------------------------------------------------------------

H100 = {"compute capability": "9.0", "multiprocessors": "132", "tf32 in convolutions": "True", "selfcheck": "none"}


def on_a_gpu(run, slower=1.0):
    """The run as it would be on an H100: its methods, allocator, clocks, and yardsticks near the data sheet."""

    def moved(case):
        return replace(case, device="cuda")

    def timed(record):
        if not record.latencies:
            return replace(record, case=moved(record.case))
        (latency,) = record.latencies
        rounds = len(latency.samples_seconds[0])
        own = zlib.crc32(record.case.id.encode())
        base = 20e-6 * slower * (1 + own / 2**32)
        cold, hot = [], []
        for at in range(rounds):
            # Milliseconds as events tell them: a float32, of a block of 8 calls, or the sum of one a call.
            tick = single(1e3 * base * (1 + 0.001 * math.sin(at * 7 + own) + 1e-5 * at))
            cold.append(8 * tick / 1e3 / 8)
            hot.append(single(8 * tick * 0.9) / 1e3 / 8)
        shared = {
            "calls_per_sample": 8, "waited": (), "left_out": (), "phase": "", "stop": "budget",
            "sm_clock_mhz": ((1980.0,) * rounds,), "temperature_celsius": ((60.0,) * rounds,),
        }  # fmt: skip
        latencies = (
            replace(latency, method="cuda-events-cold", samples_seconds=(tuple(cold),), **shared),
            replace(latency, method="cuda-graph-hot", samples_seconds=(tuple(hot),), **shared),
        )
        memory = replace(record.memory, method="cuda-allocator")
        return replace(record, case=moved(record.case), latencies=latencies, memory=memory)

    records = tuple(map(timed, run.records))
    rounds = min(30, *(len(record.latencies[0].samples_seconds[0]) for record in records if record.latencies))
    records = tuple(
        replace(
            record,
            latencies=tuple(
                replace(
                    latency,
                    samples_seconds=(latency.samples_seconds[0][:rounds],),
                    sm_clock_mhz=(latency.sm_clock_mhz[0][:rounds],),
                    temperature_celsius=(latency.temperature_celsius[0][:rounds],),
                )
                for latency in record.latencies
            ),
        )
        for record in records
    )
    panels = tuple(
        replace(panel, id=moved(panel.cases[0]).panel_id, cases=tuple(map(moved, panel.cases))) for panel in run.panels
    )
    return replace(
        run,
        settings=replace(run.settings, replicas=1, precision=1e-6),
        environment=replace(
            run.environment,
            gpu="NVIDIA H100 80GB HBM3",
            details={**run.environment.details, **H100},
        ),
        panels=panels,
        records=records,
        probes=(),
        yardsticks=(
            Yardstick("copy", "cuda", "float32", "bytes/second", (3.01e12, 3.02e12, 3.015e12)),
            Yardstick("matmul", "cuda", "float32", "macs/second", (25.1e12, 25.3e12, 25.2e12)),
        ),
    )


def single(value):
    return struct.unpack("f", struct.pack("f", value))[0]


def seeds_of(run):
    return {panel.id: seed_text(panel.cases[0]) for panel in run.panels}


def edited(document, change):
    """A document as JSON, changed where no noun can be."""
    raw = json.loads(document)
    change(raw)
    return json.dumps(raw).encode()


def edited_digest(given, change):
    """The digest of a submission with one entry changed."""
    raw = json.loads(given.digest)
    change(raw["entries"])
    return json.dumps(raw).encode()
