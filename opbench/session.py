"""What each command does, as a visible list of stages. The command line calls these; so may a script."""

from __future__ import annotations

import datetime
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from opbench import baseline_alone, registry, suites
from opbench import plan as planning
from opbench.report.screen import Screen, screen
from opbench.schema import OpbenchError, Plan, Run, Setting, Settings, Suite

if TYPE_CHECKING:
    from opbench.engine.supervisor import Supervisor
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
    settings: Mapping[str, Mapping[str, Setting]] = field(default_factory=dict)
    dry_run: bool = False
    replicas: int = 1
    timeout_seconds: float | None = None
    memory_gib: float | None = None
    resume: bool = False
    within_seconds: float | None = None


def run_suite(request: Request) -> int:
    """Declare -> plan -> measure -> report. Returns the exit code: 1 if any case failed, 130 after Ctrl-C."""
    shown = screen()
    if request.dry_run:
        _print_plan(shown, request)
        return 0
    if request.resume and request.output is None:
        raise OpbenchError("--resume needs -o DIR: the folder of the run to go on with")
    folder = request.output or _local_folder(Path(request.suite).stem)
    try:
        return _run(shown, request, folder)
    except KeyboardInterrupt:
        # Not 0, 1 or 2: nothing was decided. It is what a shell reports of a program that Ctrl-C ended.
        print(f"opbench: interrupted; {_kept(request, folder)}", file=sys.stderr)
        return INTERRUPTED


def _run(shown: Screen, request: Request, folder: Path) -> int:
    from opbench.engine.supervisor import Supervisor, WorkerLimits

    limits = WorkerLimits(memory_bytes=None if request.memory_gib is None else int(request.memory_gib * 2**30))
    if request.timeout_seconds is not None:
        limits = WorkerLimits(step_seconds=request.timeout_seconds, memory_bytes=limits.memory_bytes)
    # First of all, because the worker imports torch meanwhile, as planning does here.
    with Supervisor(extensions=request.extensions, threads=request.threads, limits=limits) as supervisor:
        suite, laid_out = _plan(request)
        run = _measure(shown, laid_out, _settings(request, suite), folder, request, supervisor)
    shown.summary(run)
    for sentence in baseline_alone.sentences(suite, laid_out, request.filters):
        shown.line(sentence)
    shown.line(f"report: {folder / 'report.md'}")
    return int(any(record.outcome in _FAILURES for record in run.records))


def _plan(request: Request) -> tuple[Suite, Plan]:
    _declare(request.extensions)
    suite = suites.load(request.suite)
    import torch  # here, so that a misspelt suite is answered at once

    laid_out = planning.plan(
        suite, request.filters, cuda=torch.cuda.is_available(), seed=request.seed, settings=request.settings
    )
    baseline_alone.refuse(suite, laid_out, request.filters)
    return suite, laid_out


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
        operator_settings=planning.checked(suite, request.settings),
    )


def _kept(request: Request, folder: Path) -> str:
    """What an interrupted run leaves, and how to go on."""
    from opbench.engine.entries import NAME, PanelFinished, read

    journal = folder / NAME
    if not journal.exists():
        return "nothing was measured yet"
    done = sum(isinstance(entry, PanelFinished) for entry in read(journal)[0])
    resume = f"{command_of(request)} -o {shlex.quote(str(folder))} --resume"
    return f"{done} finished panels are kept in {journal}; go on with:\n{resume}"


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
    if request.within_seconds is not None:
        words += ["--within", f"{request.within_seconds:g}"]
    words += ["--seed", str(request.seed)]
    for operator, settings in request.settings.items():
        words += [part for name, value in settings.items() for part in ("--set", f"{operator}.{name}={value}")]
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
    shown: Screen, laid_out: Plan, settings: Settings, folder: Path, request: Request, supervisor: Supervisor
) -> Run:
    from opbench.engine.log import Log
    from opbench.engine.run import execute

    total = len(laid_out.panels) * settings.replicas
    with shown.progress(total, "panels", "yardsticks") as told, Log(folder) as log:
        return execute(
            laid_out,
            settings,
            folder,
            command=command_of(request),
            progress=lambda done, panel: told(done, panel.id if panel else ""),
            supervisor=supervisor,
            finish=lambda run: _write(run, folder),
            resume=request.resume,
            within_seconds=request.within_seconds,
            log=log.write,
        )


def _write(run: Run, folder: Path) -> None:
    from opbench.documents import save
    from opbench.report.markdown import write

    save(run, folder / "run.json")
    write(run, folder)


def _print_plan(shown: Screen, request: Request) -> None:
    from opbench.engine.estimate import estimate

    suite, laid_out = _plan(request)
    panels = [(panel.id, "\n".join(case.contender for case in panel.cases)) for panel in laid_out.panels]
    shown.table(("panel", "contenders"), panels, f"suite {laid_out.suite}: {len(panels)} panels")
    if laid_out.skipped:
        skipped = [(case.case, case.reason) for case in laid_out.skipped]
        shown.table(("skipped case", "reason"), skipped, f"{len(skipped)} cases skipped")
    for sentence in baseline_alone.sentences(suite, laid_out, request.filters):
        shown.line(sentence)
    shown.line(estimate(laid_out, _settings(request, suite)))


def listing(what: str, suite: str, extensions: Sequence[str]) -> None:
    """Prints tasks, operators, implementations, suites or workloads as a table."""
    _declare(extensions)
    header, rows = _LISTINGS[what](suite)
    screen().table(header, rows)


# A header and its rows.
_Listing = tuple[tuple[str, ...], Sequence[tuple[str, ...]]]


def _tasks(_: str) -> _Listing:
    rows = []
    for task in registry.tasks().values():
        optional = [f"{name}={value}" for name, value in task.defaults.items()]
        rows.append((task.name, task.baseline, " ".join([*task.dims, *optional]), task.title))
    return ("task", "baseline", "dimensions", "title"), rows


def _operators(_: str) -> _Listing:
    every = ((task, operator) for task in registry.tasks() for operator in registry.operators(task).values())
    rows = [(task, operator.name, operator.title, operator.source) for task, operator in every]
    return ("task", "operator", "title", "source"), rows


def _implementations(_: str) -> _Listing:
    rows = []
    for task in registry.tasks():
        for operator in registry.operators(task).values():
            for name, implementation in operator.implementations.items():
                devices = ", ".join(implementation.devices)
                here = implementation.missing() or "available"
                rows.append((task, f"{operator.name}[{name}]", devices, here, implementation.note))
    return ("task", "contender", "devices", "here", "note"), rows


def _suites(_: str) -> _Listing:
    found = [(name, suites.load(name)) for name in suites.names()]
    return ("suite", "workloads", "title"), [(name, str(len(suite.workloads)), suite.title) for name, suite in found]


def _workloads(name: str) -> _Listing:
    rows = []
    for workload in suites.load(name).workloads:
        dims = " ".join(f"{key}={value}" for key, value in workload.dims.items())
        rows.append((workload.task, workload.name, dims, workload.source))
    return ("task", "workload", "dimensions", "source"), rows


_LISTINGS = {
    "tasks": _tasks,
    "operators": _operators,
    "implementations": _implementations,
    "suites": _suites,
    "workloads": _workloads,
}


def write_reports(paths: Sequence[Path], output: Path) -> None:
    """Writes the report of each run document; of several, each into a folder of its own, and all of them compared."""
    from opbench.documents import read
    from opbench.report import machines
    from opbench.report.markdown import write

    runs = [read(path, Run) for path in paths]
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
    from opbench.documents import replace_file
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
