"""What every drawing shares: colours, log axes with round ticks, marks that tell contenders apart, titles and style.

Colours and shapes are those of `opbench.report.marks`. Text from a document reaches a picture as data, shortened and
without control characters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from opbench.analyse.standings import Row, Standing
from opbench.quantities import SECONDS
from opbench.report.escape import visible
from opbench.report.families import Family
from opbench.report.marks import DASHES, PALETTE, SHAPES, marks, operator_of, order

GUIDE = "#777777"
# Of the first, second, ... implementation of an operator; None: its own colour.
FILLS = (None, "white", "#dddddd", "#999999")
WIDTH = 420
LABEL_LIMIT = 48

STYLE = {
    "font": "DejaVu Sans, Verdana, sans-serif",
    "title": {"anchor": "start", "frame": "group", "fontSize": 12, "subtitleFontSize": 11},
    "axis": {
        "labelLimit": 400,
        "titleLimit": 600,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
    },
    "legend": {"labelLimit": 400, "labelFontSize": 11, "titleFontSize": 11, "symbolOpacity": 1},
    "view": {"stroke": "#dddddd"},
    "text": {"fontSize": 11},
}

Datum = dict[str, Any]
Spec = dict[str, Any]


class Picture(msgspec.Struct, frozen=True):
    """A Vega-Lite spec, what it shows in words, and what tells it from the family's other pictures of the kind."""

    title: str
    spec: Spec
    variant: str = ""


def ticks(low: float, high: float) -> list[float]:
    """Round values between the ends of a log axis, about ten at most.

    >>> ticks(0.3, 600)
    [1.0, 10.0, 100.0]
    >>> ticks(0.9, 1.3)
    [0.9, 1.0, 1.1, 1.2, 1.3]
    """
    decades = math.log10(high) - math.log10(low)
    if decades < 0.5:
        rough = (high - low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(nice * power for nice in (1, 2, 5, 10) if nice * power >= rough * 0.8)
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        return [float(f"{index * step:.6g}") for index in range(first, last + 1)]
    mantissas = (1, 2, 3, 5, 7) if decades < 1 else (1, 2, 5) if decades < 2.7 else (1,)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1, max(1, math.ceil(decades / 9)))
    values = [float(f"{mantissa}e{exponent}") for exponent in exponents for mantissa in mantissas]
    return [value for value in values if low <= value <= high]


def quantity(field: str, title: str | None = None, **more: Any) -> Spec:
    """A field of numbers on a channel; without a title where another layer gives it."""
    return {"field": field, "type": "quantitative", **({"title": title} if title else {}), **more}


def names(field: str, title: str | None, **more: Any) -> Spec:
    """A field of names on a channel; a title of None says that none is wanted."""
    return {"field": field, "type": "nominal", "title": title, **more}


def layer(mark: Spec, encoding: Spec, *transform: Spec, data: Spec | None = None) -> Spec:
    """One mark of a drawing; `data` where it differs from the other layers'."""
    found: Spec = {"mark": mark, "encoding": encoding}
    if transform:
        found["transform"] = list(transform)
    return {**found, "data": data} if data else found


def log_axis(
    field: str,
    low: float,
    high: float,
    title: str,
    label: str = "format(datum.value, '~g')",
    values: Sequence[float] = (),
) -> Spec:
    """A log axis from `low` to `high` that labels round values only (or `values`)."""
    scale = {"type": "log", "domain": [low, high], "nice": False}
    axis = {"values": list(values) or ticks(low, high), "labelExpr": label}
    return quantity(field, f"{title} (log scale)", scale=scale, axis=axis)


def millisecond_axis(data: Sequence[Datum]) -> Spec:
    """The vertical axis of every drawing of absolute latency."""
    times = [datum["milliseconds"] for datum in data]
    return log_axis("milliseconds", min(times) / 1.4, max(times) * 1.4, f"{SECONDS.title}, ms")


