"""The text format of Prometheus (0.0.4), for node_exporter's textfile collector and for what scrapes a plain file.

It knows neither units nor `info`: what is told of the run is a gauge that is 1. No sample has a time, which the
textfile collector refuses.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from opbench.report.exports.metrics.families import families, written
from opbench.report.exports.rows import ExportedRun


def prometheus(run: ExportedRun) -> bytes:
    """The exposition of one run."""
    lines = []
    for family in families(run):
        name = family.sample_name
        lines += [f"# HELP {name} {family.help}", f"# TYPE {name} gauge"]
        lines += [f"{name}{written(sample.labels)} {sample.value!r}" for sample in family.samples]
    return "".join(f"{line}\n" for line in lines).encode()
