"""What `opbench run` is asked for. Run documents carry it as a command line, and reports repeat a row of them by it."""

from __future__ import annotations

import datetime
import functools
import shlex
from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec

from opbench.errors import nearest
from opbench.options import (
    CASES,
    EXTENDING,
    MEASURING,
    OUTPUT,
    Lang,
    Option,
    Quiet,
    Verbose,
    command_line,
    folder,
    parse,
    seconds,
    words,
)
from opbench.schema import DEFAULT_RUNTIME, Case, Filter, OpbenchError, Run, Settings, Suite

FILTERS: tuple[Filter, ...] = get_args(Filter)
EXECUTORS = ("local", "ray")
# Nobody typed what is longer; splitting a document's megabyte of quotes into words would take minutes.
LONGEST_COMMAND = 20_000


# Two would leave one degree of freedom, whose interval is nine standard deviations wide; each one more costs a start
# and the building of every contender.
VISITS = 3
# So few are measured within a minute: their visits would lie in one phase of the machine.
FEW_PANELS = 3


# What every command that measures as a run does is asked in the same words.
PRECISION = Option("Half-width of each ratio's 95 % interval, as in 1%.", metavar="SHARE", share=True, group=MEASURING)
Threads = Annotated[
    str | None,
    Option(
        "CPU threads; auto: as many as cores are free [torch's own choice].", metavar="N", auto=True, group=MEASURING
    ),
]
ShareCpu = Annotated[
    bool,
    Option(
        "Let others have the cores: rounds in which a core was waited for count, and the run says so.", group=MEASURING
    ),
]
Seed = Annotated[int, Option("Seed of every input, parameter and random order.", least=0, group=MEASURING)]
Extensions = Annotated[
    tuple[str, ...], Option("A file whose declarations compete.", flag="--with", metavar="FILE.py", group=EXTENDING)
]


class RunRequest(msgspec.Struct, frozen=True, kw_only=True):
    """None leaves the choice to the suite or to torch."""

    suite: Annotated[
        str, Option("A suite's name, or a suite file of your own (FILE.toml).", spelled=True, metavar="SUITE")
    ] = "default"
    output: Annotated[
        Path | None,
        folder("Folder or address (s3://...) for run.json and report.md [results/local/...]."),
    ] = None
    task: Annotated[tuple[str, ...], Option("Only this task (repeatable, as are all filters).", group=CASES)] = ()
    workload: Annotated[tuple[str, ...], Option("Only this workload.", group=CASES)] = ()
    operator: Annotated[tuple[str, ...], Option("Only this operator, beside the baseline.", group=CASES)] = ()
    implementation: Annotated[
        tuple[str, ...], Option("Only this implementation, beside the baseline.", group=CASES)
    ] = ()
    dtype: Annotated[tuple[str, ...], Option("This dtype: float64, float32, bfloat16, float16.", group=CASES)] = ()
    device: Annotated[tuple[str, ...], Option("Only this device: cpu, cuda.", group=CASES)] = ()
    mode: Annotated[tuple[str, ...], Option("This mode: inference, training.", group=CASES)] = ()
    runtime: Annotated[
        tuple[str, ...],
        Option(
            "What executes: torch, torch-compile, torch-export, torchscript, onnxruntime, openvino, ncnn, tensorrt.",
            group=CASES,
        ),
    ] = ()
    memory_format: Annotated[
        tuple[str, ...],
        Option("This memory format of images and weights: contiguous, channels_last.", group=CASES),
    ] = ()
    precision: Annotated[float | None, PRECISION] = None
    budget: Annotated[float | None, seconds("Seconds of timing per panel at most.", least=0.0)] = None
    threads: Threads = None
    replicas: Annotated[
        int | None,
        Option(
            "Visits of each panel, in fresh processes and far apart, that share its budget "
            f"[{VISITS}; 1 of {FEW_PANELS} panels or fewer].",
            least=1,
            group=MEASURING,
        ),
    ] = None
    timeout: Annotated[
        float | None,
        seconds("Seconds for one step of a contender, compiling included [300].", least=0.1),
    ] = None
    memory: Annotated[
        float | None,
        Option(
            "GiB for the measuring process [nine tenths of what is free].", least=0.1, metavar="GIB", group=MEASURING
        ),
    ] = None
    within: Annotated[
        float | None,
        seconds("Seconds after which no other panel is begun; what is missing, --resume adds.", least=1.0),
    ] = None
    across_runtimes: Annotated[
        bool, Option("Panels of one operator in several runtimes, with torch as the baseline.", group=MEASURING)
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
    executor: Annotated[
        str,
        Option(
            "What measures: local, this machine; ray, the nodes of a Ray cluster, each a panel at a time.",
            group=MEASURING,
        ),
    ] = "local"
    address: Annotated[
        str | None, Option("The Ray cluster's head [the cluster that runs here].", metavar="HOST:PORT", group=MEASURING)
    ] = None
    accelerator: Annotated[
        tuple[str, ...], Option("All of it on nodes with this accelerator, as Ray names it: H100.", group=MEASURING)
    ] = ()
    timings: Annotated[
        Path | None,
        Option("An earlier run, whose longest panels are begun first.", metavar="RUN.json", group=MEASURING),
    ] = None
    resume: Annotated[bool, Option("Go on with the unfinished run in -o DIR.", repeats=False)] = False
    seed: Seed = 0
    set_: Annotated[
        tuple[str, ...],
        Option("One of an operator's own settings.", flag="--set", metavar="OPERATOR.NAME=VALUE", group=CASES),
    ] = ()
    extensions: Extensions = ()
    lang: Lang = "en"
    dry_run: Annotated[bool, Option("Print what would be measured, and what not and why.", repeats=False)] = False
    as_json: Annotated[
        bool,
        Option(
            "Print the summary as JSON; all else goes to standard error.", flag="--json", repeats=False, group=OUTPUT
        ),
    ] = False
    quiet: Quiet = False
    verbose: Verbose = False

    @property
    def filters(self) -> dict[Filter, tuple[str, ...]]:
        """What was asked of each filter, where something was."""
        return {name: getattr(self, name) for name in FILTERS if getattr(self, name)}

    @property
    def thread_count(self) -> int | Literal["auto"] | None:
        """How many threads were asked for; None leaves it to torch."""
        return "auto" if self.threads == "auto" else int(self.threads) if self.threads else None

    @property
    def memory_bytes(self) -> int | None:
        """How much memory a worker may have; None leaves it to the machine."""
        return int(self.memory * 2**30) if self.memory else None

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


def check_executor(request: RunRequest) -> None:
    """Raises OpbenchError for an executor that isn't known, and for options that belong to another one."""
    if request.executor not in EXECUTORS:
        raise OpbenchError(f"--executor: {nearest('executor', request.executor, EXECUTORS)}")
    asked = [f"--{name}" for name in ("address", "accelerator", "timings") if getattr(request, name)]
    if asked and request.executor != "ray":
        raise OpbenchError(f"{asked[0]} belongs to a cluster: add --executor ray, or leave it out")


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
    if not case.unusual_format:
        of_case["memory_format"] = ()
    if case.across_runtimes:  # beside the implementation that its operator takes in torch
        of_case["implementation"] = ()
    asked = msgspec.structs.replace(
        _asked(run.command, run.settings.suite), within=None, address=None, timings=None, **of_case
    )
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
    return words(_asked(command, ""), leave_out=("suite", "within", "address", "timings", *FILTERS))


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
