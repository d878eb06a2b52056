"""`opbench check`."""

from __future__ import annotations

from typing import Annotated

import typer

from opbench.cli.app import Many, command


@command()
def check(
    target: Annotated[str, typer.Argument(help="FILE.py:NAME or PACKAGE.MODULE:NAME, a function or a module.")],
    operator: Annotated[
        str, typer.Option(help="What it should compute: carafe, dcnv3, any operator of `opbench list`.")
    ],
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    quick: Annotated[bool, typer.Option("--quick", help="Fewer examples: under 20 seconds.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    fix: Annotated[Many, typer.Option(metavar="NAME=VALUE", help="Hold an option still, as in kernel_size=5.")] = None,
    arg: Annotated[Many, typer.Option(metavar="NAME=VALUE", help="A constructor argument of a module.")] = None,
    dtype: Annotated[Many, typer.Option(help="Only this dtype (repeatable).")] = None,
    only: Annotated[Many, typer.Option(metavar="RELATION", help="Only this relation (repeatable).")] = None,
    skip: Annotated[
        Many, typer.Option(metavar="RELATION", help="Not this relation: the target doesn't promise it (repeatable).")
    ] = None,
    forward_only: Annotated[
        bool, typer.Option("--forward-only", help="Nothing that needs gradients: for code without a backward pass.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the search.")] = 0,
) -> None:
    """Prove anyone's CARAFE, DCNv3 or other operator right or show, on a small input, what it breaks."""
    from opbench.report.conformance import run_check

    code = run_check(
        target,
        operator=operator,
        device=device,
        quick=quick,
        json_output=as_json,
        fix=fix or (),
        arguments=arg or (),
        dtypes=dtype or (),
        only=only or (),
        skip=skip or (),
        forward_only=forward_only,
        seed=seed,
    )
    raise typer.Exit(code)
