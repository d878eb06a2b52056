"""What each command does, as a visible list of stages. The command line calls these; so may a script."""

from __future__ import annotations

import datetime
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as TimeLeftColumn
from rich.table import Table

from opbench import plan as planning
from opbench import registry, suites
from opbench.schema import OpbenchError, Panel, Plan, Run, Settings, Suite

if TYPE_CHECKING:
    from opbench.engine.workplace import Workplace
    from opbench.plan import Filter

# Outcomes that are bad news; `unsupported` is an answer, not a fault.
_FAILURES = frozenset({"incorrect", "raised", "out-of-memory", "crashed", "timed-out", "throttled"})

# The exit code of a run that Ctrl-C ended.
INTERRUPTED = 130


@dataclass(frozen=True)
class Request:
    """What `opbench run` was asked for; None leaves the choice to the suite or to torch."""

    suite: str = "default"
    output: Path | None = None
    filters: Mapping[Filter, Sequence[str]] = field(default_factory=dict)
    precision: float | None = None
    budget_seconds: float | None = None
    threads: int | None = None
    seed: int = 0
    extensions: tuple[str, ...] = ()
    dry_run: bool = False
    replicas: int = 1
    timeout_seconds: float | None = None
    memory_gib: float | None = None
    resume: bool = False


def run_suite(request: Request) -> int:
    """Declare -> plan -> measure -> report. Returns the exit code: 1 if any case failed, 130 after Ctrl-C."""
    console = _console()
    if request.dry_run:
        _print_plan(console, _plan(request)[1])
        return 0
    if request.resume and request.output is None:
        raise OpbenchError("--resume needs -o DIR: the folder of the run to go on with")
    folder = request.output or _local_folder(Path(request.suite).stem)
    try:
        return _run(console, request, folder)
    except KeyboardInterrupt:
        # Not 0, 1 or 2: nothing was decided. It is what a shell reports of a program that Ctrl-C ended.
        print(f"opbench: interrupted; {_kept(request, folder)}", file=sys.stderr)
        return INTERRUPTED


def _run(console: Console, request: Request, folder: Path) -> int:
    from opbench.engine.workplace import Limits, Workplace

    limits = Limits(memory_bytes=None if request.memory_gib is None else int(request.memory_gib * 2**30))
    if request.timeout_seconds is not None:
        limits = Limits(step_seconds=request.timeout_seconds, memory_bytes=limits.memory_bytes)
    # First of all, because the worker imports torch meanwhile, as planning does here.
    with Workplace(extensions=request.extensions, threads=request.threads, limits=limits) as workplace:
        suite, laid_out = _plan(request)
        run = _measure(console, laid_out, _settings(request, suite), folder, request, workplace)
    _print_summary(console, run)
    console.print(f"report: {folder / 'report.md'}", soft_wrap=True, markup=False, highlight=False)
    return int(any(record.outcome in _FAILURES for record in run.records))


def _plan(request: Request) -> tuple[Suite, Plan]:
    _declare(request.extensions)
    suite = suites.load(request.suite)
    import torch  # here, so that a misspelt suite is answered at once

    return suite, planning.plan(suite, request.filters, cuda=torch.cuda.is_available(), seed=request.seed)


def _settings(request: Request, suite: Suite) -> Settings:
    return Settings(
        suite=suite.name,
        precision=request.precision or suite.precision,
        budget_seconds=suite.budget_seconds if request.budget_seconds is None else request.budget_seconds,
        seed=request.seed,
        filters={name: tuple(values) for name, values in request.filters.items()},
        extensions=request.extensions,
        least_rounds=suite.least_rounds,
        replicas=request.replicas,
    )


def _kept(request: Request, folder: Path) -> str:
    """What an interrupted run leaves, and how to go on."""
    from opbench.engine.journal import NAME, Finished, read

    journal = folder / NAME
    if not journal.exists():
        return "nothing was measured yet"
    done = sum(isinstance(entry, Finished) for entry in read(journal)[0])
    resume = f"{command_of(request)} -o {shlex.quote(str(folder))} --resume"
    return f"{done} finished panels are kept in {journal}; go on with:\n{resume}"


def _console() -> Console:
    """Standard output; where that is a file or a pipe, wide enough that no cell is folded."""
    return Console(width=None if sys.stdout.isatty() else 160)


def command_of(request: Request) -> str:
    """The command that repeats a request, wherever its output went."""
    words = ["opbench", "run", "--suite", request.suite]
    words += [part for name, values in request.filters.items() for value in values for part in (f"--{name}", value)]
    if request.precision is not None:
        words += ["--precision", f"{request.precision:g}"]
    if request.budget_seconds is not None:
        words += ["--budget", f"{request.budget_seconds:g}"]
    if request.threads is not None:
        words += ["--threads", str(request.threads)]
    if request.replicas != 1:
        words += ["--replicas", str(request.replicas)]
    if request.timeout_seconds is not None:
        words += ["--timeout", f"{request.timeout_seconds:g}"]
    if request.memory_gib is not None:
        words += ["--memory", f"{request.memory_gib:g}"]
    words += ["--seed", str(request.seed)]
    words += [part for path in request.extensions for part in ("--with", path)]
    return shlex.join(words)


def _declare(extensions: Sequence[str]) -> None:
    registry.load()
    for path in extensions:
        registry.load_file(path)


