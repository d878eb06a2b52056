"""Synthetic nouns for tests: `run()` is a small, complete and plausible run document; every part can be replaced.

`make_run` lays records out in panels as the planner would; `make_record` draws seeded samples around a true ratio.
Nothing is measured, so a test that uses it is fast and the same everywhere.
"""

import math
import random

from opbench.deploy.nouns import (
    Deployment,
    DeviceProof,
    DeviceRun,
    ProvenAt,
    RuntimeLatency,
    ShippedArtifact,
)
from opbench.schema import (
    SCHEMA_VERSION,
    Called,
    Case,
    Counted,
    Counts,
    Environment,
    Latency,
    LayoutTrial,
    Memory,
    Panel,
    Record,
    Run,
    Selfcheck,
    Settings,
    Skipped,
    Trial,
    Verdict,
    Worst,
    Yardstick,
)

BASELINES = {"upsample2x": "nearest[torch]", "conv3x3": "conv3x3[torch]"}


def make_case(contender="nearest[torch]", **changes):
    operator, _, implementation = contender.rstrip("]").partition("[")
    fields = {
        "task": "upsample2x",
        "workload": "yolov8n-p5",
        "dims": {"N": 1, "C": 256, "H": 20, "W": 20},
        "dtype": "float32",
        "device": "cpu",
        "mode": "inference",
    }
    return Case(operator=operator, implementation=implementation, **{**fields, **changes})


def make_latency(seconds=1e-3, ratio=1.0, *, rounds=20, processes=1, noise=0.01, drift=0.05, seed=0, **changes):
    """Samples whose true ratio to `make_latency(seconds)` of the same shape is `ratio`.

    `drift` moves all contenders of a round together, as a busy machine does; `noise` is each sample's own.
    """
    machine, own = random.Random("machine"), random.Random(seed)
    samples = tuple(
        tuple(seconds * ratio * 2 ** (machine.gauss(0, drift) + own.gauss(0, noise)) for _ in range(rounds))
        for _ in range(processes)
    )
    fields = {
        "method": "cpu-wall",
        "calls_per_sample": 16,
        "samples_seconds": samples,
        "first_call_seconds": 2 * seconds,
        "stop": "precision",
    }
    return Latency(**{**fields, **changes})


def make_verdict(**changes):
    fields = {
        "correct": True,
        "worst_ratio": 0.2,
        "worst": None,
        "max_error": 0.41,
        "rms_error": 0.08,
        "judged": 102400,
        "sampled": False,
    }
    return Verdict(**{**fields, **changes})


def make_counts(macs=1_000_000, params=0, min_bytes=1 << 20, **changes):
    fields = {
        "torch": Counted(macs),
        "fvcore": Counted(macs),
        "stock_torch": Counted(macs),
        "stock_fvcore": Counted(macs),
        "traffic_bytes": 3 << 20,
    }
    return Counts(params=params, macs=macs, min_bytes=min_bytes, **{**fields, **changes})


def make_memory(peak_bytes=1 << 20, saved_bytes=0, **changes):
    fields = {"method": "cpu-dispatch", "peak_bytes": peak_bytes, "saved_bytes": saved_bytes, "held_bytes": 1 << 18}
    return Memory(**{**fields, **changes})


def make_record(case=None, **changes):
    """An `ok` record; `ratio`, `seconds` and `rounds` go to its latency."""
    latency = {name: changes.pop(name) for name in ("ratio", "seconds", "rounds", "processes") if name in changes}
    case = case or make_case()
    fields = {
        "outcome": "ok",
        "verdict": make_verdict(),
        "final_verdict": make_verdict(),
        "counts": make_counts(),
        "memory": make_memory(),
        "latencies": (make_latency(seed=case.id, **latency),),
    }
    return Record(case=case, **{**fields, **changes})


def make_failure(case=None, outcome="raised", message="RuntimeError: no kernel for this shape", **changes):
    return Record(case=case or make_case(), outcome=outcome, message=message, **changes)


def make_incorrect(case=None, worst_ratio=13.2):
    worst = Worst(tensor="output", index=(0, 3, 2, 1), expected=0.25, got=0.75, bound=1e-6)
    verdict = make_verdict(correct=False, worst_ratio=worst_ratio, worst=worst, max_error=99.5)
    return make_failure(case, "incorrect", "output differs from the definition", verdict=verdict)


def make_panels(records, source="YOLOv8n neck, P5->P4, 640x640"):
    """The panels that the records belong to, each with its task's baseline."""
    cases = {}
    for record in records:
        cases.setdefault(record.case.panel_id, []).append(record.case)
    return tuple(
        Panel(id=name, source=source, baseline=BASELINES.get(group[0].task, group[0].contender), cases=tuple(group))
        for name, group in cases.items()
    )


