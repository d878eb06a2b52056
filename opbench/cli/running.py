"""`opbench run`, `list` and `env`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from opbench.cli.app import Many, app, share

if TYPE_CHECKING:
    from opbench.plan import Filter


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
        typer.Option(parser=share, metavar="SHARE", help="Half-width of each ratio's 95 % interval, as in 1%."),
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
    within: Annotated[
        float | None,
        typer.Option(min=1.0, help="Seconds after which no other panel is begun; what is missing, --resume adds."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the unfinished run in -o DIR.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every input, parameter and random order.")] = 0,
    set_: Annotated[
        Many, typer.Option("--set", metavar="OPERATOR.NAME=VALUE", help="One of an operator's own settings.")
    ] = None,
    with_: Annotated[Many, typer.Option("--with", metavar="FILE.py", help="A file whose declarations compete.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be measured, and what not and why.")
    ] = False,
) -> None:
    """Measure a suite: verified, counted and timed; writes run.json, report.md, report.html and charts."""
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
        settings=_asked(set_ or ()),
        dry_run=dry_run,
        replicas=replicas,
        timeout_seconds=timeout,
        memory_gib=memory,
        resume=resume,
        within_seconds=within,
    )
    raise typer.Exit(run_suite(request))


def _asked(texts: Sequence[str]) -> dict[str, dict[str, str]]:
    """`dysample.groups=8` as {"dysample": {"groups": "8"}}: the operator says of which type its settings are."""
    from opbench.schema import OpbenchError

    found: dict[str, dict[str, str]] = {}
    for text in texts:
        place, _, value = text.partition("=")
        operator, _, name = place.partition(".")
        if not (operator and name and value):
            raise OpbenchError(f"--set {text}: expected OPERATOR.NAME=VALUE, as in carafe.k_up=3")
        found.setdefault(operator, {})[name] = value
    return found


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
def env() -> None:
    """Print the environment that a run here would record."""
    from opbench.session import print_environment

    print_environment()
