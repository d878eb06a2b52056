"""`opbench show`: an operator, an image and weights in; a picture out."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from opbench import registry
from opbench.documents import replace_file
from opbench.drawings import Drawing, Shot
from opbench.report.show import image, svg
from opbench.schema import OpbenchError


def run_show(operator: str, output: Path, shot: Shot) -> int:
    """Writes the picture as SVG or PNG, by the ending of `output`, and says where it is."""
    drawn = drawings()
    if operator not in drawn:
        raise OpbenchError(registry.unknown_operator("operator to show", operator, drawn))
    ending = output.suffix.lower()
    if ending not in _WRITTEN:
        raise OpbenchError(f"-o {output}: expected a file that ends in {' or '.join(_WRITTEN)}")
    if shot.weights is not None and shot.fresh:
        raise OpbenchError("--fresh and --weights: choose one, initial parameters or those of a file")
    replace_file(output, _WRITTEN[ending](picture(operator, shot)))
    print(f"picture: {output}")
    return 0


def picture(operator: str, shot: Shot) -> str:
    """The picture as SVG text; the same request gives the same bytes."""
    shown = image.synthetic() if shot.image is None else image.read(shot.image)
    return svg.document(drawings()[operator](shot, shown))


def drawings() -> dict[str, Callable[[Shot, np.ndarray], Drawing]]:
    """What each operator that declares how it is shown is drawn by."""
    found = {}
    for operator in registry.every_operator():
        if isinstance(operator.show, str) and operator.show:
            module, _, function = operator.show.partition(":")
            found[operator.name] = getattr(importlib.import_module(module), function)
        elif operator.show:
            found[operator.name] = operator.show
    return found


def _png(text: str) -> bytes:
    import vl_convert

    return bytes(vl_convert.svg_to_png(text, scale=2))


_WRITTEN: Mapping[str, Callable[[str], bytes]] = {".svg": lambda text: text.encode(), ".png": _png}
