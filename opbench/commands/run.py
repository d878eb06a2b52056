"""`opbench run`: the way a case travels.

    declare       opbench.registry:load                  tasks, operators, implementations, and files of `--with`
    plan          opbench.plan:plan                      a suite and filters -> panels of cases
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
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from opbench.commands import Command
from opbench.exit_codes import Exit, of_outcomes
from opbench.options import command_line
from opbench.run_request import RunRequest, local_folder, settings
from opbench.schema import Environment, OpbenchError, Plan, Run, Suite

if TYPE_CHECKING:
    from opbench.engine.surveying import KnownMachine

# progress(total, unit, what comes first) as told: told(how many are done, what comes next)
Progress = Callable[[int, str, str], AbstractContextManager[Callable[[int, str], None]]]
Finish = Callable[[Run, Path], None]
Say = Callable[[str], None]


def run(request: RunRequest) -> Exit:
    """Measure a suite: verified, counted and timed; writes run.json, report.md, report.html and charts."""
    from opbench import baseline_alone
    from opbench.report.screen import screen

    if request.dry_run:
        return _dry_run(request)
    if request.resume and not request.output:
        raise OpbenchError("--resume needs -o DIR: the folder of the run to go on with")
    folder = request.output or local_folder(request)
    shown = screen()
    try:
        done, suite, laid_out = measured(request, folder, shown.progress, report, shown.line)
    except KeyboardInterrupt:
        print(f"opbench: interrupted; {_kept(request, folder)}", file=sys.stderr)
        return Exit.INTERRUPTED
    shown.summary(done)
    said = baseline_alone.sentences(suite, laid_out, request.filters)
    shown.line("\n".join((*said, f"report: {folder / 'report.md'}")))
    return of_outcomes(record.outcome for record in done.records)


def measured(
    request: RunRequest, folder: Path, progress: Progress, finish: Finish, say: Say
) -> tuple[Run, Suite, Plan]:
    """From declaring to recording; `finish(run, folder)` writes what is kept, `say` hears of threads without a core."""
    from opbench.engine.supervisor import Supervisor, WorkerLimits
    from opbench.measure.cores import fitting, look

    cores = look()  # while nothing of this run is at work yet
    threads = fitting(request.thread_count, say, cores)
    memory = int(request.memory * 2**30) if request.memory else None
    limits = WorkerLimits(step_seconds=request.timeout or WorkerLimits().step_seconds, memory_bytes=memory)
    # First of all, because the worker imports torch meanwhile, as planning does here.
    with Supervisor(extensions=request.extensions, threads=threads, limits=limits, cores=cores) as supervisor:
        from opbench.engine.log import Log
        from opbench.engine.run import execute

        suite = _declare(request)
        laid_out = _plan(suite, request)
        asked = settings(request, suite, len(laid_out.panels))
        total = len(laid_out.panels) * asked.replicas
        with progress(total, "panels", "yardsticks") as told, Log(folder) as log:
            done = execute(
                laid_out,
                asked,
                folder,
                command=command_line("run", request),
                progress=lambda count, panel: told(count, panel.id if panel else ""),
                supervisor=supervisor,
                finish=lambda finished: finish(finished, folder),
                resume=request.resume,
                within_seconds=request.within,
                known=functools.partial(_known, folder),
                log=log.write,
            )
    return done, suite, laid_out


def _known(folder: Path, environment: Environment) -> KnownMachine | None:
    """The selfcheck of the machine, from the run's folder or the two above; one that can't be read is none."""
    from opbench.analyse.compare.runs import MINIMUM_EFFECT
    from opbench.documents.selfchecks import find_selfcheck
    from opbench.engine.surveying import KnownMachine
    from opbench.statistics.power import quote

    try:
        found = find_selfcheck(None, (folder, *folder.absolute().parents[:2]), environment)
    except OpbenchError:
        return None
    return KnownMachine(found, quote(found, MINIMUM_EFFECT).sentence) if found else None


def _dry_run(request: RunRequest) -> Exit:
    from opbench import baseline_alone
    from opbench.engine.estimate import estimate
    from opbench.report.screen import print_plan, screen

    shown = screen()
    suite = _declare(request)
    laid_out = _plan(suite, request)
    print_plan(shown, laid_out)
    said = baseline_alone.sentences(suite, laid_out, request.filters)
    shown.line("\n".join((*said, estimate(laid_out, settings(request, suite, len(laid_out.panels))))))
    return Exit.FINE


def _declare(request: RunRequest) -> Suite:
    from opbench import registry, suites

    registry.load()
    for path in request.extensions:
        registry.load_file(path)
    return suites.load(request.suite)


def _plan(suite: Suite, request: RunRequest) -> Plan:
    import torch  # here, so that a misspelt suite is answered at once

    from opbench import baseline_alone
    from opbench import plan as planning

    cuda = torch.cuda.is_available()
    laid_out = planning.plan(suite, request.filters, cuda=cuda, seed=request.seed, settings=request.settings)
    baseline_alone.refuse(suite, laid_out, request.filters)
    return laid_out


def report(finished: Run, folder: Path) -> None:
    """Writes run.json and its report."""
    from opbench.documents import save
    from opbench.report.markdown import write

    save(finished, folder / "run.json")
    write(finished, folder)


def _kept(request: RunRequest, folder: Path) -> str:
    """What an interrupted run leaves, and how to go on."""
    from opbench.engine.entries import NAME, PanelFinished, read

    if not (folder / NAME).exists():
        return "nothing was measured yet"
    done = sum(isinstance(entry, PanelFinished) for entry in read(folder / NAME)[0])
    resume = f"{command_line('run', request)} -o {shlex.quote(str(folder))} --resume"
    return f"{done} finished panels are kept in {folder / NAME}; go on with:\n{resume}"


COMMAND = Command("run", RunRequest, run)
