"""Every picture a run has data for, as SVG text. No network; the same run gives the same bytes."""

from __future__ import annotations

import importlib
import itertools
import re
from collections.abc import Mapping, Sequence

import msgspec

from opbench.analyse.standings import Standing
from opbench.report.drawing import Spec
from opbench.report.families import families, pages
from opbench.report.plots import PLOTS
from opbench.schema import Run
from opbench.slug import slug


class Chart(msgspec.Struct, frozen=True):
    """One picture: a file name that is safe anywhere, what it shows in words, and the SVG text."""

    name: str
    kind: str
    title: str
    svg: str


def charts(run: Run, standings: Sequence[Standing]) -> tuple[Chart, ...]:
    """The pictures, by kind and then in the order of the panels; a family with nothing to draw has none.

    Without the renderer there are none at all, and the report says so.
    """
    drawn: dict[str, Chart] = {}
    if missing():
        return ()
    for plot in PLOTS:
        every = families(standings, timed=plot.timed)
        for family in itertools.chain.from_iterable(map(pages, every)) if plot.paged else every:
            for picture in plot.draw(family, run):
                parts = (
                    plot.kind,
                    family.task,
                    picture.variant,
                    family.dtype,
                    family.device,
                    family.mode,
                    family.unusual_format,
                    family.method,
                )
                name = _unique(slug("-".join(filter(None, parts)), 120), drawn)
                drawn[name] = Chart(name, plot.kind, picture.title, svg(picture.spec))
    return tuple(drawn.values())


def missing() -> str | None:
    """Why no picture can be drawn here, or None."""
    try:
        importlib.import_module("vl_convert")
    except ImportError:
        return "vl-convert-python is not installed"
    return None


def svg(spec: Spec) -> str:
    """Vega-Lite to SVG. The renderer numbers its clip paths across a process; here they start at 0 in every chart."""
    import vl_convert

    text: str = vl_convert.vegalite_to_svg(spec)
    found = dict.fromkeys(re.findall(r'<clipPath id="(clip\d+)"', text))
    for index, name in enumerate(found):
        text = text.replace(f'id="{name}"', f'id="part{index}"').replace(f"url(#{name})", f"url(#part{index})")
    return text


def _unique(name: str, taken: Mapping[str, object]) -> str:
    number, unique = 2, name
    while unique in taken:
        number, unique = number + 1, f"{name}-{number}"
    return unique
