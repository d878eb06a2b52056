"""The drawings with contenders down the side: ratios with their intervals, and memory.

A bar has the colour of its operator, as every mark has; the rows of what opbench is about stand on a ground of their
own. The shortest bar is first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from opbench.quantities import PEAK, SAVED
from opbench.report.drawing import (
    LABEL_LIMIT,
    WIDTH,
    Datum,
    Picture,
    Spec,
    contender_axis,
    layer,
    log_axis,
    panel_drawing,
    picture,
    quantity,
)
from opbench.report.escape import visible
from opbench.report.families import Family
from opbench.report.marks import PALETTE, marks, operator_of
from opbench.report.plot_data import memory_data, ratio_datum
from opbench.schema import Run
from opbench.statistics.ratios import FEWEST_ROUNDS

# Behind the rows of what opbench is about; the pages have the same ground.
ACCENT = "#fff5db"
PALE = 0.3
# Data hold the colours themselves.
_OWN: Spec = {"field": "colour", "type": "nominal", "scale": None, "legend": None}


def ratio_bars(family: Family, run: Run) -> Iterator[Picture]:
    """Latency ratio to the baseline on a log axis, bars from 1, with their intervals; failures by name."""
    groups = [(s, sorted((ratio_datum(row, family.method) for row in s.rows), key=_by_ratio)) for s in family.standings]
    data = [datum for _, group in groups for datum in group]
    if all(datum["speed"] == "none" for datum in data):
        return
    _colour(data)
    low, high = min(0.8, *(datum["low"] for datum in data)), max(1.25, *(datum["high"] for datum in data))
    x = log_axis("ratio", low / 1.05, high * 1.05, "latency / baseline latency, below 1 is faster")
    pale = {"condition": {"test": "datum.speed == 'undecided'", "value": PALE}, "value": 1}
    timed = {"filter": "datum.speed != 'none'"}
    parts = []
    for index, (standing, group) in enumerate(groups):
        y = contender_axis(group)
        interval = {"x": x, "x2": {"field": "high"}, "y": y}
        words = {"x": {"value": WIDTH}, "y": y, "text": {"field": "label", "type": "nominal"}}
        bar = {"x": x, "x2": {"datum": 1}, "y": y, "fill": _OWN, "stroke": _OWN, "fillOpacity": pale}
        layers = [
            *_grounds(group, y),
            layer({"type": "bar", "height": {"band": 0.6}, "strokeWidth": 1}, bar, timed),
            layer({"type": "rule", "strokeWidth": 1.5}, interval, timed, {"calculate": "datum.low", "as": "ratio"}),
            layer({"type": "rule"}, {"x": {"datum": 1}}),
            layer({"type": "text", "align": "left", "dx": 8}, words),
        ]
        parts.append(panel_drawing(layers, index, {"step": 20}, standing))
    baseline = visible(family.standings[0].panel.baseline, LABEL_LIMIT) or "no baseline"
    note = f"lines: 95 % intervals; pale: undecided, as is whatever has fewer than {FEWEST_ROUNDS} rounds"
    yield picture(f"Latency against {baseline}", family, note, parts, [group for _, group in groups])


def memory_bars(family: Family, run: Run) -> Iterator[Picture]:
    """Peak bytes above inputs and parameters, and in training what is saved for backward."""
    groups = [(s, [datum for row in s.rows for datum in memory_data(row)]) for s in family.standings]
    groups = [(standing, data) for standing, data in groups if any(datum["bytes"] for datum in data)]
    if not groups:
        return
    kinds = list(dict.fromkeys(datum["kind"] for _, data in groups for datum in data))
    offset = {"yOffset": {"field": "kind", "type": "nominal", "sort": kinds}} if len(kinds) > 1 else {}
    opacity = {
        "fillOpacity": {
            "field": "kind", "type": "nominal", "scale": {"domain": kinds, "range": [1, PALE][: len(kinds)]},
            "legend": None,
        }
    }  # fmt: skip
    parts = []
    for index, (standing, data) in enumerate(groups):
        _colour(data)
        _sort_by_bytes(data)
        unit, step = _memory_unit(max(datum["bytes"] for datum in data))
        for datum in data:
            datum["size"] = datum["bytes"] / step
        axis = {"labelExpr": "format(datum.value, '~g')", "tickCount": 6}
        y = contender_axis(data)
        shared = {"x": quantity("size", f"memory above inputs and parameters, {unit}", axis=axis), "y": y, **offset}
        layers = [
            *_grounds(data, y),
            layer(
                {"type": "bar", "height": {"band": 0.8}, "strokeWidth": 1},
                {**shared, "fill": _OWN, "stroke": _OWN, **opacity},
            ),
            layer(
                {"type": "text", "align": "left", "dx": 4}, {**shared, "text": {"field": "label", "type": "nominal"}}
            ),
        ]
        parts.append(panel_drawing(layers, index, {"step": 15 if offset else 20}, standing))
    title = PEAK.title.capitalize() + (f", and {SAVED.label}" if len(kinds) > 1 else "")
    note = f"full: {kinds[0]}; pale: {kinds[1]}" if len(kinds) > 1 else ""
    yield picture(title, family, note, parts, [data for _, data in groups])


def _grounds(data: Sequence[Datum], y: Spec) -> list[Spec]:
    if not any(datum["accent"] for datum in data):
        return []
    ground = {"type": "bar", "color": ACCENT, "height": {"band": 1}}
    return [layer(ground, {"y": y, "x": {"value": 0}, "x2": {"value": WIDTH}}, {"filter": "datum.accent"})]


def _colour(data: Sequence[Datum]) -> None:
    of = marks(operator_of(datum["contender"]) for datum in data)
    for datum in data:
        mark = of[operator_of(datum["contender"])]
        datum["colour"], datum["accent"] = PALETTE[mark.colour], bool(mark.subject)


def _by_ratio(datum: Datum) -> tuple[bool, bool, float]:
    """The baseline, then the fastest first; what has no ratio stands last."""
    return (datum["label"] != "baseline", datum["speed"] == "none", datum["ratio"])


def _sort_by_bytes(data: list[Datum]) -> None:
    """By the first amount of each contender; what was not measured, or failed, stands last."""
    first: dict[str, float] = {}
    for datum in data:
        first.setdefault(datum["contender"], datum["bytes"] if datum["known"] else math.inf)
    data.sort(key=lambda datum: first[datum["contender"]])


def _memory_unit(most: float) -> tuple[str, int]:
    power = min(max(int(most), 1).bit_length() - 1, 39) // 10
    return ("bytes", "KiB", "MiB", "GiB")[power], 1 << (10 * power)
