"""The drawings: ratios, scaling, Pareto fronts, accuracy, roofline, memory, each from a family of panels to pictures.

Every axis names its unit. A family without data for a drawing yields nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from opbench.analyse.standings import Standing
from opbench.quantities import MACS, MIN_BYTES, PEAK, SAVED
from opbench.report import numbers
from opbench.report.drawing import (
    GUIDE,
    LABEL_LIMIT,
    PALETTE,
    WIDTH,
    Datum,
    Picture,
    Spec,
    contender_axis,
    contender_marks,
    dataset,
    layer,
    log_axis,
    millisecond_axis,
    name_of,
    names,
    panel_title,
    picture,
    quantity,
    ticks,
)
from opbench.report.escape import visible
from opbench.report.families import Family, sweeps
from opbench.report.plot_data import accuracy_data, memory_data, pareto_data, ratio_datum, roofline_data
from opbench.report.tables import ERROR_UNIT, MACS_UNIT
from opbench.schema import Run
from opbench.statistics.ratios import FEWEST_ROUNDS
from opbench.statistics.roofline import yardstick

SPEEDS = {"faster": "#0072B2", "slower": "#D55E00", "undecided": "#999999"}
AXES = {
    "N": "batch size N",
    "C": "channels C",
    "H": "input height H, pixels",
    "W": "input width W, pixels",
    "G": "groups G",
    "spread": "offset spread (standard deviation), pixels",
}


class Plot(msgspec.Struct, frozen=True):
    """One kind of drawing; `timed`: once for each timing method, `paged`: a panel takes a drawing of its own."""

    kind: str
    timed: bool
    paged: bool
    draw: Callable[[Family, Run], Iterator[Picture]]


def ratio_bars(family: Family, run: Run) -> Iterator[Picture]:
    """Latency ratio to the baseline on a log axis, bars from 1, with their intervals; failures by name."""
    groups = [(s, [ratio_datum(row, family.method) for row in s.rows]) for s in family.standings]
    data = [datum for _, group in groups for datum in group]
    if all(datum["speed"] == "none" for datum in data):
        return
    low, high = min(0.8, *(datum["low"] for datum in data)), max(1.25, *(datum["high"] for datum in data))
    x = log_axis("ratio", low / 1.05, high * 1.05, "latency / baseline latency, below 1 is faster")
    colour = names("speed", "vs baseline", scale={"domain": list(SPEEDS), "range": list(SPEEDS.values())})
    timed = {"filter": "datum.speed != 'none'"}
    parts = []
    for index, (standing, group) in enumerate(groups):
        y = contender_axis(group)
        interval = {"x": x, "x2": {"field": "high"}, "y": y}
        words = {"x": {"value": WIDTH}, "y": y, "text": {"field": "label", "type": "nominal"}}
        layers = [
            layer(
                {"type": "bar", "height": {"band": 0.6}}, {"x": x, "x2": {"datum": 1}, "y": y, "color": colour}, timed
            ),
            layer({"type": "rule", "strokeWidth": 1.5}, interval, timed, {"calculate": "datum.low", "as": "ratio"}),
            layer({"type": "rule"}, {"x": {"datum": 1}}),
            layer({"type": "text", "align": "left", "dx": 8}, words),
        ]
        parts.append(_drawing(layers, index, {"step": 20}, standing))
    baseline = visible(family.standings[0].panel.baseline, LABEL_LIMIT) or "no baseline"
    note = f"lines: 95 % intervals; fewer than {FEWEST_ROUNDS} rounds give a range that decides nothing"
    yield picture(f"Latency against {baseline}", family, note, parts, [group for _, group in groups])


def scaling(family: Family, run: Run) -> Iterator[Picture]:
    """Median latency against a dimension that the suite sweeps while all others stay put."""
    for sweep in sweeps(family.standings):
        data = [
            {"contender": name_of(row), "x": value, "milliseconds": 1e3 * latency.median_seconds}
            for value, standing in sweep.panels
            for row in standing.rows
            if (latency := row.timing(family.method).latency)
        ]
        if not data:
            continue
        values = [value for value, _ in sweep.panels]
        logarithmic = min(values) > 0
        name = visible(AXES.get(sweep.axis, sweep.axis), LABEL_LIMIT)
        axis = {"values": values, "labelExpr": "format(datum.value, '~g')", "labelOverlap": "greedy"}
        scale = {"type": "log" if logarithmic else "linear", "nice": False, "zero": False, "padding": 16}
        x = quantity("x", name + (" (log scale)" if logarithmic else ""), axis=axis, scale=scale)
        y, marks = millisecond_axis(data), contender_marks(data)
        layers = [
            layer({"type": "line"}, {"x": x, "y": y, "color": marks["color"]}),
            layer(_point(70), {"x": x, "y": y, **marks}),
        ]
        fixed = visible(sweep.fixed, 2 * LABEL_LIMIT)
        part = _drawing(layers, 0, 260)
        yield picture(f"Latency against {name}", family, fixed, [part], [data], variant=sweep.axis)


def pareto(family: Family, run: Run) -> Iterator[Picture]:
    """Median latency against MACs, both log, with the front of contenders that nothing beats on both."""
    groups = [(standing, pareto_data(standing, family.method)) for standing in family.standings]
    groups = [(standing, data) for standing, data in groups if len(data) > 1]
    if not groups:
        return
    marks = contender_marks([datum for _, data in groups for datum in data])
    parts = []
    for index, (standing, data) in enumerate(groups):
        x, y = _macs_axis(data), millisecond_axis(data)
        front = {"type": "line", "interpolate": "step-after", "color": GUIDE, "strokeDash": [4, 3]}
        layers = [
            layer(front, {"x": x, "y": y, "order": quantity("x")}, {"filter": "datum.front"}),
            layer(_point(90), {"x": x, "y": y, **marks}),
        ]
        parts.append(_drawing(layers, index, 220, standing))
    note = "dashed: the Pareto front, where nothing else has both fewer MACs and less latency"
    yield picture("Latency against MACs", family, note, parts, [data for _, data in groups], columns=2)


def accuracy(family: Family, run: Run) -> Iterator[Picture]:
    """Median latency against the largest error of the output, both log: what speed costs in digits, or doesn't."""
    groups = [(standing, accuracy_data(standing, family.method)) for standing in family.standings]
    groups = [(standing, data) for standing, data in groups if len(data) > 1]
    if not groups:
        return
    marks = contender_marks([datum for _, data in groups for datum in data])
    parts = []
    for index, (standing, data) in enumerate(groups):
        x, y = _error_axis(data), millisecond_axis(data)
        parts.append(_drawing([layer(_point(90), {"x": x, "y": y, **marks})], index, 220, standing))
    note = "each contender against its own operator's float64 definition: further left is closer"
    yield picture("Latency against error", family, note, parts, [data for _, data in groups], columns=2)


