"""`opbench decide`: what every operator of a slot would cost in a person's network, and what is never worth that.

The places are found in the network, written down as a suite, and measured as `opbench run` measures one; the run
document is read by every command that reads runs.
"""

from __future__ import annotations

import contextlib
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec

from opbench.commands import Command
from opbench.exit_codes import Exit, of_outcomes
from opbench.network_request import (
    Arguments,
    Batch,
    DeviceName,
    DTypeName,
    ModeName,
    Size,
    Spread,
    Target,
    check_words,
    parse_size,
)
from opbench.options import CASES, OUTPUT, Option, Quiet, Verbose, command_line, folder, loudness, seconds
from opbench.plural import counted
from opbench.run_request import PRECISION, Extensions, RunRequest, Seed, ShareCpu, Threads, local_folder

if TYPE_CHECKING:
    from opbench.decision.nouns import NetworkDecision, OutOfReach
    from opbench.decision.places import FoundPlaces
    from opbench.engine.planner import LaidOut
    from opbench.report.screen import Screen
    from opbench.schema import Run

# What a decision may take unless it is told otherwise; a longer one is said before it starts.
SECONDS = 300.0
# Of timing, for each panel: below the first an interval says little, beyond the second it hardly narrows.
LEAST_BUDGET, MOST_BUDGET = 1.5, 9.0


class DecideRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which network, which of its slots, on which input, and how long it may take."""

    target: Target
    task: Annotated[
        tuple[str, ...],
        Option("Only this task: upsample2x, conv3x3, downsample2x (repeatable) [every slot].", group=CASES),
    ] = ()
    role: Annotated[
        tuple[str, ...],
        Option("Only layers of this role: backbone, neck, head, bottleneck (repeatable: of each).", group=CASES),
    ] = ()
    where: Annotated[str | None, Option("Only layers of such names.", metavar="GLOB", group=CASES)] = None
    operator: Annotated[tuple[str, ...], Option("Only this operator (repeatable).", group=CASES)] = ()
    every_implementation: Annotated[
        bool, Option("Each implementation of every operator [the one that auto takes].", group=CASES)
    ] = False
    size: Size = "640x640"
    batch: Batch = 1
    dtype: DTypeName = "float32"
    device: DeviceName = "cpu"
    mode: ModeName = "inference"
    arg: Arguments = ()
    spread: Spread = 2.0
    precision: Annotated[float, PRECISION] = 0.02
    budget: Annotated[
        float | None,
        seconds("Seconds of timing per panel at most [so that all of it takes 5 minutes].", least=0.0),
    ] = None
    threads: Threads = None
    share_cpu: ShareCpu = False
    seed: Seed = 0
    output: Annotated[
        Path | None,
        folder("Folder for run.json, decide.md and its charts [results/local/...]."),
    ] = None
    resume: Annotated[bool, Option("Go on with the unfinished run in -o DIR.", repeats=False)] = False
    as_json: Annotated[bool, Option("Print the decision as JSON.", flag="--json", repeats=False, group=OUTPUT)] = False
    quiet: Quiet = False
    verbose: Verbose = False
    extensions: Extensions = ()


class ReadNetwork(NamedTuple):
    """What of a network the rest needs: what it is, what goes in, and its places."""

    kind: str
    input_shape: tuple[int, ...]
    found: FoundPlaces


def decide(request: DecideRequest) -> Exit:
    """Price every operator of a slot in your own network, ranked; says which are never worth their cost there."""
    from opbench import documents
    from opbench.report.decision import shown, write
    from opbench.report.lines import say_json
    from opbench.report.screen import screen
    from opbench.schema import OpbenchError

    check_words(request.device, request.dtype, request.mode)
    if request.resume and not request.output:
        raise OpbenchError("--resume needs -o DIR: the folder of the run to go on with")
    told = screen(error=True, loudness=loudness(request))
    network = _network(request)
    planned, missing = _planned(request, network, told)
    run = _measured(request, planned, told)
    if run is None:
        return Exit.INTERRUPTED
    decision = _weighed(request, network, run, missing)
    folder = planned.output
    assert folder is not None
    report = write(decision, folder)
    if request.as_json:
        say_json(msgspec.json.format(documents.render(decision), indent=2))
    else:
        screen().show(*shown(decision))
        screen().line(f"decision: {report}\nrun: {folder / 'run.json'}")
    return of_outcomes(record.outcome for record in run.records)


def _network(request: DecideRequest) -> ReadNetwork:
    """Loads the network and finds its places; what it prints is no part of the answer."""
    from opbench.decision.places import find
    from opbench.models.sites import input_shape
    from opbench.models.target import load_model
    from opbench.report.screen import status

    size = parse_size(request.size)
    loud = loudness(request)
    with contextlib.redirect_stdout(sys.stderr), status("loading the model", piped=True, loudness=loud) as told:
        model = load_model(request.target, request.arg, request.seed).float()
        told("finding the places")
        found = find(
            model,
            request.target,
            size,
            batch=request.batch,
            tasks=request.task,
            roles=request.role,
            where=request.where,
        )
        shape = (request.batch, *input_shape(model, size)[1:])
    return ReadNetwork(type(model).__name__, shape, found)


Missing = Mapping[str, Sequence["OutOfReach"]]


def _planned(request: DecideRequest, network: ReadNetwork, told: Screen) -> tuple[RunRequest, Missing]:
    """Writes the suite and says how long the run will take."""
    from opbench import registry
    from opbench.decision.places import competing, suite, suite_name
    from opbench.documents import replace_file
    from opbench.engine.planner import planned

    registry.load()
    tasks = list(dict.fromkeys(place.task for place in network.found.places))
    names: dict[str, tuple[str, ...]] = dict.fromkeys(tasks, ())
    missing: dict[str, tuple[OutOfReach, ...]] = {}
    if not request.every_implementation:
        for task in tasks:
            names[task], missing[task] = competing(task, request.device, request.dtype)  # type: ignore[arg-type]
    shape = "x".join(map(str, network.input_shape))
    text = suite(
        f"{request.target} at {shape}: every operator of {' and '.join(tasks)} in its places",
        network.found.places,
        names,
        dtype=request.dtype,  # type: ignore[arg-type]
        device=request.device,  # type: ignore[arg-type]
        mode=request.mode,
        spread=request.spread,
    )
    name = suite_name(request.target)
    folder = request.output or local_folder(RunRequest(suite=f"decide-{name}"))
    path = folder / f"{name}.toml"
    replace_file(path, text.encode())
    asked = RunRequest(
        suite=str(path),
        output=folder,
        operator=request.operator,
        precision=request.precision,
        budget=0.0,
        threads=request.threads,
        share_cpu=request.share_cpu,
        seed=request.seed,
        extensions=request.extensions,
        resume=request.resume,
    )
    found = planned(asked)
    timing = _fitted(found, request.budget)
    cases, panels = sum(len(panel.cases) for panel in found.plan.panels), len(found.plan.panels)
    visits = f" in {timing.visits} visits" if timing.visits > 1 else ""
    told.line(
        f"{counted(cases, 'case')} in {counted(panels, 'panel')}, each panel timed for up to "
        f"{timing.budget:g} s{visits}: {_minutes(timing.whole)}"
    )
    if timing.whole > SECONDS:
        told.line(shorter(request, tasks))
    return msgspec.structs.replace(asked, budget=timing.budget, replicas=timing.visits), missing


class PlannedTiming(NamedTuple):
    """Seconds for each panel, in how many visits, and what the whole run may take."""

    budget: float
    visits: int
    whole: float


def _fitted(found: LaidOut, budget: float | None) -> PlannedTiming:
    """What is left of the time for each panel; a single visit where several would leave too little, or be too long."""
    from opbench.engine.estimate import seconds

    panels = max(1, len(found.plan.panels))

    def timed(visits: int) -> PlannedTiming:
        fixed = seconds(found.plan, msgspec.structs.replace(found.settings, replicas=visits, budget_seconds=0.0))
        # Rounded down: what is rounded up takes longer than it may.
        share = math.floor(10 * (SECONDS - fixed) / panels) / 10
        chosen = min(max(share, LEAST_BUDGET), MOST_BUDGET) if budget is None else budget
        return PlannedTiming(chosen, visits, fixed + chosen * panels)

    usual = timed(found.settings.replicas)
    return usual if usual.whole <= SECONDS else timed(1)


def _minutes(seconds: float) -> str:
    return f"at most about {max(seconds / 60, 0.1):.1f} minutes"


def shorter(request: DecideRequest, tasks: Sequence[str]) -> str:
    """What makes a long decision short, as far as it isn't asked for already."""
    ways = []
    if len(tasks) > 1:
        ways.append(" or ".join(f"--task {task}" for task in tasks))
    if not request.operator:
        ways.append("--operator NAME, once for each that you consider")
    if not request.role:
        ways.append("--role bottleneck")
    ways.append("a smaller --size")
    if request.batch > 1:
        ways.append("--batch 1")
    if request.every_implementation:
        ways.append("no --every-implementation")
    return f"that is longer than 5 minutes; shorter: {'; '.join(ways)}"