def _local_folder(suite: str) -> Path:
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    return Path("results") / "local" / f"{suite}-{stamp}"


def _measure(
    console: Console, laid_out: Plan, settings: Settings, folder: Path, request: Request, workplace: Workplace
) -> Run:
    from opbench.engine.run import execute

    columns = (
        SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TextColumn("panels"), TimeElapsedColumn(),
        TextColumn("left"), TimeLeftColumn(), TextColumn("{task.description}"),
    )  # fmt: skip
    # Drawn twice a second: drawing takes time from what is measured.
    with Progress(*columns, console=console, transient=True, refresh_per_second=2) as bar:
        task = bar.add_task("yardsticks", total=len(laid_out.panels) * settings.replicas)

        def progress(done: int, panel: Panel | None) -> None:
            bar.update(task, completed=done, description=panel.id if panel else "")

        return execute(
            laid_out,
            settings,
            folder,
            command=command_of(request),
            progress=progress,
            workplace=workplace,
            finish=lambda run: _write(run, folder),
            resume=request.resume,
        )


def _write(run: Run, folder: Path) -> None:
    from opbench.document import save
    from opbench.report.markdown import write

    save(run, folder / "run.json")
    write(run, folder)


def _print_summary(console: Console, run: Run) -> None:
    from opbench.report.terminal import summary

    console.print(summary(run))


def _print_plan(console: Console, laid_out: Plan) -> None:
    table = Table("panel", "contenders", title=f"suite {laid_out.suite}: {len(laid_out.panels)} panels")
    for panel in laid_out.panels:
        table.add_row(escape(panel.id), escape("\n".join(case.contender for case in panel.cases)))
    console.print(table)
    if laid_out.skipped:
        skipped = Table("skipped case", "reason", title=f"{len(laid_out.skipped)} cases skipped")
        for case in laid_out.skipped:
            skipped.add_row(escape(case.case), escape(case.reason))
        console.print(skipped)


def listing(what: str, suite: str, extensions: Sequence[str]) -> None:
    """Prints tasks, operators, implementations, suites or workloads as a table."""
    _declare(extensions)
    _console().print(_LISTINGS[what](suite))


def _tasks(_: str) -> Table:
    table = Table("task", "baseline", "dimensions", "title")
    for task in registry.tasks().values():
        optional = [f"{name}={value}" for name, value in task.defaults.items()]
        table.add_row(*map(escape, (task.name, task.baseline, " ".join([*task.dims, *optional]), task.title)))
    return table


def _operators(_: str) -> Table:
    table = Table("task", "operator", "title", "source")
    for task in registry.tasks():
        for operator in registry.operators(task).values():
            table.add_row(*map(escape, (task, operator.name, operator.title, operator.source)))
    return table


def _implementations(_: str) -> Table:
    table = Table("task", "contender", "devices", "here", "note")
    for task in registry.tasks():
        for operator in registry.operators(task).values():
            for name, implementation in operator.implementations.items():
                devices = ", ".join(implementation.devices)
                here = implementation.missing() or "available"
                table.add_row(*map(escape, (task, f"{operator.name}[{name}]", devices, here, implementation.note)))
    return table


def _suites(_: str) -> Table:
    table = Table("suite", "workloads", "title")
    for name in suites.names():
        suite = suites.load(name)
        table.add_row(name, str(len(suite.workloads)), escape(suite.title))
    return table


def _workloads(name: str) -> Table:
    table = Table("task", "workload", "dimensions", "source")
    for workload in suites.load(name).workloads:
        dims = " ".join(f"{key}={value}" for key, value in workload.dims.items())
        table.add_row(*map(escape, (workload.task, workload.name, dims, workload.source)))
    return table


_LISTINGS = {
    "tasks": _tasks,
    "operators": _operators,
    "implementations": _implementations,
    "suites": _suites,
    "workloads": _workloads,
}


def write_reports(paths: Sequence[Path], output: Path) -> None:
    """Writes the report of each run document; of several, each into a folder of its own, and all of them compared."""
    from opbench.document import load
    from opbench.report import machines
    from opbench.report.markdown import write

    runs = [load(path) for path in paths]
    for position, run in enumerate(runs, start=1):
        folder = output if len(runs) == 1 else output / f"{position}-{run.settings.suite}"
        print(f"report: {write(run, folder)}")
    if len(runs) > 1:
        print(f"side by side: {machines.write(runs, output)}")


def print_environment() -> None:
    """Prints what a run here would record of its surroundings."""
    import msgspec

    from opbench.engine.environment import environment

    for key, value in msgspec.structs.asdict(environment()).items():
        if isinstance(value, dict):
            for name, text in value.items():
                print(f"{name}: {text}")
        else:
            print(f"{key}: {value}")


def update_readme(file: Path, *, check: bool) -> int:
    """Writes a file's generated tables anew; with `check`, only says whether they are up to date (exit code 1)."""
    from opbench.document import replace_file
    from opbench.report.readme import document, update

    try:
        before = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OpbenchError(f"{file}: can't be read: {error}") from error
    after = update(before, lambda name: document(file.parent / name))
    if before == after:
        print(f"{file}: up to date")
        return 0
    if check:
        print(f"{file}: out of date; run `opbench readme {file}`")
        return 1
    replace_file(file, after.encode())
    print(f"{file}: written")
    return 0