def roofline(family: Family, run: Run) -> Iterator[Picture]:
    """MACs per second against MACs per byte of least traffic, under what the machine itself reached."""
    # In training the least traffic of the backward pass has no closed form to divide by.
    copy, matmul = (yardstick(run, name, family.device, family.dtype) for name in ("copy", "matmul"))
    data = [datum for standing in family.standings for datum in roofline_data(standing, family.method)]
    if not data or not copy or not matmul or family.mode != "inference":
        return
    ridge = matmul / copy
    reach = [ridge / 4, ridge * 4, *(datum["intensity"] for datum in data)]
    left, right = min(reach) / 2, max(reach) * 2
    roof = [{"intensity": at, "speed": min(at * copy, matmul)} for at in (left, ridge, right)]
    speeds = [datum["speed"] for datum in (*data, *roof)]
    x = log_axis("intensity", left, right, f"{MACS.title} per byte of {MIN_BYTES.title}")
    unit, label = f"MACs per second, {MACS_UNIT}", "format(datum.value, '~s')"
    y = log_axis("speed", min(speeds) / 1.5, max(speeds) * 1.5, unit, label)
    layers = [
        layer({"type": "line", "color": GUIDE, "strokeDash": [4, 3]}, {"x": x, "y": y}, data=dataset(1)),
        layer(_point(70), {"x": x, "y": y, **contender_marks(data)}, data=dataset(0)),
    ]
    limits = f"copies {numbers.rate(copy, 'bytes/second')}, multiplies {numbers.rate(matmul, 'macs/second')}"
    note = f"dashed: this machine {limits}; a point per contender and workload"
    yield picture("Roofline", family, note, [_drawing(layers, None, 260)], [data, roof])