def contender_axis(data: Sequence[Datum]) -> Spec:
    """Contenders down the side, in the order of the data."""
    return names("contender", None, sort=list(dict.fromkeys(datum["contender"] for datum in data)))


def contender_marks(data: Sequence[Datum]) -> Spec:
    """The channels of points that tell contenders apart: colour and shape by operator, filling by implementation."""
    every = list(dict.fromkeys(datum["contender"] for datum in data))
    of, places = marks(map(operator_of, every)), order(every)
    own = [of[operator_of(name)] for name in every]
    colours = [PALETTE[one.colour] for one in own]
    fills = [FILLS[places[name] % len(FILLS)] or colour for name, colour in zip(every, colours, strict=True)]
    return {
        "stroke": _told_apart(every, colours),
        "fill": _told_apart(every, fills),
        "shape": _told_apart(every, [SHAPES[one.shape] for one in own]),
    }


def contender_lines(data: Sequence[Datum]) -> Spec:
    """The channels of lines: the operator's colour, dashed by implementation. The legend is that of the points."""
    every = list(dict.fromkeys(datum["contender"] for datum in data))
    places = order(every)
    dashes = [list(DASHES[places[name] % len(DASHES)]) for name in every]
    return {"stroke": contender_marks(data)["stroke"], "strokeDash": {**_told_apart(every, dashes), "legend": None}}


def _told_apart(every: Sequence[str], values: Sequence[Any]) -> Spec:
    return names("contender", "contender", scale={"domain": list(every), "range": list(values)})


def dataset(index: int) -> Spec:
    """A reference to one of the data sets that `picture` puts into the spec."""
    return {"name": f"data{index}"}


def panel_drawing(
    layers: Sequence[Spec], index: int | None, height: float | Spec, standing: Standing | None = None, of: str = ""
) -> Spec:
    """One panel's drawing: its marks, its data set (None: each layer names its own), its size and its heading.

    `of` is the operator whose drawing it is, where a panel has one for each.
    """
    found: Spec = dict(layers[0]) if len(layers) == 1 else {"layer": list(layers)}
    found |= {"width": WIDTH, "height": height}
    if index is not None:
        found["data"] = dataset(index)
    return {**found, "title": panel_title(standing, of)} if standing else found


def panel_title(standing: Standing, of: str = "") -> Spec:
    """One panel's heading: operator (if one), workload, dimensions and offset spread."""
    case = standing.case
    spread = "" if case.spread is None else f", offset spread {case.spread:g} px"
    seed = f", seed {case.seed}" if case.seed else ""
    whose = f"{visible(of, LABEL_LIMIT)}: " if of else ""
    return {
        "text": visible(
            f"{whose}{visible(case.workload, LABEL_LIMIT)} ({standing.sizes}){spread}{seed}", 2 * LABEL_LIMIT
        )
    }


def picture(
    title: str,
    family: Family,
    note: str,
    parts: Sequence[Spec],
    data: Sequence[Sequence[Datum]],
    *,
    columns: int = 1,
    variant: str = "",
) -> Picture:
    """The panels' drawings, with their data inside, under one heading that says what they share."""
    shared = [family.task, family.mode, family.dtype, family.device, family.executed, family.method, family.page]
    subtitle = [visible(", ".join(part for part in shared if part), 2 * LABEL_LIMIT), *([note] if note else [])]
    spec: Spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "title": {"text": title, "subtitle": subtitle, "fontSize": 15, "offset": 16},
        "concat": list(parts),
        "columns": columns,
        "spacing": 24,
        "padding": 12,
        "background": "white",
        "datasets": {f"data{index}": list(rows) for index, rows in enumerate(data)},
        "config": STYLE,
    }
    return Picture(f"{title}: {subtitle[0]}", spec, variant)


def name_of(row: Row) -> str:
    """A contender's label."""
    return visible(row.case.contender, LABEL_LIMIT)