def _measured(request: DecideRequest, planned: RunRequest, told: Screen) -> Run | None:
    """The run, its document in the folder; None where it was interrupted, which says how to go on."""
    from opbench.commands.run import measured
    from opbench.documents import save
    from opbench.engine.entries import NAME
    from opbench.report.lines import say

    folder = planned.output
    assert folder is not None
    try:
        run, said = measured(
            planned, folder, told.progress, lambda run, where: save(run, where / "run.json"), told.line
        )
    except KeyboardInterrupt:
        if (folder / NAME).exists():
            say(f"opbench: interrupted; what is finished is kept in {folder / NAME}; go on with:", error=True)
            say(f"{command_line('decide', request)} -o {shlex.quote(str(folder))} --resume", error=True)
        else:
            say("opbench: interrupted; nothing was measured yet", error=True)
        return None
    for line in said:
        told.line(line)
    return run


def _weighed(request: DecideRequest, network: ReadNetwork, run: Run, missing: Missing) -> NetworkDecision:
    from opbench.decision.weighing import weigh

    return weigh(
        run,
        network.found,
        target=request.target,
        network=network.kind,
        input_shape=network.input_shape,
        command=command_line("decide", request),
        dtype=request.dtype,
        device=request.device,
        mode=request.mode,
        spread=request.spread,
        missing=missing,
    )


COMMAND = Command("decide", DecideRequest, decide)
