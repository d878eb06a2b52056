"""`opbench run`: the way a case travels.

    declare       opbench.registry:load                  tasks, operators, implementations, and files of `--with`
    plan          opbench.engine.planner:planned         a suite and filters -> panels of cases
    build         opbench.build:build                    a case -> a module with its parameters and inputs
    verify        opbench.verify.gate:check              held against the definition: what is wrong is never timed
    count         opbench.measure.macs:count             parameters, MACs, operations
    measure       opbench.measure.memory:measure_memory  memory first,
                  opbench.measure.latency:measure_panel  then latency, the contenders of a panel in turns
    verify again  opbench.verify.gate:check              as right after the timing as before
    record        opbench.engine.journal:Journal         on disk as soon as a panel is finished
    report        opbench.report.markdown:write          run.json becomes report.md, report.html and charts

From build to record it is one call, `opbench.engine.run:execute`: panel by panel, in a process apart.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from opbench.commands import Command
from opbench.exit_codes import Exit, of_outcomes
from opbench.options import command_line, loudness
from opbench.run_request import RunRequest, check_executor, local_folder
from opbench.schema import OpbenchError, Run

if TYPE_CHECKING:
    from opbench.engine.delivery import Delivery
    from opbench.engine.planner import LaidOut

# progress(total, unit, what comes first) as told: told(how many are done, what comes next)
Progress = Callable[[int, str, str], AbstractContextManager[Callable[[int, str], None]]]
Finish = Callable[[Run, Path], None]


def run(request: RunRequest) -> Exit:
    """Measure a suite: verified, counted and timed; writes run.json, report.md, report.html and charts."""
    from opbench.engine.delivery import delivery_to
    from opbench.engine.kept_runs import journals, kept
    from opbench.process.outliving import can_fork, outliving
    from opbench.report.lines import say
    from opbench.report.screen import screen
    from opbench.run_on_fleet import dry_run_on_fleet, run_on_fleet

    check_executor(request)
    loud = loudness(request)
    if request.dry_run:
        return dry_run_on_fleet(request) if request.executor == "ray" else _dry_run(request)
    if request.resume and not request.output:
        raise OpbenchError("--resume needs -o DIR: the folder of the run to go on with")
    folder = request.output or local_folder(request)
    if (delivery := delivery_to(folder)) is not None:
        folder = delivery.folder
    if can_fork() and outliving(lambda sentence: say(f"opbench: {sentence}", error=True)):
        request = replace(request, resume=bool(journals(request, folder)))
    # Where the answer is JSON, everything else is on standard error.
    notes = screen(error=request.as_json, loudness=loud)
    write = functools.partial(report, lang=request.lang)
    try:
        if delivery is not None:
            delivery.begin(resume=request.resume)
            request = replace(request, resume=bool(journals(request, folder)))
        if request.executor == "ray":
            return run_on_fleet(request, folder, notes, write, delivery)
        done, said = measured(request, folder, notes.progress, write, notes.line, delivery)
    except KeyboardInterrupt:
        for line in kept(request, folder):
            say(line, error=True)
        return Exit.INTERRUPTED
    from opbench.report.run_summary import show_run

    if delivery is not None:
        delivery.finish()
    place = delivery.address if delivery else str(folder)
    show_run(screen(), done, said, place, as_json=request.as_json, loudness=loud, lang=request.lang)
    return of_outcomes(record.outcome for record in done.records)


def measured(
    request: RunRequest,
    folder: Path,
    progress: Progress,
    finish: Finish,
    say: Callable[[str], None],
    delivery: Delivery | None = None,
) -> tuple[Run, tuple[str, ...]]:
    """From declaring to recording, and what a reader must know of the plan.

    `finish(run, folder)` writes what is kept, `say` hears of threads without a core. `delivery` puts what is finished
    to an address.
    """
    from opbench.engine.supervisor import Supervisor, WorkerLimits
    from opbench.kernels.triton.tile_table import asking
    from opbench.measure.cores import fitting, look

    cores = look()  # while nothing of this run is at work yet
    threads = fitting(request.thread_count, say, cores)
    memory = int(request.memory * 2**30) if request.memory else None
    limits = WorkerLimits(step_seconds=request.timeout or WorkerLimits().step_seconds, memory_bytes=memory)
    # First of all, because the worker imports torch meanwhile, as planning does here.
    with (
        asking(request.tiles),
        Supervisor(extensions=request.extensions, threads=threads, limits=limits, cores=cores) as supervisor,
    ):
        from opbench.analyse.known_machine import known_machine
        from opbench.engine.executor import LocalExecutor
        from opbench.engine.log import Log
        from opbench.engine.planner import planned
        from opbench.engine.run import execute

        _say_broken(found := planned(request))
        if delivery is not None:
            delivery.plan(found.plan)
        total = len(found.plan.panels) * found.settings.replicas
        shown = progress(total, "panel", "yardsticks")
        with delivery.beside(shown) if delivery else shown as told, Log(folder) as log:
            done = execute(
                found.plan,
                found.settings,
                folder,
                command=command_line("run", request),
                progress=lambda count, panel: told(count, panel.id if panel else ""),
                executor=LocalExecutor(supervisor),
                finish=lambda finished: finish(finished, folder),
                resume=request.resume,
                within_seconds=request.within,
                known=functools.partial(known_machine, folder),
                log=log.write,
            )
    return done, found.said


def _dry_run(request: RunRequest) -> Exit:
    from opbench.engine.planner import planned
    from opbench.report.run_summary import show_plan
    from opbench.report.screen import screen

    _say_broken(found := planned(request))
    show_plan(screen(), found.plan, (*found.said, found.estimate), as_json=request.as_json)
    return Exit.FINE


def _say_broken(found: LaidOut) -> None:
    """What couldn't be loaded in the process that planned; what this one couldn't load, every command says."""
    from opbench import registry
    from opbench.report.lines import say

    for sentence in set(found.broken) - set(registry.broken_so_far()):
        say(f"opbench: {sentence}", error=True)


def report(finished: Run, folder: Path, lang: str = "en") -> None:
    """Writes run.json and its report, whose first sentences are in a language."""
    from opbench.documents import save
    from opbench.report.markdown import write

    save(finished, folder / "run.json")
    write(finished, folder, lang)


COMMAND = Command("run", RunRequest, run)