def memory_bars(family: Family, run: Run) -> Iterator[Picture]:
    """Peak bytes above inputs and parameters, and in training what is saved for backward."""
    groups = [(s, [datum for row in s.rows for datum in memory_data(row)]) for s in family.standings]
    groups = [(standing, data) for standing, data in groups if any(datum["bytes"] for datum in data)]
    if not groups:
        return
    kinds = list(dict.fromkeys(datum["kind"] for _, data in groups for datum in data))
    scale = {"domain": kinds, "range": list(PALETTE[: len(kinds)])}
    colour = names("kind", None, scale=scale, legend={} if len(kinds) > 1 else None)
    offset = {"yOffset": {"field": "kind", "type": "nominal", "sort": kinds}} if len(kinds) > 1 else {}
    parts = []
    for index, (standing, data) in enumerate(groups):
        unit, step = _memory_unit(max(datum["bytes"] for datum in data))
        for datum in data:
            datum["size"] = datum["bytes"] / step
        axis = {"labelExpr": "format(datum.value, '~g')", "tickCount": 6}
        shared = {
            "x": quantity("size", f"memory above inputs and parameters, {unit}", axis=axis),
            "y": contender_axis(data),
            **offset,
        }
        layers = [
            layer({"type": "bar", "height": {"band": 0.8}}, {**shared, "color": colour}),
            layer(
                {"type": "text", "align": "left", "dx": 4}, {**shared, "text": {"field": "label", "type": "nominal"}}
            ),
        ]
        parts.append(_drawing(layers, index, {"step": 15 if offset else 20}, standing))
    title = PEAK.title.capitalize() + (f", and {SAVED.label}" if len(kinds) > 1 else "")
    yield picture(title, family, "", parts, [data for _, data in groups])


PLOTS = (
    Plot("ratio", timed=True, paged=True, draw=ratio_bars),
    Plot("scaling", timed=True, paged=False, draw=scaling),
    Plot("pareto", timed=True, paged=True, draw=pareto),
    Plot("accuracy", timed=True, paged=True, draw=accuracy),
    Plot("roofline", timed=True, paged=False, draw=roofline),
    Plot("memory", timed=False, paged=True, draw=memory_bars),
)


def _drawing(layers: Sequence[Spec], index: int | None, height: float | Spec, standing: Standing | None = None) -> Spec:
    """One panel's drawing: its marks, its data set (None: each layer names its own), its size and its heading."""
    found: Spec = dict(layers[0]) if len(layers) == 1 else {"layer": list(layers)}
    found |= {"width": WIDTH, "height": height}
    if index is not None:
        found["data"] = dataset(index)
    return {**found, "title": panel_title(standing)} if standing else found


def _point(size: int) -> Spec:
    return {"type": "point", "size": size, "filled": True, "opacity": 1}


def _macs_axis(data: list[Datum]) -> Spec:
    return _axis_with_zero(data, "macs", f"MACs per call, {MACS_UNIT}", "format(datum.value, '~s')")


def _error_axis(data: list[Datum]) -> Spec:
    return _axis_with_zero(
        data, "error", f"largest error, {ERROR_UNIT}", "format(datum.value, datum.value < 1e-2 ? '~e' : '~g')"
    )


def _axis_with_zero(data: list[Datum], field: str, title: str, label: str) -> Spec:
    high = max(datum["x"] for datum in data)
    least = min((datum[field] for datum in data if datum[field]), default=high)
    zero = min(datum["x"] for datum in data)
    if zero >= least:
        return log_axis("x", least / 1.6, high * 1.6, title, label)
    values = [zero, *ticks(2 * zero, high * 1.6)]
    return log_axis("x", zero / 1.6, high * 1.6, title, f"datum.value <= {zero} ? '0' : {label}", values)


def _memory_unit(most: float) -> tuple[str, int]:
    power = min(max(int(most), 1).bit_length() - 1, 39) // 10
    return ("bytes", "KiB", "MiB", "GiB")[power], 1 << (10 * power)
