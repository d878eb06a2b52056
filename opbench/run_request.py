"""What `opbench run` is asked for. Run documents carry it as a command line, and reports repeat a row of them by it."""

from __future__ import annotations

import datetime
import functools
import shlex
from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec

from opbench.options import Option, command_line, parse, words
from opbench.schema import DEFAULT_RUNTIME, Case, Filter, OpbenchError, Run, Settings, Suite

FILTERS: tuple[Filter, ...] = get_args(Filter)
# Nobody typed what is longer; splitting a document's megabyte of quotes into words would take minutes.
LONGEST_COMMAND = 20_000


# Two would leave one degree of freedom, whose interval is nine standard deviations wide; each one more costs a start
# and the building of every contender.
VISITS = 3
# So few are measured within a minute: their visits would lie in one phase of the machine.
FEW_PANELS = 3


# What every command that measures as a run does is asked in the same words.
PRECISION = Option("Half-width of each ratio's 95 % interval, as in 1%.", metavar="SHARE", share=True)
Threads = Annotated[
    str | None, Option("CPU threads; auto: as many as cores are free [torch's own choice].", metavar="N", auto=True)
]
ShareCpu = Annotated[
    bool, Option("Let others have the cores: rounds in which a core was waited for count, and the run says so.")
]
Seed = Annotated[int, Option("Seed of every input, parameter and random order.", least=0)]
Extensions = Annotated[tuple[str, ...], Option("A file whose declarations compete.", flag="--with", metavar="FILE.py")]


class RunRequest(msgspec.Struct, frozen=True, kw_only=True):
    """None leaves the choice to the suite or to torch."""

    suite: Annotated[str, Option("A suite's name, or a suite file of your own (FILE.toml).", spelled=True)] = "default"
    output: Annotated[
        Path | None,
        Option("Folder for run.json and report.md [results/local/...].", short="-o", repeats=False),
    ] = None
    task: Annotated[tuple[str, ...], Option("Only this task (repeatable, as are all filters).")] = ()
    workload: Annotated[tuple[str, ...], Option("Only this workload.")] = ()
    operator: Annotated[tuple[str, ...], Option("Only this operator, beside the baseline.")] = ()
    implementation: Annotated[tuple[str, ...], Option("Only this implementation, beside the baseline.")] = ()
    dtype: Annotated[tuple[str, ...], Option("This dtype: float64, float32, bfloat16, float16.")] = ()
    device: Annotated[tuple[str, ...], Option("Only this device: cpu, cuda.")] = ()
    mode: Annotated[tuple[str, ...], Option("This mode: inference, training.")] = ()
    runtime: Annotated[
        tuple[str, ...],
        Option("What executes the contenders: torch, torch-compile, torch-export, torchscript, onnxruntime, openvino."),
    ] = ()
    precision: Annotated[float | None, PRECISION] = None
    budget: Annotated[float | None, Option("Seconds of timing per panel at most.", least=0.0)] = None
    threads: Threads = None
    replicas: Annotated[
        int | None,
        Option(
            "Visits of each panel, in fresh processes and far apart, that share its budget "
            f"[{VISITS}; 1 of {FEW_PANELS} panels or fewer].",
            least=1,
        ),
    ] = None
    timeout: Annotated[
        float | None, Option("Seconds for one step of a contender, compiling included [300].", least=0.1)
    ] = None
    memory: Annotated[
        float | None, Option("GiB for the measuring process [nine tenths of what is free].", least=0.1)
    ] = None
    within: Annotated[
        float | None,
        Option("Seconds after which no other panel is begun; what is missing, --resume adds.", least=1.0),
    ] = None
    across_runtimes: Annotated[
        bool, Option("Panels of one operator in several runtimes, with torch as the baseline.")
    ] = False
    tiles: Annotated[
        str | None,
        Option(
            "Tiles of the Triton kernels: table, tune (the few candidates are timed once on a machine), or a file of "
            "your own [table].",
            metavar="WORD|FILE.toml",
        ),
    ] = None
    share_cpu: ShareCpu = False
    resume: Annotated[bool, Option("Go on with the unfinished run in -o DIR.", repeats=False)] = False
    seed: Seed = 0
    set_: Annotated[
        tuple[str, ...], Option("One of an operator's own settings.", flag="--set", metavar="OPERATOR.NAME=VALUE")
    ] = ()
    extensions: Extensions = ()
    dry_run: Annotated[bool, Option("Print what would be measured, and what not and why.", repeats=False)] = False

    @property
    def filters(self) -> dict[Filter, tuple[str, ...]]:
        """What was asked of each filter, where something was."""
        return {name: getattr(self, name) for name in FILTERS if getattr(self, name)}

    @property
    def thread_count(self) -> int | Literal["auto"] | None:
        """How many threads were asked for; None leaves it to torch."""
        return "auto" if self.threads == "auto" else int(self.threads) if self.threads else None

    @property
    def settings(self) -> dict[str, dict[str, str]]:
        """`dysample.groups=8` as {"dysample": {"groups": "8"}}: the operator says of which type its settings are."""
        found: dict[str, dict[str, str]] = {}
        for text in self.set_:
            place, _, value = text.partition("=")
            operator, _, name = place.partition(".")
            if not (operator and name and value):
                raise OpbenchError(f"--set {text}: expected OPERATOR.NAME=VALUE, as in carafe.k_up=3")
            found.setdefault(operator, {})[name] = value
        return found


