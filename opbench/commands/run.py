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
import shlex
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from opbench.commands import Command
from opbench.exit_codes import Exit, of_outcomes
from opbench.options import command_line
from opbench.run_request import RunRequest, local_folder
from opbench.schema import OpbenchError, Run

if TYPE_CHECKING:
    from opbench.engine.planner import LaidOut

# progress(total, unit, what comes first) as told: told(how many are done, what comes next)
Progress = Callable[[int, str, str], AbstractContextManager[Callable[[int, str], None]]]
Finish = Callable[[Run, Path], None]


def run(request: RunRequest) -> Exit:
    """Measure a suite: verified, counted and timed; writes run.json, report.md, report.html and charts."""
    from opbench.engine.entries import NAME
    from opbench.process.outliving import can_fork, outliving
    from opbench.report.lines import say
    from opbench.report.screen import screen

    if request.dry_run:
        return _dry_run(request)
    if request.resume and not request.output:
        raise OpbenchError("--resume needs -o DIR: the folder of the run to go on with")
    folder = request.output or local_folder(request)
    if can_fork() and outliving(lambda sentence: say(f"opbench: {sentence}", error=True)):
        request = replace(request, resume=(folder / NAME).exists())
    shown = screen()
    try:
        done, said = measured(request, folder, shown.progress, report, shown.line)
    except KeyboardInterrupt:
        for line in _kept(request, folder):
            say(line, error=True)
        return Exit.INTERRUPTED
    shown.summary(done)
    shown.line("\n".join((*said, f"report: {folder / 'report.md'}")))
    return of_outcomes(record.outcome for record in done.records)


def measured(
    request: RunRequest, folder: Path, progress: Progress, finish: Finish, say: Callable[[str], None]
) -> tuple[Run, tuple[str, ...]]:
    """From declaring to recording, and what a reader must know of the plan.

    `finish(run, folder)` writes what is kept, `say` hears of threads without a core.
    """
    from opbench.engine.supervisor import Supervisor, WorkerLimits
    from opbench.kernels.triton.tile_table import asking
    from opbench.measure.cores import fitting, look

    threads = fitting(request.thread_count, say, cores := look())  # while nothing of this run is at work yet
    seconds, memory = request.timeout or WorkerLimits().step_seconds, request.memory
    limits = WorkerLimits(step_seconds=seconds, memory_bytes=int(memory * 2**30) if memory else None)
    # First of all, because the worker imports torch meanwhile, as planning does here.
    supervising = functools.partial(Supervisor, extensions=request.extensions, threads=threads)
    with asking(request.tiles), supervising(limits=limits, cores=cores) as supervisor:
        from opbench.analyse.known_machine import known_machine
        from opbench.engine.log import Log
        from opbench.engine.planner import planned
        from opbench.engine.run import execute

        _say_broken(found := planned(request))
        total = len(found.plan.panels) * found.settings.replicas
        with progress(total, "panels", "yardsticks") as told, Log(folder) as log:
            done = execute(
                found.plan,
                found.settings,
                folder,
                command=command_line("run", request),
                progress=lambda count, panel: told(count, panel.id if panel else ""),
                supervisor=supervisor,
                finish=lambda finished: finish(finished, folder),
                resume=request.resume,
                within_seconds=request.within,
                known=functools.partial(known_machine, folder),
                log=log.write,
            )
    return done, found.said


def _dry_run(request: RunRequest) -> Exit:
    from opbench.engine.planner import planned
    from opbench.report.screen import print_plan, screen

    shown = screen()
    _say_broken(found := planned(request))
    print_plan(shown, found.plan)
    shown.line("\n".join((*found.said, found.estimate)))
    return Exit.FINE


def _say_broken(found: LaidOut) -> None:
    """What couldn't be loaded in the process that planned; what this one couldn't load, every command says."""
    from opbench import registry
    from opbench.report.lines import say

    for sentence in set(found.broken) - set(registry.broken_so_far()):
        say(f"opbench: {sentence}", error=True)


def report(finished: Run, folder: Path) -> None:
    """Writes run.json and its report."""
    from opbench.documents import save
    from opbench.report.markdown import write

    save(finished, folder / "run.json")
    write(finished, folder)


def _kept(request: RunRequest, folder: Path) -> Iterator[str]:
    """What an interrupted run leaves, and how to go on."""
    from opbench.engine.entries import NAME, PanelFinished, read

    if not (folder / NAME).exists():
        yield "opbench: interrupted; nothing was measured yet"
        return
    done = sum(isinstance(entry, PanelFinished) for entry in read(folder / NAME)[0])
    yield f"opbench: interrupted; {done} finished panels are kept in {folder / NAME}; go on with:"
    yield f"{command_line('run', request)} -o {shlex.quote(str(folder))} --resume"


COMMAND = Command("run", RunRequest, run)
