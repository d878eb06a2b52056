"""A Grafana dashboard for the metrics that `prometheus` and `openmetrics` write; to be imported as it is.

The run says which quantities there are a chart for; what is shown comes from Prometheus alone. At the top stand the
data source and what to filter by, task first: charts of two tasks have nothing to do with each other.

Source: https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/ (classic)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from opbench.report.exports.metrics.families import GAUGES, MetricGauge, families
from opbench.report.exports.rows import ExportedRun, as_json

Document = dict[str, Any]

# The version of the layout that Grafana 10 writes; newer ones read and move it on.
LAYOUT = 39
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
# What is filtered by, in the order of the page; every choice but the first offers what the ones before it leave.
_FILTERS = ("instance", "task", "workload", "dtype", "device", "mode", "contender")
_UNITS = {"seconds": "s", "bytes": "bytes", "ratio": "none", "": "short"}
_COLUMNS = 24  # of Grafana's grid


def grafana(run: ExportedRun) -> bytes:
    """The dashboard."""
    present = {family.name for family in families(run)}
    charts = [gauge for gauge in GAUGES if gauge.name in present]
    panels = [_outcomes(), _where()]
    for gauge in charts:
        if not _is_end(gauge):
            band = [one.name for one in charts if gauge.of_timing and one.unit == gauge.unit and _is_end(one)]
            panels.append(_chart(gauge.name, gauge.unit, gauge.help, band))
    return as_json(
        {
            "uid": "opbench",
            "title": "opbench",
            "description": "What operators cost, as `opbench export` writes it for Prometheus.",
            "tags": ["opbench"],
            "schemaVersion": LAYOUT,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,
            "timezone": "browser",
            "refresh": "5m",
            "time": {"from": "now-90d", "to": "now"},
            "templating": {"list": list(_variables(charts[0].name if charts else "opbench_cases"))},
            "annotations": {"list": []},
            "links": [],
            "panels": _laid_out(panels),
        }
    )


def _is_end(gauge: MetricGauge) -> bool:
    """Whether it is an end of an interval, which stands in the chart of its middle."""
    return "_lower_" in gauge.name or "_upper_" in gauge.name


def _variables(metric: str) -> Iterator[Document]:
    """The data source, then what to filter by, as far as the metric has values of it."""
    yield {
        "name": "datasource",
        "label": "data source",
        "type": "datasource",
        "query": "prometheus",
        "hide": 0,
        "multi": False,
        "includeAll": False,
    }
    for at, name in enumerate(_FILTERS):
        one = name == "task"  # no chart is of two
        query = f"label_values({metric}{_matching(_FILTERS[:at])}, {name})"
        yield {
            "name": name,
            "label": name,
            "type": "query",
            "datasource": _SOURCE,
            "query": {"query": query, "refId": name},
            "refresh": 2,
            "sort": 1,
            "hide": 0,
            "multi": not one,
            "includeAll": not one,
            **({} if one else {"current": {"text": ["All"], "value": ["$__all"]}}),
        }


def _matching(names: tuple[str, ...]) -> str:
    chosen = ", ".join(f'{name}=~"${name}"' for name in names)
    return f"{{{chosen}}}" if chosen else ""


def _target(expression: str, legend: str, *, instant: bool = False) -> Document:
    return {
        "refId": "A",
        "datasource": _SOURCE,
        "expr": expression,
        "legendFormat": legend,
        "range": not instant,
        "instant": instant,
        **({"format": "table"} if instant else {}),
    }


def _chart(name: str, unit: str, title: str, band: list[str]) -> Document:
    """A quantity over time: a line for each contender, and of its interval the ends, dashed."""
    chosen, legend = _matching(_FILTERS), "{{contender}} {{workload}} {{dtype}} {{mode}}"
    targets = [_target(f"{name}{chosen}", legend)]
    for at, end in enumerate(band):
        part = "lower" if "_lower" in end else "upper"
        targets.append({**_target(f"{end}{chosen}", f"{legend} ({part})"), "refId": "BC"[at]})
    dashed: Document = {
        "matcher": {"id": "byRegexp", "options": r"/\((lower|upper)\)$/"},
        "properties": [
            {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [4, 4]}},
            {"id": "custom.hideFrom", "value": {"legend": True, "tooltip": False, "viz": False}},
        ],
    }
    return {
        "type": "timeseries",
        "title": title.removesuffix("."),
        "datasource": _SOURCE,
        "fieldConfig": {
            "defaults": {"unit": _UNITS[unit], "custom": {"lineWidth": 1, "spanNulls": True, "showPoints": "always"}},
            "overrides": [dashed] if band else [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": targets,
        "gridPos": {"w": _COLUMNS // 2, "h": 10},
    }


def _outcomes() -> Document:
    return {
        "type": "stat",
        "title": "Cases by outcome",
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": {"unit": "short"}, "overrides": []},
        "options": {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "none",
            "graphMode": "none",
            "orientation": "auto",
            "textMode": "auto",
        },
        "targets": [_target(f"sum by (outcome) (opbench_cases{_matching(_FILTERS[:1])})", "{{outcome}}")],
        "gridPos": {"w": _COLUMNS // 3, "h": 5},
    }


def _where() -> Document:
    return {
        "type": "table",
        "title": "Machines, versions, commits",
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": {}, "overrides": []},
        "options": {"showHeader": True},
        "targets": [_target(f"opbench_run_info{_matching(_FILTERS[:1])}", "", instant=True)],
        "gridPos": {"w": _COLUMNS - _COLUMNS // 3, "h": 5},
    }


def _laid_out(panels: list[Document]) -> list[Document]:
    """The panels with their numbers and places, row by row."""
    left = top = height = 0
    placed = []
    for number, panel in enumerate(panels, start=1):
        size = panel["gridPos"]
        if left + size["w"] > _COLUMNS:
            left, top, height = 0, top + height, 0
        placed.append({"id": number, **panel, "gridPos": {**size, "x": left, "y": top}})
        left, height = left + size["w"], max(height, size["h"])
    return placed
