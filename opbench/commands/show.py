"""`opbench show`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import msgspec

from opbench.commands import Command
from opbench.exit_codes import Exit
from opbench.options import INPUT, OUTPUT, Argument, Option, With
from opbench.schema import OpbenchError


class ShowRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which operator, with which weights on which image, and at which output pixels."""

    operator: Annotated[str, Argument("carafe, dcnv3, or one that declares how it is shown.")]
    output: Annotated[Path, Option("FILE.svg or FILE.png.", short="-o", metavar="FILE", group=OUTPUT)]
    image: Annotated[Path | None, Option("A PNG or JPEG file [a synthetic image].", metavar="FILE", group=INPUT)] = None
    weights: Annotated[Path | None, Option("A state dict that holds the module.", metavar="FILE.pt", group=INPUT)] = (
        None
    )
    layer: Annotated[str, Option("Which module of the state dict.", metavar="PREFIX", group=INPUT)] = ""
    fresh: Annotated[bool, Option("The initial parameters, as constructed.", group=INPUT)] = False
    at: Annotated[
        tuple[str, ...], Option("An output pixel to show (repeatable).", metavar="ROW,COLUMN", group=INPUT)
    ] = ()
    spread: Annotated[
        float, Option("Pixels that DCNv3's offsets deviate by.", least=0.0, metavar="PIXELS", group=INPUT)
    ] = 2.0
    seed: Annotated[
        int, Option("Seed of parameters and features; 0: trained ones where there are any.", least=0, group=INPUT)
    ] = 0
    with_: With = ()


def show(request: ShowRequest) -> Exit:
    """Draw CARAFE's kernels or DCNv3's sampling points on an image, as SVG or PNG."""
    from opbench import registry
    from opbench.documents import replace_file
    from opbench.drawings import Shot
    from opbench.report.lines import say
    from opbench.report.show.picture import drawings, picture

    drawn = drawings()
    if request.operator not in drawn:
        raise OpbenchError(registry.unknown_operator("operator to show", request.operator, drawn))
    ending = request.output.suffix.lower()
    if ending not in _WRITTEN:
        raise OpbenchError(f"-o {request.output}: expected a file that ends in {' or '.join(_WRITTEN)}")
    if request.weights is not None and request.fresh:
        raise OpbenchError("--fresh and --weights: choose one, initial parameters or those of a file")
    shot = Shot(request.image, request.weights, request.layer, request.fresh, request.at, request.spread, request.seed)
    replace_file(request.output, _WRITTEN[ending](picture(request.operator, shot)))
    say(f"picture: {request.output}")
    return Exit.FINE


def _png(svg: str) -> bytes:
    try:
        import vl_convert
    except ImportError:
        raise OpbenchError("a PNG needs vl-convert-python: pip install 'opbench[report]', or -o FILE.svg") from None
    return bytes(vl_convert.svg_to_png(svg, scale=2))


_WRITTEN: Mapping[str, Callable[[str], bytes]] = {".svg": lambda svg: svg.encode(), ".png": _png}

COMMAND = Command("show", ShowRequest, show)
