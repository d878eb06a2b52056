"""`opbench compare` and `selfcheck`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opbench.cli.app import Many, command, share

if TYPE_CHECKING:
    from opbench.plan import Filter


@command()
def compare(
    base: Annotated[Path | None, typer.Argument(metavar="BASE.json", help="The run before.")] = None,
    head: Annotated[Path | None, typer.Argument(metavar="HEAD.json", help="The run after.")] = None,
    paired: Annotated[
        str | None,
        typer.Option(
            metavar="REF", help="Instead of documents: measure this git revision and the working tree in turns."
        ),
    ] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the table for a pull request.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
    minimum_effect: Annotated[
        float | None, typer.Option(parser=share, metavar="SHARE", help="Changes within this are the same [2%].")
    ] = None,
    across: Annotated[
        Many, typer.Option(metavar="WHAT", help="Compare although this differs: machine, threads, versions.")
    ] = None,
    allow: Annotated[
        Many, typer.Option(metavar="QUANTITY", help="This deterministic quantity changed on purpose, as in operators.")
    ] = None,
    selfcheck: Annotated[Path | None, typer.Option(metavar="FILE", help="A selfcheck.json of the machine.")] = None,
    suite: Annotated[str, typer.Option(help="With --paired: the suite to measure.")] = "smoke",
    task: Annotated[Many, typer.Option(help="With --paired: only this task (repeatable, as are all filters).")] = None,
    operator: Annotated[Many, typer.Option(help="With --paired: only this operator.")] = None,
    mode: Annotated[Many, typer.Option(help="With --paired: this mode.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="With --paired: CPU threads [torch's own choice].")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="With --paired: folder for base.json and head.json.")
    ] = None,
) -> None:
    """Tell whether HEAD is slower, larger or wrong where BASE was not; exit code 1 if so."""
    from opbench.report.gate import Answer, run_compare, run_paired

    answer = Answer(markdown, as_json, minimum_effect, tuple(across or ()), tuple(allow or ()), selfcheck)
    if paired is None:
        raise typer.Exit(run_compare(base, head, answer))
    filters: dict[Filter, Many] = {"task": task, "operator": operator, "mode": mode}
    chosen = {name: tuple(values) for name, values in filters.items() if values}
    raise typer.Exit(run_paired(paired, (base, head), suite, chosen, threads, output, answer))


@command()
def selfcheck(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for selfcheck.json, .md and .svg.")],
    rivals: Annotated[bool, typer.Option("--rivals", help="Have other tools judge the same pairs.")] = False,
    identical: Annotated[int, typer.Option(min=0, help="Comparisons of identical code.")] = 200,
    planted: Annotated[int, typer.Option(min=0, help="Comparisons of each planted slow-down.")] = 40,
    processes: Annotated[int, typer.Option(min=1, help="Fresh processes, quiet and loaded each.")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    precision: Annotated[
        float, typer.Option(parser=share, metavar="SHARE", help="Half-width of each ratio's 95 % interval.")
    ] = "1%",  # type: ignore[assignment]
    budget: Annotated[float, typer.Option(min=0.0, help="Seconds per pair at most.")] = 4.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random order.")] = 0,
) -> None:
    """Measure this machine's false-alarm rate and the slow-downs it can find, quiet and beside a busy process."""
    from opbench.report.selfcheck import run_selfcheck

    code = run_selfcheck(
        output,
        identical=identical,
        planted=planted,
        processes=processes,
        threads=threads,
        precision=precision,
        budget_seconds=budget,
        rivals=rivals,
        seed=seed,
    )
    raise typer.Exit(code)
