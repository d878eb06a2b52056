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

# progress(total, unit, what comes first) as told: told(how many are done, what comes next)
Progress = Callable[[int, str, str], AbstractContextManager[Callable[[int, str], None]]]
Finish = Callable[[Run, Path], None]


def run(request: RunRequest) -> Exit:
    """Measure a suite: verified, counted and timed; writes run.json, report.md, report.html and charts."""
    from opbench.engine.delivery import delivery_to
    from opbench.engine.kept_runs import journals, kept
    from opbench.process.outliving import can_fork, outliving
    from opbench.report.lines import say
    from opbench.report.saving import save_reported
    from opbench.report.screen import screen

    check_executor(request)
    loud = loudness(request)
    if request.dry_run:
        return _dry_run(request)
    if request.resume and not request.output:
        raise OpbenchError("--resume needs -o DIR: the folder of the run to go on with")
    folder = request.output or local_folder(request)
    if (delivery := delivery_to(folder)) is not None:
        folder = delivery.folder
    if can_fork() and outliving(lambda sentence: say(f"opbench: {sentence}", error=True)):
        request = replace(request, resume=bool(journals(request, folder)))
    notes = screen(error=request.as_json, loudness=loud)  # beside JSON all else goes to standard error
    write = functools.partial(save_reported, lang=request.lang)
    try:
        if delivery is not None:
            delivery.begin(resume=request.resume)
            request = replace(request, resume=bool(journals(request, folder)))
        if request.executor == "ray":
            from opbench.run_on_fleet import run_on_fleet  # a run on one machine loads nothing of a fleet

            return run_on_fleet(request, folder, notes, write, delivery)
        done, said = measured(request, folder, notes.progress, write, notes.line, delivery)
    except KeyboardInterrupt:
        for line in kept(request, folder):
            say(line, error=True)
        return Exit.INTERRUPTED
    from opbench.report.run_summary import show_run

    place = delivery.finish() if delivery else str(folder)
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

    `finish(run, folder)` writes what is kept, `say` hears of threads without a core, `delivery` of what is finished.
    """
    from opbench.engine.limits import STEP_SECONDS, WorkerLimits
    from opbench.engine.supervisor import Supervisor
    from opbench.kernels.triton.tile_table import asking
    from opbench.measure.cores import fitting, look

    cores = look()  # while nothing of this run is at work yet
    threads = fitting(request.thread_count, say, cores)
    limits = WorkerLimits(step_seconds=request.timeout or STEP_SECONDS, memory_bytes=request.memory_bytes)
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
        from opbench.report.run_summary import say_broken

        say_broken((found := planned(request)).broken)
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
    if request.executor == "ray":
        from opbench.run_on_fleet import dry_run_on_fleet

        return dry_run_on_fleet(request)
    from opbench.engine.planner import planned
    from opbench.report.run_summary import say_broken, show_plan
    from opbench.report.screen import screen

    say_broken((found := planned(request)).broken)
    show_plan(screen(), found.plan, (*found.said, found.estimate), as_json=request.as_json)
    return Exit.FINE


COMMAND = Command("run", RunRequest, run)
