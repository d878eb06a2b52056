"""`opbench model`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from opbench.cli.app import Many, command, share


@command()
def model(
    target: Annotated[
        str, typer.Argument(help="PACKAGE.MODULE:NAME or FILE.py:NAME, a model or what makes one; or yolov8n.yaml.")
    ],
    swap: Annotated[
        Many,
        typer.Option(
            metavar="WHAT[:GLOB]=WITH",
            help="upsample=carafe, conv3x3=dcnv3[gather], 'conv3x3:backbone.*=dcnv3' (repeatable).",
        ),
    ] = None,
    where: Annotated[
        str | None, typer.Option(metavar="GLOB", help="Swap only layers of such names, where no :GLOB says.")
    ] = None,
    size: Annotated[
        str,
        typer.Option(metavar="[Cx]HxW", help="Height and width of the input, channels before them if guessed wrongly."),
    ] = "640x640",
    batch: Annotated[int, typer.Option(min=1, help="Images at once.")] = 1,
    dtype: Annotated[str, typer.Option(help="float32, float64, bfloat16 or float16.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    mode: Annotated[str, typer.Option(help="inference, or training: forward and backward.")] = "inference",
    implementation: Annotated[str, typer.Option(help="Of what is swapped in, where no brackets name one.")] = "auto",
    arg: Annotated[Many, typer.Option(metavar="NAME=VALUE", help="An argument for what makes the model.")] = None,
    spread: Annotated[
        float, typer.Option(min=0, help="Standard deviation of deformable layers' offsets, in pixels.")
    ] = 2.0,
    precision: Annotated[
        float | None, typer.Option(parser=share, metavar="SHARE", help="Of the latency ratio [1%].")
    ] = None,
    budget: Annotated[float, typer.Option(min=0, help="Seconds of timing.")] = 20.0,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of parameters and inputs.")] = 0,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the answer for a pull request.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer, raw samples included, as JSON.")] = False,
) -> None:
    """Say what CARAFE, DCNv3 or a rival costs in your own network: before and after, side by side."""
    from opbench.report.model import run_model

    code = run_model(
        target,
        swaps=swap or (),
        size=size,
        batch=batch,
        dtype=dtype,
        device=device,
        mode=mode,
        implementation=implementation,
        where=where,
        arguments=arg or (),
        spread=spread,
        precision=0.01 if precision is None else precision,
        budget_seconds=budget,
        seed=seed,
        markdown=markdown,
        json_output=as_json,
    )
    raise typer.Exit(code)
