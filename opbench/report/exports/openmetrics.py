"""OpenMetrics text: gauges with a unit that ends their name, one sample a case; ends with `# EOF`.

A failed case has no sample in any gauge of figures and is counted in `opbench_cases{outcome=...}`: a NaN would draw a
gap that nobody is told of, a 0 a triumph.

Source: https://prometheus.io/docs/specs/om/open_metrics_spec/
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import msgspec

from opbench.analyse.history.digest import machine_key
from opbench.analyse.history.store import moment
from opbench.analyse.standings import Timing
from opbench.quantities import RATIO, SECONDS, Quantity, exact, published
from opbench.report.escape import visible
from opbench.report.exports.rows import ExportedCase, finite, measured, passed
from opbench.schema import Record, Run

Labels = dict[str, str]


class MetricFamily(msgspec.Struct, frozen=True):
    """One metric family; `figure` is of a record (counts) or of a timing. A `unit` is the end of the name."""

    name: str
    unit: str
    help: str
    of_record: Callable[[Record], float | None] | None = None
    of_timing: Callable[[Timing], float | None] | None = None


def _timed(of: Quantity, end: int) -> Callable[[Timing], float | None]:
    def value(timing: Timing) -> float | None:
        found = of.of_timing(timing)
        return found[end] if found else None

    return value


# What else is told of a timed quantity: the ends of its interval, with where they stand in its name.
_ENDS = {
    RATIO: (("lower", "Lower end of the ratio's 95 % interval."), ("upper", "Upper end of the ratio's 95 % interval.")),
    SECONDS: (
        ("lower_quartile", "Lower quartile of a call's time."), ("upper_quartile", "Upper quartile of a call's time."),
    ),
}  # fmt: skip


def _families() -> Iterator[MetricFamily]:
    """Every family, times first."""
    for of, name in published("openmetrics", "time"):
        yield MetricFamily(name, of.unit, of.help, of_timing=_timed(of, 0))
        for end, (part, told) in enumerate(_ENDS[of], start=1):
            yield MetricFamily(
                f"{name.removesuffix(of.unit)}{part}_{of.unit}", of.unit, told, of_timing=_timed(of, end)
            )
    for of, name in exact("openmetrics"):
        yield MetricFamily(name, of.unit if of.unit == "bytes" else "", of.help, of_record=of.of)


GAUGES = tuple(_families())


def openmetrics(run: Run) -> bytes:
    """The exposition of one run."""
    return "".join(f"{line}\n" for line in (*_run(run), *_outcomes(run), *_gauges(run), "# EOF")).encode()


def _gauges(run: Run) -> Iterator[str]:
    cases = passed(run)
    for gauge in GAUGES:
        lines = [line for one in cases for line in _samples(gauge, one)]
        if lines:
            yield f"# TYPE {gauge.name} gauge"
            if gauge.unit:
                yield f"# UNIT {gauge.name} {gauge.unit}"
            yield f"# HELP {gauge.name} {gauge.help}"
            yield from lines


def _samples(gauge: MetricFamily, one: ExportedCase) -> Iterator[str]:
    if gauge.of_record and one.row.record:
        yield from _sample(gauge.name, _labels(one), gauge.of_record(one.row.record))
    if gauge.of_timing:
        for timing in one.row.timings:
            labels = {**_labels(one), "method": timing.method}
            yield from _sample(gauge.name, labels, gauge.of_timing(timing))


def _sample(name: str, labels: Labels, value: float | None) -> Iterator[str]:
    if value is not None and finite(value):
        yield f"{name}{{{_written(labels)}}} {value!r}"


def _labels(one: ExportedCase) -> Labels:
    """The case's id says it all; the other labels are what a dashboard filters by."""
    case = one.case
    return {
        **({"memory_format": case.unusual_format} if case.unusual_format else {}),
        "case": one.name,
        "task": case.task,
        "workload": case.workload,
        "contender": case.contender,
        "dtype": case.dtype,
        "device": case.device,
        "mode": case.mode,
    }


def _run(run: Run) -> Iterator[str]:
    where = run.environment
    labels = {
        "machine": machine_key(where),
        "cpu": where.cpu,
        "gpu": where.gpu or "",
        "threads": str(where.threads),
        "commit": where.commit or "",
        "suite": run.settings.suite,
        "torch": where.versions.get("torch", ""),
    }
    yield "# TYPE opbench_run info"
    yield "# HELP opbench_run Where and of what the figures are."
    yield f"opbench_run_info{{{_written(labels)}}} 1"
    started = moment(run.started)
    if started:
        yield "# TYPE opbench_run_started_seconds gauge"
        yield "# UNIT opbench_run_started_seconds seconds"
        yield "# HELP opbench_run_started_seconds Unix time at which the run began."
        yield f"opbench_run_started_seconds {started.timestamp()!r}"


def _outcomes(run: Run) -> Iterator[str]:
    counted = Counter(one.row.outcome for one in measured(run))
    yield "# TYPE opbench_cases gauge"
    yield "# HELP opbench_cases Cases by what became of them."
    for outcome, count in sorted(counted.items()):
        yield f"opbench_cases{{{_written({'outcome': outcome})}}} {count}"


def _written(labels: Labels) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(text: str) -> str:
    r"""A label's value: backslash, quote and line feed are escaped; other hidden characters are shown as codes."""
    shown = visible(text, 2000)
    return shown.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