def make_environment(**changes):
    fields = {
        "machine": "bench-01",
        "cpu": "Example CPU @ 2.10GHz",
        "cores": 2,
        "threads": 2,
        "memory_bytes": 8 << 30,
        "gpu": None,
        "python": "3.11.7",
        "platform": "Linux-6.1-x86_64",
        "commit": "0123abcd",
        "dirty": False,
        "versions": {"torch": "2.6.0", "numpy": "2.1.0"},
    }
    return Environment(**{**fields, **changes})


def make_run(records=None, **changes):
    """A run of the given records (default: `example_records()`), laid out in panels."""
    records = tuple(example_records() if records is None else records)
    fields = {
        "schema_version": SCHEMA_VERSION,
        "settings": Settings(suite="smoke", precision=0.01, budget_seconds=6.0),
        "environment": make_environment(),
        "command": "opbench run --suite smoke -o results",
        "started": "2025-01-02T03:04:05+00:00",
        "wall_seconds": 61.0,
        "called_seconds": 55.0,
        "panels": make_panels(records),
        "records": records,
        "skipped": (
            Skipped("upsample2x/yolov8n-p5/float32/cpu/inference/carafe[triton]", "carafe[triton] runs on cuda only"),
        ),
        "yardsticks": (
            Yardstick("copy", "cpu", "float32", "bytes/second", (13.9e9, 14.2e9, 14.1e9)),
            Yardstick("matmul", "cpu", "float32", "macs/second", (48e9, 51e9, 50e9)),
        ),
    }
    return Run(**{**fields, **changes})


def make_trial(effect=0.0, seed=0, *, offset=0.0, rounds=60, **changes):
    """A pair whose second contender takes `effect` more, and `offset` (log) more by its process."""
    rng = random.Random(f"{effect}/{seed}")
    times = [
        tuple(round(1e6 * slower * math.exp(rng.gauss(0, 0.02))) for _ in range(rounds))
        for slower in (1.0, (1 + (effect or 0.0)) * math.exp(offset))
    ]
    fields = {
        "contender": "upsample2x/nearest",
        "effect": effect,
        "loaded": bool(seed % 2),
        "process": seed,
        "first_nanoseconds": times[0],
        "second_nanoseconds": times[1],
        "interrupted": (),
        "retaken": 3,
        "seconds": 0.25,
        "stop": "precision",
        "rivals": (Called("rival", 0.3, 1.0, "improved" if seed == 0 else "same"),),
    }
    return Trial(**{**fields, **changes})


def make_layout(kind="1 to 3 operations", moved=0.01, process=0, rounds=30, **changes):
    """Two processes of identical code, the second slower by `moved` (log) by where it lies."""
    rng = random.Random(f"{kind}/{process}")
    times = [tuple(1e5 * math.exp(at + rng.gauss(0, 0.001)) for _ in range(rounds)) for at in (0.0, moved)]
    fields = {"case": "carafe_core/tiny", "kind": kind, "process": process}
    fields |= {"first_nanoseconds": times[0], "second_nanoseconds": times[1]}
    return LayoutTrial(**{**fields, **changes})


def make_selfcheck(trials=None, **changes):
    """Ten trials of every planted effect, one process each, and four replicas of different work."""
    if trials is None:
        trials = [make_trial(effect, seed) for effect in (0.0, 0.02, 0.05, 0.10) for seed in range(10)]
        trials += [make_trial(None, seed, offset=0.7 + 0.01 * seed, loaded=False) for seed in range(4)]
    fields = {
        "schema_version": SCHEMA_VERSION,
        "environment": make_environment(threads=1),
        "command": "opbench selfcheck -o DIR",
        "started": "2025-01-02T03:04:05+00:00",
        "wall_seconds": 12.0,
        "precision": 0.01,
        "budget_seconds": 2.0,
        "trials": tuple(trials),
    }
    return Selfcheck(**{**fields, **changes})


def example_records():
    """Two tasks, sizes that sweep H, both modes, offset spreads, and one of each common failure."""
    return [*_upsampling(), *_mixing()]


_UPSAMPLERS = {
    # contender: (ratio, params, MACs per input pixel and channel, peak bytes per input element)
    "nearest[torch]": (1.0, 0, 0, 16),
    "bilinear[torch]": (1.9, 0, 16, 16),
    "deconv[torch]": (31.0, 589_824, 2304, 17),
    "pixelshuffle[torch]": (118.0, 2_359_296, 9216, 32),
    "carafe[unfold]": (640.0, 74_148, 389, 450),
    "carafe[shift-add]": (29.0, 74_148, 389, 48),
    "carafe[cpu]": (6.1, 74_148, 389, 20),
}


