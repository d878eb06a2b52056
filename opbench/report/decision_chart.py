"""The picture of a decision: latency of a slot's contenders against their parameters, and the front among them."""

from __future__ import annotations

import math

from opbench.decision.nouns import NetworkDecision, PricedSlot
from opbench.report.drawing import (
    GUIDE,
    LABEL_LIMIT,
    STYLE,
    WIDTH,
    Datum,
    Spec,
    contender_marks,
    dataset,
    layer,
    log_axis,
    quantity,
    ticks,
)
from opbench.report.escape import visible

HEIGHT = 300


def front_picture(decision: NetworkDecision, slot: PricedSlot) -> Spec | None:
    """Both axes log; what has no parameters stands left of all others, on a tick that says 0. None without figures."""
    data = points(slot)
    if len(data) < 2:
        return None
    x, y, marks = _parameters(data), _latency(data), contender_marks(data)
    line = {"type": "line", "interpolate": "step-after", "color": GUIDE, "strokeDash": [4, 3]}
    layers = [
        layer(line, {"x": x, "y": y, "order": quantity("x")}, {"filter": "datum.front"}),
        layer({"type": "rule", "strokeWidth": 1.5}, {"x": x, "y": quantity("low"), "y2": {"field": "high"}}),
        layer({"type": "point", "size": 90, "filled": True, "opacity": 1}, {"x": x, "y": y, **marks}),
    ]
    batch, _, height, width = decision.input_shape
    about = f"{decision.target}, {height}x{width}, batch {batch}, {decision.dtype}, {decision.mode}, {decision.device}"
    note = "all places together; lines: 95 % intervals against the baseline; dashed: the front of what learns"
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "title": {
            "text": visible(f"{slot.task}: latency against parameters", 2 * LABEL_LIMIT),
            "subtitle": [visible(about, 2 * LABEL_LIMIT), note],
            "fontSize": 15,
            "offset": 16,
        },
        "layer": layers,
        "data": dataset(0),
        "datasets": {"data0": data},
        "width": WIDTH,
        "height": HEIGHT,
        "padding": 12,
        "background": "white",
        "config": STYLE,
    }


def points(slot: PricedSlot) -> list[Datum]:
    """A contender a datum, those that have parameters and a latency both; the front are those that stand on it."""
    there = slot.stands_there
    base = there.seconds if there else None
    data: list[Datum] = []
    for one in slot.contenders:
        if one.seconds is None or one.params is None:
            continue
        ends = (one.ratio.low, one.ratio.high) if one.ratio and base else None
        low, high = ends or (1.0, 1.0)
        scale = 1e3 * base if ends and base else 1e3 * one.seconds
        data.append(
            {
                "contender": visible(one.contender, LABEL_LIMIT),
                "params": one.params,
                "milliseconds": 1e3 * one.seconds,
                "low": max(low * scale, 1e2 * one.seconds),
                "high": min(high * scale, 1e4 * one.seconds),
                "front": one.standing == "front",
            }
        )
    least = min((datum["params"] for datum in data if datum["params"]), default=10)
    zero = 10.0 ** (math.floor(math.log10(least)) - 1)
    for datum in data:
        datum["x"] = float(datum["params"] or zero)
    return data


def _parameters(data: list[Datum]) -> Spec:
    low, high = min(datum["x"] for datum in data), max(datum["x"] for datum in data)
    label = "format(datum.value, '~s')"
    if all(datum["params"] for datum in data):
        return log_axis("x", low / 1.6, high * 1.6, "parameters", label)
    values = [low, *ticks(2 * low, high * 1.6)]
    return log_axis("x", low / 1.6, high * 1.6, "parameters", f"datum.value <= {low} ? '0' : {label}", values)


def _latency(data: list[Datum]) -> Spec:
    low, high = min(datum["low"] for datum in data), max(datum["high"] for datum in data)
    return log_axis("milliseconds", low / 1.4, high * 1.4, "median latency of all calls, ms")
