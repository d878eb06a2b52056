"""The drawings: ratios, scaling, Pareto fronts, accuracy, roofline, memory, each from a family of panels to pictures.

Every axis names its unit. A family without data for a drawing yields nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from opbench.quantities import MACS, MIN_BYTES
from opbench.report import numbers
from opbench.report.bars import memory_bars, ratio_bars
from opbench.report.drawing import (
    GUIDE,
    LABEL_LIMIT,
    Datum,
    Picture,
    Spec,
    contender_lines,
    contender_marks,
    dataset,
    layer,
    log_axis,
    millisecond_axis,
    name_of,
    panel_drawing,
    picture,
    quantity,
    ticks,
)
from opbench.report.escape import visible
from opbench.report.families import Family, sweeps
from opbench.report.plot_data import accuracy_data, pareto_data, roofline_data
from opbench.report.tables import ERROR_UNIT, MACS_UNIT
from opbench.schema import Run
from opbench.statistics.roofline import yardstick

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
        y, tell = millisecond_axis(data), contender_marks(data)
        layers = [
            layer({"type": "line"}, {"x": x, "y": y, **contender_lines(data)}),
            layer(_point(70), {"x": x, "y": y, **tell}),
        ]
        fixed = visible(sweep.fixed, 2 * LABEL_LIMIT)
        part = panel_drawing(layers, 0, 260)
        yield picture(f"Latency against {name}", family, fixed, [part], [data], variant=sweep.axis)


def pareto(family: Family, run: Run) -> Iterator[Picture]:
    """Median latency against MACs, both log, with the front of contenders that nothing beats on both.

    A front of one point is no choice: there nothing is drawn.
    """
    groups = [(standing, pareto_data(standing, family.method)) for standing in family.standings]
    groups = [(standing, data) for standing, data in groups if sum(datum["front"] for datum in data) > 1]
    if not groups:
        return
    tell = contender_marks([datum for _, data in groups for datum in data])
    parts = []
    for index, (standing, data) in enumerate(groups):
        x, y = _macs_axis(data), millisecond_axis(data)
        front = {"type": "line", "interpolate": "step-after", "color": GUIDE, "strokeDash": [4, 3]}
        layers = [
            layer(front, {"x": x, "y": y, "order": quantity("x")}, {"filter": "datum.front"}),
            layer(_point(90), {"x": x, "y": y, **tell}),
        ]
        parts.append(panel_drawing(layers, index, 220, standing))
    note = "dashed: the Pareto front, where nothing else has both fewer MACs and less latency"
    yield picture("Latency against MACs", family, note, parts, [data for _, data in groups], columns=2)


def accuracy(family: Family, run: Run) -> Iterator[Picture]:
    """Median latency against the largest error of the output, both log: what speed costs in digits, or doesn't.

    The implementations of one operator at a time: errors of different functions say nothing beside each other.
    """
    groups = [
        (standing, operator, data)
        for standing in family.standings
        for operator, data in accuracy_data(standing, family.method).items()
        if len(data) > 1
    ]
    if not groups:
        return
    tell = contender_marks([datum for *_, data in groups for datum in data])
    parts = []
    for index, (standing, operator, data) in enumerate(groups):
        x, y = _error_axis(data), millisecond_axis(data)
        parts.append(panel_drawing([layer(_point(90), {"x": x, "y": y, **tell})], index, 220, standing, operator))
    note = "implementations of one operator against its float64 definition: further left is closer"
    yield picture("Latency against error", family, note, parts, [data for *_, data in groups], columns=2)


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
    yield picture("Roofline", family, note, [panel_drawing(layers, None, 260)], [data, roof])


PLOTS = (
    Plot("ratio", timed=True, paged=True, draw=ratio_bars),
    Plot("scaling", timed=True, paged=False, draw=scaling),
    Plot("pareto", timed=True, paged=True, draw=pareto),
    Plot("accuracy", timed=True, paged=True, draw=accuracy),
    Plot("roofline", timed=True, paged=False, draw=roofline),
    Plot("memory", timed=False, paged=True, draw=memory_bars),
)


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
