"""The pictures of a study: losses over seeds, their differences to the baseline, and the scores' differences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from opbench.report.charts import svg
from opbench.report.drawing import GUIDE, LABEL_LIMIT, STYLE, WIDTH, Spec, ticks
from opbench.report.escape import visible
from opbench.report.marks import PALETTE, SHAPES, marks, operator_of
from opbench.slug import slug
from opbench.study.differences import SeedPoint, loss_curves, loss_differences, standings
from opbench.study.document import Metric, StudyDocument, StudyResult

HEIGHT = 260
# The first points of a curve are those of untrained networks: so far off that nothing else would show.
SETTLED = 0.2  # share of the steps left out of the differences


def charts(study: StudyDocument) -> dict[str, str]:
    """File name -> SVG; the same document gives the same bytes. A study without scored trainings has none."""
    drawn = {}
    for result in study.studies:
        if result.of(result.baseline, "scored"):
            drawn[f"loss-{slug(result.name)}.svg"] = svg(loss_picture(result))
            drawn[f"score-{slug(result.name)}.svg"] = svg(score_picture(result))
    return drawn


def loss_picture(result: StudyResult) -> Spec:
    """Loss along the training on the left, minus the baseline's on the right; bands are 95 % intervals over seeds."""
    settled = SETTLED * result.steps if result.steps > 10 else 0.0
    curves = _rows(loss_curves(result))
    differences = [row for row in _rows(loss_differences(result)) if row["step"] > settled]
    low, high = min(row["value"] for row in curves) / 1.1, max(row["value"] for row in curves) * 1.1
    title = visible(result.loss_title, 2 * LABEL_LIMIT)
    loss = {
        "axis": {"title": f"{title} (log scale)", "values": ticks(low, high), "labelExpr": "format(datum.value, '~g')"},
        "scale": {"type": "log", "domain": [low, high], "nice": False, "clamp": True},
    }
    minus = {
        "axis": {"title": f"difference to {visible(result.baseline, LABEL_LIMIT)}"},
        "scale": {"zero": False},
    }
    kept = f", from step {settled:.0f} on" if settled else ""
    panels = [
        _panel("training loss, mean over seeds", curves, loss, _marks(result), guide=False),
        _panel(f"minus the baseline's on the same batches{kept}", differences, minus, _marks(result), guide=True),
    ]
    return _picture(result, "Loss along the training", panels)


def score_picture(result: StudyResult) -> Spec:
    """Each metric's difference to the baseline, a dot and its interval per contender."""
    panels = [_score_panel(result, metric) for metric in result.metrics]
    return _picture(result, f"Held-out scores against {visible(result.baseline, LABEL_LIMIT)}", panels)


def _rows(points: Iterable[SeedPoint]) -> list[dict[str, Any]]:
    return [
        {
            "contender": visible(point.contender, LABEL_LIMIT),
            "step": point.step,
            "value": point.estimate.value,
            # A single seed has no interval: its band has no width.
            "low": point.estimate.low if point.estimate.seeds > 1 else point.estimate.value,
            "high": point.estimate.high if point.estimate.seeds > 1 else point.estimate.value,
        }
        for point in points
    ]


def _marks(result: StudyResult) -> dict[str, Any]:
    """Colour and shape per contender."""
    every = [contender.name for contender in result.contenders]
    of, names = marks(map(operator_of, every)), [visible(name, LABEL_LIMIT) for name in every]
    scale = {"domain": names, "range": [PALETTE[of[operator_of(name)].colour] for name in every]}
    shapes = {"domain": names, "range": [SHAPES[of[operator_of(name)].shape] for name in every]}
    field = {"field": "contender", "type": "nominal", "title": "contender"}
    return {"color": {**field, "scale": scale}, "shape": {**field, "scale": shapes}}


def _panel(title: str, data: Sequence[Spec], up: Spec, marks: Spec, *, guide: bool) -> Spec:
    across: Spec = {"field": "step", "type": "quantitative", "axis": {"title": "training step", "tickCount": 6}}
    across["scale"] = {"nice": False, "zero": False}
    colour = {"color": marks["color"]}
    y = {"field": "value", "type": "quantitative", **up}
    band = {"x": across, "y": {**y, "field": "low"}, "y2": {"field": "high"}, **colour}
    layers: list[Spec] = [
        {"mark": {"type": "area", "opacity": 0.12, "clip": True}, "encoding": band},
        {"mark": {"type": "line", "strokeWidth": 1.5, "clip": True}, "encoding": {"x": across, "y": y, **colour}},
        {
            "transform": [{"window": [{"op": "row_number", "as": "row"}]}, {"filter": "datum.row % 4 == 1"}],
            "mark": {"type": "point", "filled": True, "size": 40, "opacity": 1, "clip": True},
            "encoding": {"x": across, "y": y, **marks},
        },
    ]
    if guide:
        layers.append({"mark": {"type": "rule", "color": GUIDE}, "encoding": {"y": {"datum": 0}}})
    return {"title": title, "width": WIDTH, "height": HEIGHT, "data": {"values": list(data)}, "layer": layers}


def _score_panel(result: StudyResult, metric: Metric) -> Spec:
    found = [standing for standing in standings(result, metric.name) if standing.difference is not None]
    data = [
        {
            "contender": visible(standing.contender.name, LABEL_LIMIT),
            "value": standing.difference.value,
            "low": standing.difference.low if standing.difference.seeds > 1 else standing.difference.value,
            "high": standing.difference.high if standing.difference.seeds > 1 else standing.difference.value,
        }
        for standing in found
        if standing.difference is not None
    ]
    unit = "percentage points" if metric.unit == "%" else visible(metric.unit, LABEL_LIMIT)
    names = [row["contender"] for row in data]
    title = f"difference in {visible(metric.title, LABEL_LIMIT)}, {unit}; right of 0 is better"
    x = {"field": "value", "type": "quantitative", "axis": {"title": title}}
    y = {"field": "contender", "type": "nominal", "sort": names, "title": None}
    return {
        "width": WIDTH,
        "height": {"step": 26},
        "data": {"values": data},
        "layer": [
            {"mark": {"type": "rule", "color": GUIDE}, "encoding": {"x": {"datum": 0}}},
            {
                "mark": {"type": "rule", "strokeWidth": 2, "color": PALETTE[0]},
                "encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "y": y},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1, "color": PALETTE[0]},
                "encoding": {"x": x, "y": y},
            },
        ],
    }


def _picture(result: StudyResult, title: str, panels: Sequence[Spec]) -> Spec:
    seeds = max(len(result.of(contender.name, "scored")) for contender in result.contenders)
    subtitle = f"{visible(result.title, 2 * LABEL_LIMIT)}; a small study, {seeds} seeds, 95 % intervals over seeds"
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "title": {"text": title, "subtitle": [subtitle], "fontSize": 15, "offset": 16},
        "hconcat": list(panels),
        "spacing": 32,
        "background": "white",
        "padding": 12,
        "config": STYLE,
    }
