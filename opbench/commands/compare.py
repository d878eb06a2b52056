"""`opbench compare`: two run documents, or a git revision and the working tree measured in turns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from opbench.commands import Command
from opbench.exit_codes import Exit
from opbench.options import Argument, Option, With, command_line
from opbench.schema import Filter, OpbenchError, Run, Settings

if TYPE_CHECKING:
    from opbench.analyse.compare.nouns import Comparison
    from opbench.analyse.compare.waivers import Waiver


class CompareRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is compared, and how it is judged and shown."""

    base: Annotated[Path | None, Argument("The run before.", metavar="BASE.json")] = None
    head: Annotated[Path | None, Argument("The run after.", metavar="HEAD.json")] = None
    paired: Annotated[
        str | None,
        Option("Instead of documents: measure this git revision and the working tree in turns.", metavar="REF"),
    ] = None
    markdown: Annotated[Path | None, Option("Write the table for a pull request.", metavar="FILE", repeats=False)] = (
        None
    )
    as_json: Annotated[bool, Option("Print the comparison as JSON.", flag="--json", repeats=False)] = False
    minimum_effect: Annotated[
        float | None, Option("Changes within this are the same [2%].", metavar="SHARE", share=True)
    ] = None
    across: Annotated[
        tuple[str, ...], Option("Compare although this differs: machine, threads, versions.", metavar="WHAT")
    ] = ()
    allow: Annotated[
        tuple[str, ...],
        Option("This deterministic quantity changed on purpose, as in operators.", metavar="QUANTITY"),
    ] = ()
    waivers: Annotated[
        Path | None,
        Option("Changes that were agreed to [opbench-allow.toml, where there is one].", metavar="FILE.toml"),
    ] = None
    selfcheck: Annotated[Path | None, Option("A selfcheck.json of the machine.", metavar="FILE")] = None
    suite: Annotated[str, Option("With --paired: the suite to measure.")] = "smoke"
    task: Annotated[tuple[str, ...], Option("With --paired: only this task (repeatable, as are all filters).")] = ()
    operator: Annotated[tuple[str, ...], Option("With --paired: only this operator.")] = ()
    mode: Annotated[tuple[str, ...], Option("With --paired: this mode.")] = ()
    threads: Annotated[int | None, Option("With --paired: CPU threads [torch's own choice].", least=1)] = None
    output: Annotated[
        Path | None, Option("With --paired: folder for base.json and head.json.", short="-o", repeats=False)
    ] = None
    with_: With = ()

    @property
    def filters(self) -> dict[Filter, tuple[str, ...]]:
        """What was asked of each filter, where something was."""
        asked: dict[Filter, tuple[str, ...]] = {"task": self.task, "operator": self.operator, "mode": self.mode}
        return {name: values for name, values in asked.items() if values}


# Below three pairs of processes the spread between processes is hardly known.
REPLICAS = 3
PAIRED_BUDGET_SECONDS = 3.0
PAIRED_PRECISION = 0.01
NO_SELFCHECK = "No selfcheck was given: `opbench selfcheck` writes one of a machine, `--selfcheck FILE` takes it up."


def compare(request: CompareRequest) -> Exit:
    """Tell whether HEAD is slower, larger or wrong where BASE was not; exit code 1 if so."""
    from opbench.documents import read

    _check(request)
    if request.paired is not None:
        return _show(request, _paired(request, request.paired))
    if request.base is None or request.head is None:
        raise OpbenchError("compare: expected two documents, BASE.json HEAD.json (or --paired REF)")
    return _show(request, judge(read(request.base, Run), read(request.head, Run), request))


def _check(request: CompareRequest) -> None:
    from opbench.analyse.compare.environments import KINDS
    from opbench.analyse.compare.nouns import QUANTITIES
    from opbench.errors import nearest

    for kind, given, known in (("difference", request.across, KINDS), ("quantity", request.allow, QUANTITIES)):
        for name in given:
            if name not in known:
                raise OpbenchError(nearest(kind, name, known))


def judge(base: Run, head: Run, request: CompareRequest) -> Comparison:
    """The comparison, with what the machine's own selfcheck says where one was given."""
    from opbench.analyse.compare import runs, waivers
    from opbench.documents.selfchecks import selfcheck_of
    from opbench.statistics.power import quote

    known = selfcheck_of(request.selfcheck, head.environment)
    effect = runs.MINIMUM_EFFECT if request.minimum_effect is None else request.minimum_effect
    said = quote(known, effect) if known else None
    # How far processes differ depends on how many threads they share the machine with.
    known_spread = said.allowance if known and said and known.environment.threads == head.environment.threads else None
    found = runs.compare(
        base,
        head,
        minimum_effect=effect,
        allowance=known_spread or runs.ASSUMED,
        across=request.across,
        allow=request.allow,
        selfcheck=said.sentence if said else NO_SELFCHECK,
    )
    return waivers.applied(found, _waivers(request))


def _waivers(request: CompareRequest) -> Sequence[Waiver]:
    """Those of the file that was given, else of the one in the folder that this runs in."""
    from opbench.analyse.compare import waivers
    from opbench.analyse.compare.nouns import QUANTITIES

    file = request.waivers or Path(waivers.NAME)
    return waivers.load(file, QUANTITIES) if request.waivers or file.is_file() else ()


def _show(request: CompareRequest, found: Comparison) -> Exit:
    from opbench.documents import render, replace_file
    from opbench.report.comparison import markdown, summary
    from opbench.report.lines import say_json
    from opbench.report.screen import screen

    if request.markdown is not None:
        replace_file(request.markdown, markdown(found).encode())
    if request.as_json:
        say_json(render(found))
    else:
        screen().show(summary(found))
    return Exit.BAD_NEWS if found.regressed else Exit.FINE


def _paired(request: CompareRequest, reference: str) -> Comparison:
    """Measures a git revision and the working tree in turns."""
    if request.base or request.head:
        raise OpbenchError("compare --paired REF measures both sides itself: leave BASE.json and HEAD.json out")
    from opbench import baseline_alone, registry, suites
    from opbench import plan as planning
    from opbench.documents import save
    from opbench.engine.paired import measure_paired
    from opbench.engine.revisions import checked_out
    from opbench.report.screen import screen, status

    registry.load()
    chosen = suites.load(request.suite)
    under: dict[Filter, tuple[str, ...]] = {**request.filters, "device": ("cpu",)}
    laid_out = planning.plan(chosen, under, cuda=False)
    baseline_alone.refuse(chosen, laid_out, under)
    import torch

    threads = request.threads or torch.get_num_threads()
    settings = Settings(
        suite=chosen.name,
        precision=PAIRED_PRECISION,
        budget_seconds=PAIRED_BUDGET_SECONDS,
        filters={str(name): values for name, values in request.filters.items()},
    )
    with status("compare --paired") as told, checked_out(reference) as (base, head):
        runs = measure_paired(
            base,
            head,
            laid_out,
            settings,
            replicas=REPLICAS,
            threads=threads,
            # With the number of threads that was taken, whatever torch chooses where it is repeated.
            command=command_line("compare", msgspec.structs.replace(request, threads=threads)),
            progress=lambda done, total, name: told(f"{done} of {total}: {name}"),
        )
    folder = request.output or Path("results") / "local" / f"paired-{runs[0].started.replace(':', '')[:17]}"
    for name, run in zip(("base.json", "head.json"), runs, strict=True):
        save(run, folder / name)
    screen(error=True).line(f"documents: {folder / 'base.json'} {folder / 'head.json'}")
    return judge(*runs, request)


COMMAND = Command("compare", CompareRequest, compare)
