"""`opbench show`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from opbench.cli.app import Many, command


@command()
def show(
    operator: Annotated[str, typer.Argument(help="carafe, dcnv3, or one that declares how it is shown.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="FILE.svg or FILE.png.")],
    image: Annotated[Path | None, typer.Option(metavar="FILE", help="A PNG or JPEG file [a synthetic image].")] = None,
    weights: Annotated[Path | None, typer.Option(metavar="FILE.pt", help="A state dict that holds the module.")] = None,
    layer: Annotated[str, typer.Option(metavar="PREFIX", help="Which module of the state dict.")] = "",
    fresh: Annotated[bool, typer.Option("--fresh", help="The initial parameters, as constructed.")] = False,
    at: Annotated[Many, typer.Option(metavar="ROW,COLUMN", help="An output pixel to show (repeatable).")] = None,
    spread: Annotated[float, typer.Option(min=0.0, help="Pixels that DCNv3's offsets deviate by.")] = 2.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of parameters and features.")] = 0,
) -> None:
    """Draw CARAFE's kernels or DCNv3's sampling points on an image, as SVG or PNG."""
    from opbench.drawings import Shot
    from opbench.report.show.command import run_show

    shot = Shot(image, weights, layer, fresh, tuple(at or ()), spread, seed)
    raise typer.Exit(run_show(operator, output, shot))
