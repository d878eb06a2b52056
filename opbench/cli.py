"""The command line: arguments -> calls, no logic. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from opbench.schema import OpbenchError

app = typer.Typer(
    name="opbench",
    help="What CARAFE and DCNv3 really cost against Upsample and Conv, and whether your implementation is right.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: rich's renderer would double the time to print it
)

if TYPE_CHECKING:
    from opbench.plan import Filter

Many = list[str] | None


def _percent(text: str) -> float:
    """`1%` or `0.01`."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise typer.BadParameter(f"expected a share such as 1% or 0.01, got {text!r}")
    return value


@app.command()
def run(
    suite: Annotated[str, typer.Option(help="A suite's name, or a suite file of your own (FILE.toml).")] = "default",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for run.json and report.md [results/local/...].")
    ] = None,
    task: Annotated[Many, typer.Option(help="Only this task (repeatable, as are all filters).")] = None,
    workload: Annotated[Many, typer.Option(help="Only this workload.")] = None,
    operator: Annotated[Many, typer.Option(help="Only this operator, beside the baseline.")] = None,
    implementation: Annotated[Many, typer.Option(help="Only this implementation, beside the baseline.")] = None,
    dtype: Annotated[Many, typer.Option(help="This dtype: float64, float32, bfloat16, float16.")] = None,
    device: Annotated[Many, typer.Option(help="Only this device: cpu, cuda.")] = None,
    mode: Annotated[Many, typer.Option(help="This mode: inference, training.")] = None,
    precision: Annotated[
        float | None,
        typer.Option(parser=_percent, metavar="SHARE", help="Half-width of each ratio's 95 % interval, as in 1%."),
    ] = None,
    budget: Annotated[float | None, typer.Option(min=0.0, help="Seconds of timing per panel at most.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads [torch's own choice].")] = None,
    replicas: Annotated[int, typer.Option(min=1, help="Fresh processes that each panel is measured in.")] = 1,
    timeout: Annotated[
        float | None, typer.Option(min=0.1, help="Seconds for one step of a contender, compiling included [300].")
    ] = None,
    memory: Annotated[
        float | None, typer.Option(min=0.1, help="GiB for the measuring process [nine tenths of what is free].")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the unfinished run in -o DIR.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every input, parameter and random order.")] = 0,
    with_: Annotated[Many, typer.Option("--with", metavar="FILE.py", help="A file whose declarations compete.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be measured, and what not and why.")
    ] = False,
) -> None:
    """Measure a suite: verified, counted and timed; writes run.json, report.md and charts."""
    from opbench.session import Request, run_suite

    filters: dict[Filter, Many] = {
        "task": task, "workload": workload, "operator": operator, "implementation": implementation,
        "dtype": dtype, "device": device, "mode": mode,
    }  # fmt: skip
    request = Request(
        suite=suite,
        output=output,
        filters={name: tuple(values) for name, values in filters.items() if values},
        precision=precision,
        budget_seconds=budget,
        threads=threads,
        seed=seed,
        extensions=tuple(with_ or ()),
        dry_run=dry_run,
        replicas=replicas,
        timeout_seconds=timeout,
        memory_gib=memory,
        resume=resume,
    )
    raise typer.Exit(run_suite(request))


@app.command()
def check(
    target: Annotated[str, typer.Argument(help="FILE.py:NAME or PACKAGE.MODULE:NAME, a function or a module.")],
    operator: Annotated[str, typer.Option(help="What it should compute: carafe, dcnv3, yolo-carafe, yolo-dcnv3.")],
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
    """Prove anyone's CARAFE or DCNv3 right or show, on a small input, the relation that it breaks."""
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


@app.command("list")
def list_(
    what: Annotated[
        Literal["tasks", "operators", "implementations", "suites", "workloads"], typer.Argument(help="What to list.")
    ] = "operators",
    suite: Annotated[str, typer.Option(help="The suite whose workloads to list.")] = "default",
    with_: Annotated[Many, typer.Option("--with", metavar="FILE.py", help="A file whose declarations count.")] = None,
) -> None:
    """List tasks, operators, implementations (and why one can't run here), suites or a suite's workloads."""
    from opbench.session import listing

    listing(what, suite, tuple(with_ or ()))


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN.json...", help="Run documents.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for report.md and charts.")],
) -> None:
    """Write the report of a run document; the same document gives the same bytes."""
    from opbench.session import write_reports

    write_reports(runs, output)


@app.command()
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
        float | None, typer.Option(parser=_percent, metavar="SHARE", help="Changes within this are the same [2%].")
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


@app.command()
def selfcheck(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for selfcheck.json, .md and .svg.")],
    rivals: Annotated[bool, typer.Option("--rivals", help="Have other tools judge the same pairs.")] = False,
    identical: Annotated[int, typer.Option(min=0, help="Comparisons of identical code.")] = 200,
    planted: Annotated[int, typer.Option(min=0, help="Comparisons of each planted slow-down.")] = 40,
    processes: Annotated[int, typer.Option(min=1, help="Fresh processes, quiet and loaded each.")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    precision: Annotated[
        float, typer.Option(parser=_percent, metavar="SHARE", help="Half-width of each ratio's 95 % interval.")
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


@app.command()
def env() -> None:
    """Print the environment that a run here would record."""
    from opbench.session import print_environment

    print_environment()


@app.command()
def readme(
    file: Annotated[Path, typer.Argument(help="The file whose marked tables are written anew.")],
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 if a table is out of date.")] = False,
) -> None:
    """Write the tables between `<!-- opbench:... -->` markers of a README from the run documents they name."""
    from opbench.session import update_readme

    raise typer.Exit(update_readme(file, check=check))


def main() -> None:
    """The `opbench` command. Exit codes: 0 fine, 1 bad news, 2 wrong usage or unreadable input, 130 Ctrl-C."""
    try:
        app()
    except OpbenchError as error:
        print(f"opbench: {error}", file=sys.stderr)
        sys.exit(2)
