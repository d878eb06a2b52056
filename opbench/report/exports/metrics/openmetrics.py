"""OpenMetrics text, which ends with `# EOF`: of one run without a time, to be scraped; of several, each at its time.

Prometheus takes the second kind by `promtool tsdb create-blocks-from openmetrics`, which wants a time for every sample.
A target that is scraped has none: Prometheus drops samples that are more than an hour old.

Source: https://prometheus.io/docs/specs/om/open_metrics_spec/
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from opbench.analyse.history.digest import machine_key
from opbench.analyse.history.store import moment
from opbench.report.escape import visible
from opbench.report.exports.metrics.families import Labels, MetricFamily, families, written
from opbench.report.exports.rows import ExportedRun
from opbench.schema import OpbenchError

Dated = tuple[str, float, float]  # labels, time, value


def openmetrics(run: ExportedRun) -> bytes:
    """The exposition of one run."""
    lines: list[str] = []
    for family in families(run):
        lines += _head(family)
        lines += [f"{family.sample_name}{written(sample.labels)} {sample.value!r}" for sample in family.samples]
    return _ended(lines)


def backfill(runs: Sequence[ExportedRun]) -> bytes:
    """Every sample at the time at which its run began, `instance` being the machine; for a database of the past.

    Raises `OpbenchError` where a run has no time, or two runs of a machine began at the same one.
    """
    heads: dict[str, MetricFamily] = {}
    samples: dict[str, list[Dated]] = {}
    seen: set[tuple[str, float]] = set()
    for one in runs:
        began, machine = moment(one.run.started), machine_key(one.run.environment)
        if began is None:
            raise OpbenchError(f"a run without a time can't be placed in the past: it began {visible(one.run.started)}")
        if (machine, began.timestamp()) in seen:
            raise OpbenchError(f"two runs of {machine} began at {one.run.started}: a series holds one value a moment")
        seen.add((machine, began.timestamp()))
        whose: Labels = {"job": "opbench", "instance": machine}
        for family in families(one):
            heads.setdefault(family.name, family)
            for sample in family.samples:
                dated = (written({**whose, **sample.labels}), began.timestamp(), sample.value)
                samples.setdefault(family.name, []).append(dated)
    lines: list[str] = []
    for name, family in heads.items():
        lines += _head(family)
        # A series' samples stand together, the oldest first.
        lines += [f"{family.sample_name}{labels} {value!r} {at!r}" for labels, at, value in sorted(samples[name])]
    return _ended(lines)


def _head(family: MetricFamily) -> Iterator[str]:
    yield f"# TYPE {family.name} {family.type}"
    if family.unit:
        yield f"# UNIT {family.name} {family.unit}"
    yield f"# HELP {family.name} {family.help}"


def _ended(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in (*lines, "# EOF")).encode()