def _upsampling():
    for size in (20, 40, 80):
        for mode, slower in (("inference", 1.0), ("training", 2.6)):
            for contender, (ratio, params, macs, peak) in _UPSAMPLERS.items():
                case = make_case(
                    contender, workload=f"neck-{size}", dims={"N": 1, "C": 256, "H": size, "W": size}, mode=mode
                )
                elements = 256 * size * size
                missed = {"aten.softmax": 1} if "carafe" in contender else {}
                yield make_record(
                    case,
                    seconds=1.8e-9 * elements * slower,
                    ratio=ratio,
                    counts=make_counts(
                        macs * elements,
                        params,
                        min_bytes=20 * elements,
                        torch=Counted(macs * elements, missed),
                        fvcore=Counted(macs * elements, missed)
                        if mode == "inference"
                        else Counted(None, note="fvcore counts forward calls only"),
                        stock_torch=Counted(macs * elements // 3, missed),
                    ),
                    memory=make_memory(int(peak * elements * slower), 8 * elements if mode == "training" else 0),
                )
    case = make_case("carafe[mine]", workload="neck-20", dims={"N": 1, "C": 256, "H": 20, "W": 20})
    yield make_incorrect(case)


def _mixing():
    for spread in (0.0, 0.5, 2.0, 8.0):
        shared = {"task": "conv3x3", "workload": "stage-3", "dims": {"N": 1, "C": 128, "H": 40, "W": 40, "G": 8}}
        for contender, ratio, params in (
            ("conv3x3[torch]", 1.0, 147_456),
            ("dwconv3x3[torch]", 0.31, 1152),
            ("dcnv3[cpu]", 1.4 + 0.1 * spread, 49_000),
        ):
            case = make_case(contender, spread=spread, **shared)
            yield make_record(case, seconds=1.1e-3, ratio=ratio, counts=make_counts(params * 1600, params, 3 << 20))
        yield make_failure(make_case("dcnv3[unfold]", spread=spread, **shared), "out-of-memory", "asked for 96 GiB")


def make_artifact(file="carafe-slices-opset17.onnx", **changes):
    fields = {
        "contender": "carafe[slices]",
        "file": file,
        "format": "onnx",
        "exporter": "torch.onnx (TorchScript)",
        "opset": 17,
        "axes": "fixed",
        "bytes": 1 << 18,
        "nodes": 416,
        "sha256": "0" * 64,
        "operations": {"Mul": 25, "Slice": 25},
    }
    return ShippedArtifact(**{**fields, **changes})


def make_device_proof(file="carafe-slices-opset17.onnx", proof="right", **changes):
    reason = "" if proof == "right" else "output[0, 1]: expected 1, got 2, off by 1 where rounding explains 1e-06"
    at = ProvenAt((1, 16, 8, 8), proof, 0.13 if proof == "right" else 1e6, reason)
    fields = {"contender": "carafe[slices]", "runtime": "onnxruntime", "version": "onnxruntime 1.32.0"}
    return DeviceProof(file=file, sha256="0" * 64, provider="CPUExecutionProvider", at=(at,), **{**fields, **changes})


def make_device_run(*proofs, **changes):
    fields = {
        "schema_version": 1,
        "target": "carafe",
        "definition": "the float64 definition of carafe",
        "machine": "Some board",
        "system": "Linux",
        "python": "3.12.1",
        "threads": 1,
        "started": "2026-01-01T00:00:00+00:00",
        "proofs": proofs or (make_device_proof(samples_seconds=(1e-3, 1.1e-3, 1.2e-3)),),
    }
    return DeviceRun(**{**fields, **changes})


def make_deployment(**changes):
    fields = {
        "target": "carafe",
        "swaps": (),
        "shape": {"N": 1, "C": 16, "H": 8, "W": 8},
        "dtype": "float32",
        "definition": "the float64 definition of carafe",
        "threads": 1,
        "machine": "Some processor",
        "started": "2026-01-01T00:00:00+00:00",
        "command": "opbench deploy carafe",
        "artifacts": (make_artifact(),),
        "refused": (),
        "proofs": (make_device_proof(),),
        "latencies": (RuntimeLatency("onnxruntime", "carafe[slices]", "nearest[torch]", "ok", 1e-3),),
    }
    return Deployment(**{**fields, **changes})
