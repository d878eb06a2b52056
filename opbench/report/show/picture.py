"""An operator, an image and weights in; a picture out."""

from __future__ import annotations

from collections.abc import Callable
from pkgutil import resolve_name

import numpy as np

from opbench import registry
from opbench.drawings import Drawing, Shot
from opbench.report.show import image, svg


def picture(operator: str, shot: Shot) -> str:
    """The picture as SVG text; the same request gives the same bytes."""
    shown = image.synthetic() if shot.image is None else image.read(shot.image)
    return svg.document(drawings()[operator](shot, shown))


def drawings() -> dict[str, Callable[[Shot, np.ndarray], Drawing]]:
    """What each operator that declares how it is shown is drawn by."""
    found = {}
    for operator in registry.every_operator():
        if isinstance(operator.show, str) and operator.show:
            found[operator.name] = resolve_name(operator.show)
        elif operator.show:
            found[operator.name] = operator.show
    return found
