"""`opbench show`: an operator, an image and weights in; a picture out."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from opbench import registry
from opbench.document import replace_file
from opbench.report.show import carafe, dcnv3, image, weights
from opbench.schema import OpbenchError

# Of the height and the width: a corner, an edge, a flat place and a fine pattern of the synthetic image.
PLACES = ((0.33, 0.17), (0.30, 0.56), (0.73, 0.36), (0.0, 0.97))


@dataclass(frozen=True)
class Shot:
    """What is to be shown: which weights on which image, at which output pixels (row, column)."""

    image: Path | None = None
    weights: Path | None = None
    layer: str = ""
    fresh: bool = False
    at: tuple[str, ...] = ()
    spread: float = 2.0
    seed: int = 0


def run_show(operator: str, output: Path, shot: Shot) -> int:
    """Writes the picture as SVG or PNG, by the ending of `output`, and says where it is."""
    drawn = drawings()
    if operator not in drawn:
        raise OpbenchError(registry.nearest("operator to show", operator, drawn))
    ending = output.suffix.lower()
    if ending not in _WRITTEN:
        raise OpbenchError(f"-o {output}: expected a file that ends in {' or '.join(_WRITTEN)}")
    if shot.weights is not None and shot.fresh:
        raise OpbenchError("--fresh and --weights: choose one, initial parameters or those of a file")
    svg = picture(operator, shot)
    replace_file(output, _WRITTEN[ending](svg))
    print(f"picture: {output}")
    return 0


def picture(operator: str, shot: Shot) -> str:
    """The picture as SVG text; the same request gives the same bytes."""
    shown = image.synthetic() if shot.image is None else image.read(shot.image)
    return str(drawings()[operator](shot, shown))


def drawings() -> dict[str, Callable[[Shot, np.ndarray], str]]:
    """What each operator that declares how it is shown is drawn by."""
    found = {}
    for operator in registry.every_operator():
        if isinstance(operator.show, str) and operator.show:
            module, _, function = operator.show.partition(":")
            found[operator.name] = getattr(importlib.import_module(module), function)
        elif operator.show:
            found[operator.name] = operator.show
    return found


def drawn_carafe(shot: Shot, shown: np.ndarray) -> str:
    """CARAFE's kernels at some output pixels."""
    core = carafe.Recorder()
    module = (
        weights.loaded("carafe", shot.weights, shot.layer, core)
        if shot.weights
        else weights.seeded("carafe", core, fresh=shot.fresh, seed=shot.seed)
    )
    channels = weights.channels_of(module)
    x = image.features(shown, channels, shot.seed)
    height, width = (2 * side for side in shown.shape[:2])
    found = carafe.kernels(module, core, x, shown, _places(shot.at, height, width))
    return carafe.draw(found, shown, _note(shot, channels))


def drawn_dcnv3(shot: Shot, shown: np.ndarray) -> str:
    """DCNv3's sampling points at some output pixels."""
    core = dcnv3.Recorder()
    if shot.weights:
        module = weights.loaded("dcnv3", shot.weights, shot.layer, core)
    else:
        module = weights.seeded("dcnv3", core, fresh=shot.fresh, seed=shot.seed)
    channels = weights.channels_of(module)
    x = image.features(shown, channels, shot.seed)
    moved = ""
    if not shot.weights and not shot.fresh:
        weights.spread_points(module, x, shot.spread, shot.seed)
        moved = f", offsets spread by {shot.spread:g} px"
    found = dcnv3.queries(module, core, x, _places(shot.at, *shown.shape[:2]))
    return dcnv3.draw(found, shown, _note(shot, channels) + moved)


def _note(shot: Shot, channels: int) -> str:
    """Whose weights and whose image it is, in words."""
    where = f"layer {shot.layer} of " if shot.layer else ""
    whose = (
        f"weights of {where}{shot.weights.name}"
        if shot.weights
        else "initial weights"
        if shot.fresh
        else f"weights drawn as in measurements, seed {shot.seed}"
    )
    what = shot.image.name if shot.image else "a synthetic image"
    return f"{whose}; {channels} feature channels: seeded 3x3 filters of {what}"


def _places(at: Sequence[str], height: int, width: int) -> list[tuple[int, int]]:
    """(row, column) of each output pixel asked for, else of PLACES."""
    if not at:
        return [(int(down * height), int(right * width)) for down, right in PLACES]
    places = []
    for words in at:
        try:
            row, column = map(int, words.split(","))
        except ValueError:
            raise OpbenchError(f"--at {words}: expected ROW,COLUMN, as in --at 10,24") from None
        if not (0 <= row < height and 0 <= column < width):
            raise OpbenchError(f"--at {words}: the output has rows 0 to {height - 1} and columns 0 to {width - 1}")
        places.append((row, column))
    return places


def _png(svg: str) -> bytes:
    try:
        import vl_convert
    except ImportError:
        raise OpbenchError("a PNG needs vl-convert-python: pip install 'opbench[report]', or -o FILE.svg") from None
    return bytes(vl_convert.svg_to_png(svg, scale=2))


_WRITTEN: Mapping[str, Callable[[str], bytes]] = {".svg": lambda svg: svg.encode(), ".png": _png}
