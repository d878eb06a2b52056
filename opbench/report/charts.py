"""Every picture a run has data for, as SVG text. No network; the same run gives the same bytes."""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from opbench.analyse.standings import Standing
from opbench.process.death import crashed
from opbench.report.drawing import Spec
from opbench.report.families import families, pages
from opbench.report.plots import PLOTS
from opbench.schema import OpbenchError, Run
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
                    family.executed,
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
    return _dies()


@functools.cache
def _dies() -> str | None:
    """How the renderer would end this process, which may map too little memory for it; None where it draws.

    It reserves gigabytes that it never touches, and there is no catching its end. So where there is a limit another
    process tries it first, with what this one has left; asked once, as this one's own renderer takes its share then.
    """
    try:
        import resource
    except ImportError:  # not a Unix
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    mapped = 0
    with contextlib.suppress(OSError):
        mapped = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    left = max(0, limit - mapped)
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({left}, {left}))\n"
        "import vl_convert; vl_convert.vegalite_to_svg({'mark': 'point', 'data': {'values': [{}]}})"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=False)
    if not done.returncode:
        return None
    return f"vl-convert-python {crashed(done.returncode).message} where {left / 2**30:.1f} GiB of memory can be mapped"


def svg(spec: Spec) -> str:
    """Vega-Lite to SVG. The renderer numbers its clip paths across a process; here they start at 0 in every chart.

    Raises OpbenchError where none can be drawn.
    """
    if reason := missing():
        raise OpbenchError(f"no chart can be drawn: {reason} here (pip install 'opbench[report]' brings the renderer)")
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
