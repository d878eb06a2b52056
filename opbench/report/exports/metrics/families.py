"""The metrics of a run as data: gauges with a unit that ends their name, one sample a case.

A failed case has no sample in any gauge of figures and is counted in `opbench_cases{outcome=...}`: a NaN would draw a
gap that nobody is told of, a 0 a triumph.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Literal

import msgspec

from opbench.analyse.history.digest import machine_key
from opbench.analyse.history.store import moment
from opbench.analyse.standings import Timing
from opbench.quantities import RATIO, SECONDS, Quantity, exact, published
from opbench.report.escape import visible
from opbench.report.exports.rows import ExportedCase, ExportedRun, finite
from opbench.schema import Record

Labels = dict[str, str]


class MetricGauge(msgspec.Struct, frozen=True):
    """A metric of a figure; `of_record` is of a record (counts), `of_timing` of a timing. A `unit` ends the name."""

    name: str
    unit: str
    help: str
    of_record: Callable[[Record], float | None] | None = None
    of_timing: Callable[[Timing], float | None] | None = None


class MetricSample(msgspec.Struct, frozen=True):
    """One value of a metric family."""

    labels: Labels
    value: float


class MetricFamily(msgspec.Struct, frozen=True):
    """A metric and its samples."""

    name: str
    type: Literal["gauge", "info"]
    unit: str
    help: str
    samples: tuple[MetricSample, ...]

    @property
    def sample_name(self) -> str:
        """The name of every sample: the family's, of an `info` with `_info`."""
        return f"{self.name}_info" if self.type == "info" else self.name


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


def _gauges() -> Iterator[MetricGauge]:
    """Every gauge of a figure, times first."""
    for of, name in published("openmetrics", "time"):
        yield MetricGauge(name, of.unit, of.help, of_timing=_timed(of, 0))
        for end, (part, told) in enumerate(_ENDS[of], start=1):
            yield MetricGauge(f"{name.removesuffix(of.unit)}{part}_{of.unit}", of.unit, told, of_timing=_timed(of, end))
    for of, name in exact("openmetrics"):
        yield MetricGauge(name, of.unit if of.unit == "bytes" else "", of.help, of_record=of.of)


GAUGES = tuple(_gauges())


def families(found: ExportedRun) -> Iterator[MetricFamily]:
    """Every metric that the run has a sample of: where it is from, its outcomes, its figures."""
    yield from _run(found)
    yield from _outcomes(found)
    for gauge in GAUGES:
        samples = tuple(sample for one in found.passed for sample in _samples(gauge, one))
        if samples:
            yield MetricFamily(gauge.name, "gauge", gauge.unit, gauge.help, samples)


def _samples(gauge: MetricGauge, one: ExportedCase) -> Iterator[MetricSample]:
    if gauge.of_record and one.row.record:
        yield from _sample(_labels(one), gauge.of_record(one.row.record))
    if gauge.of_timing:
        for timing in one.row.timings:
            labels = {**_labels(one), "method": timing.method}
            yield from _sample(labels, gauge.of_timing(timing))


def _sample(labels: Labels, value: float | None) -> Iterator[MetricSample]:
    if value is not None and finite(value):
        yield MetricSample(labels, value)


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


def _run(found: ExportedRun) -> Iterator[MetricFamily]:
    where = found.run.environment
    labels = {
        "machine": machine_key(where),
        "cpu": where.cpu,
        "gpu": where.gpu or "",
        "threads": str(where.threads),
        "commit": where.commit or "",
        "suite": found.run.settings.suite,
        "torch": where.versions.get("torch", ""),
    }
    yield MetricFamily("opbench_run", "info", "", "Where and of what the figures are.", (MetricSample(labels, 1),))
    started = moment(found.run.started)
    if started:
        told = "Unix time at which the run began."
        yield MetricFamily(
            "opbench_run_started_seconds", "gauge", "seconds", told, (MetricSample({}, started.timestamp()),)
        )


def _outcomes(found: ExportedRun) -> Iterator[MetricFamily]:
    counted = Counter(one.row.outcome for one in found.cases)
    samples = tuple(MetricSample({"outcome": outcome}, count) for outcome, count in sorted(counted.items()))
    yield MetricFamily("opbench_cases", "gauge", "", "Cases by what became of them.", samples)


def written(labels: Labels) -> str:
    """Labels as they stand behind a metric's name in either text format; "" without any."""
    inside = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inside}}}" if inside else ""


def _escaped(text: str) -> str:
    r"""A label's value: backslash, quote and line feed are escaped; other hidden characters are shown as codes."""
    shown = visible(text, 2000)
    return shown.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