def local_folder(request: RunRequest) -> Path:
    """Where a run is written that was not told where."""
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    return Path("results") / "local" / f"{Path(request.suite).stem}-{stamp}"


def settings(request: RunRequest, suite: Suite, panels: int) -> Settings:
    """What a run of so many panels is recorded with: as asked for, else as the suite says."""
    from opbench.plan import checked

    return Settings(
        suite=suite.name,
        precision=request.precision or suite.precision,
        budget_seconds=suite.budget_seconds if request.budget is None else request.budget,
        seed=request.seed,
        filters={str(name): values for name, values in request.filters.items()},
        extensions=request.extensions,
        least_rounds=suite.least_rounds,
        replicas=request.replicas or suite.replicas or (VISITS if panels > FEW_PANELS else 1),
        operator_settings=checked(suite, request.settings),
        share_cpu=request.share_cpu,
    )


def row_command(run: Run, case: Case) -> str:
    """The command that measures one row of a run again, with its baseline beside it."""
    of_case: dict[str, tuple[str, ...]] = {name: (getattr(case, name),) for name in FILTERS}
    if case.runtime == DEFAULT_RUNTIME:
        of_case["runtime"] = ()
    if case.across_runtimes:  # beside the implementation that its operator takes in torch
        of_case["implementation"] = ()
    asked = msgspec.structs.replace(_asked(run.command, run.settings.suite), within=None, **of_case)
    asked = msgspec.structs.replace(asked, across_runtimes=case.across_runtimes)
    if run.settings.replicas > 1:  # which one panel alone would not get by itself
        asked = msgspec.structs.replace(asked, replicas=run.settings.replicas)
    if asked.threads == "auto":  # as many as were free then
        asked = msgspec.structs.replace(asked, threads=str(run.environment.threads))
    return command_line("run", asked)


def said_suite(run: Run) -> str:
    """The suite as the command line of the run names it: one of one's own is a file."""
    return _asked(run.command, run.settings.suite).suite


def carried(command: str) -> list[str]:
    """The options of a run's command that change what a row measures, as words: what no row says by itself."""
    return words(_asked(command, ""), leave_out=("suite", "within", *FILTERS))


@functools.lru_cache(maxsize=64)
def _asked(command: str, suite: str) -> RunRequest:
    """The request that a document's command line repeats, as far as it is one; of `suite` where it names no other.

    A suite of one's own is a file, which only the command line names; a paired comparison shares most options of a run.
    """
    nothing = RunRequest(suite=suite)
    if len(command) > LONGEST_COMMAND:
        return nothing
    try:
        said = shlex.split(command)
        return parse(RunRequest, ["--suite", suite, *said[2:]], lenient=True) if said[:1] == ["opbench"] else nothing
    except (OpbenchError, ValueError):
        return nothing
