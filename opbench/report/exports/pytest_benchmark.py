"""The JSON of pytest-benchmark: what `pytest-benchmark compare` and its plug-ins read. Times in seconds.

A group is a panel; a round is one sample (`iterations` calls, its time divided by them).

Source: https://pytest-benchmark.readthedocs.io/
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from opbench.quantities import exact
from opbench.report.escape import visible
from opbench.report.exports.rows import ExportedCase, ExportedRun, as_json, finite, timed
from opbench.statistics.ratios import usable_samples

# The version of the layout that is written, as the tool's own releases name it.
LAYOUT = "5.0.0"


def pytest_benchmark(found: ExportedRun) -> bytes:
    """The document of one run."""
    where = found.run.environment
    return as_json(
        {
            "machine_info": {
                "node": visible(where.machine),
                "processor": visible(where.cpu),
                "machine": visible(where.machine),
                "python_implementation": "CPython",
                "python_version": visible(where.python),
                "system": visible(where.platform.partition(" ")[0]),
                "release": visible(where.platform.partition(" ")[2]),
                "cpu": {"brand_raw": visible(where.cpu), "count": where.cores},
                "gpu": visible(where.gpu) if where.gpu else None,
                "threads": where.threads,
                "versions": {visible(name): visible(version) for name, version in sorted(where.versions.items())},
            },
            "commit_info": {
                "id": visible(where.commit) if where.commit else None,
                "time": None,
                "author_time": None,
                "dirty": where.dirty,
                "project": "opbench",
                "branch": None,
            },
            "benchmarks": [benchmark for one in found.passed for benchmark in _benchmarks(one)],
            "datetime": visible(found.run.started),
            "version": LAYOUT,
        }
    )


def _benchmarks(one: ExportedCase) -> Iterator[dict[str, object]]:
    for name, method in timed(one):
        latency = one.latency(method)
        samples = usable_samples(latency)
        if samples:
            yield {
                "group": visible(one.standing.panel.id),
                "name": name,
                "fullname": name,
                "params": {"contender": visible(one.case.contender)},
                "param": visible(one.case.contender),
                "extra_info": _extra(one, method),
                "options": {"timer": visible(method, 80), "disable_gc": False, "warmup": True},
                "stats": _stats(samples, latency.calls_per_sample),
            }


def _extra(one: ExportedCase, method: str) -> dict[str, object]:
    ratio = one.row.timing(method).ratio
    return {
        "baseline": visible(one.standing.panel.baseline),
        "latency_ratio": ratio.value if ratio and finite(ratio.value) else None,
        "latency_ratio_low": ratio.low if ratio and finite(ratio.low) else None,
        "latency_ratio_high": ratio.high if ratio and finite(ratio.high) else None,
        **{name: of.of(one.row.record) for of, name in exact("pytest-benchmark")},
    }


def _stats(samples: Sequence[float], calls: int) -> dict[str, object]:
    ordered = sorted(samples)
    mean = statistics.fmean(ordered)
    deviation = statistics.stdev(ordered, mean) if len(ordered) > 1 else 0.0
    q1, median, q3 = statistics.quantiles(ordered, n=4, method="inclusive") if len(ordered) > 1 else ordered * 3
    fence = 1.5 * (q3 - q1)
    inside = [sample for sample in ordered if q1 - fence <= sample <= q3 + fence]
    far = sum(abs(sample - mean) > deviation for sample in ordered)
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": mean,
        "stddev": deviation,
        "rounds": len(ordered),
        "median": median,
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": len(ordered) - len(inside),
        "stddev_outliers": far,
        "outliers": f"{far};{len(ordered) - len(inside)}",
        "ld15iqr": inside[0],
        "hd15iqr": inside[-1],
        "ops": 1 / mean,
        "total": sum(ordered),
        "iterations": calls,
        "data": list(samples),
    }
