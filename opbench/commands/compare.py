"""`opbench compare`: two run documents, or a git revision and the working tree measured in turns."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from opbench.commands import Command
from opbench.exit_codes import Exit
from opbench.options import (
    CASES,
    MEASURING,
    OUTPUT,
    Argument,
    Option,
    Quiet,
    Verbose,
    With,
    command_line,
    folder,
    loudness,
    seconds,
)
from opbench.schema import Filter, OpbenchError, Run, Settings

if TYPE_CHECKING:
    from opbench.analyse.compare.nouns import Comparison
    from opbench.analyse.compare.paired import PairedRequest
    from opbench.analyse.compare.waivers import Waiver


class CompareRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is compared, and how it is judged and shown."""

    base: Annotated[Path | None, Argument("The run before.", metavar="BASE.json")] = None
    head: Annotated[Path | None, Argument("The run after.", metavar="HEAD.json")] = None
    paired: Annotated[
        str | None,
        Option("Instead of documents: measure this git revision and the working tree in turns.", metavar="REF"),
    ] = None
    bisect: Annotated[
        str | None,
        Option("With --paired GOOD: find the first bad commit, from GOOD up to this revision.", metavar="BAD"),
    ] = None
    markdown: Annotated[
        Path | None, Option("Write the table for a pull request.", metavar="FILE", repeats=False, group=OUTPUT)
    ] = None
    as_json: Annotated[bool, Option("Print the comparison as JSON.", flag="--json", repeats=False, group=OUTPUT)] = (
        False
    )
    minimum_effect: Annotated[
        float | None, Option("Changes within this are the same [2%].", metavar="SHARE", share=True, group=MEASURING)
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
    suite: Annotated[str, Option("With --paired: the suite to measure.", metavar="SUITE")] = "smoke"
    task: Annotated[
        tuple[str, ...], Option("With --paired: only this task (repeatable, as are all filters).", group=CASES)
    ] = ()
    operator: Annotated[tuple[str, ...], Option("With --paired: only this operator.", group=CASES)] = ()
    mode: Annotated[tuple[str, ...], Option("With --paired: this mode.", group=CASES)] = ()
    threads: Annotated[
        int | None, Option("With --paired: CPU threads [torch's own choice].", least=1, group=MEASURING)
    ] = None
    confirm_budget: Annotated[
        float,
        seconds("With --paired: seconds to time each changed row again, in fresh processes.", least=0.1),
    ] = 5.0
    output: Annotated[
        Path | None,
        folder("With --paired: folder for base.json and head.json."),
    ] = None
    quiet: Quiet = False
    verbose: Verbose = False
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
    if request.bisect is not None:
        raise OpbenchError("compare --bisect BAD: say which revision was good, by --paired GOOD")
    if request.base is None or request.head is None:
        raise OpbenchError("compare: expected two documents, BASE.json HEAD.json (or --paired REF)")
    base, head = read(request.base, Run), read(request.head, Run)
    found = judge(base, head, request)
    return _show(request, msgspec.structs.replace(found, confirm=_confirming(found, base, head, request)))


def _confirming(found: Comparison, base: Run, head: Run, request: CompareRequest) -> str:
    """The command that measures the changed rows again, both revisions in turns; "" where none of them can be."""
    from opbench.analyse.compare.confirming import called
    from opbench.run_request import said_suite

    # A paired run measures on the CPU alone. Documents of one were confirmed, or not, when they were taken.
    cases = [case for case in called(found) if case.device == "cpu" and not found.paired]
    if not cases:
        return ""

    def names(key: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(getattr(case, key) for case in cases))

    again = CompareRequest(
        paired=base.environment.commit or "REVISION",
        minimum_effect=request.minimum_effect,
        suite=said_suite(head),
        task=names("task"),
        operator=names("operator"),
        mode=names("mode"),
        threads=head.environment.threads,
        with_=request.with_ or head.settings.extensions,
    )
    return command_line("compare", again)


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
    from opbench.statistics.layout import floors
    from opbench.statistics.power import quote

    known = selfcheck_of(request.selfcheck, head.environment)
    effect = runs.MINIMUM_EFFECT if request.minimum_effect is None else request.minimum_effect
    said = quote(known, effect) if known else None
    # How far processes differ depends on how many threads they share the machine with.
    alike = known if known and known.environment.threads == head.environment.threads else None
    known_spread = said.allowance if alike and said else None
    found = runs.compare(
        base,
        head,
        minimum_effect=effect,
        allowance=known_spread or runs.ASSUMED,
        across=request.across,
        allow=request.allow,
        selfcheck=said.sentence if said else NO_SELFCHECK,
        floors=floors(alike) if alike else None,
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
    if found.regressed:
        return Exit.BAD_NEWS
    return Exit.NO_ANSWER if found.unanswered else Exit.FINE


def _paired(request: CompareRequest, reference: str) -> Comparison:
    """Measures a git revision and the working tree in turns, or looks for the first bad commit after it."""
    if request.base or request.head:
        raise OpbenchError("compare --paired REF measures both sides itself: leave BASE.json and HEAD.json out")
    from opbench.analyse.compare.paired import compare_revisions
    from opbench.engine.revisions import checked_out
    from opbench.report.screen import status

    with status("compare --paired", loudness=loudness(request)) as told, _measuring(request, told) as asked:
        if request.bisect is not None:
            return _bisected(reference, request.bisect, asked)
        with checked_out(reference) as (base, head):
            return compare_revisions(base, head, asked)


@contextlib.contextmanager
def _measuring(request: CompareRequest, told: Callable[[str], None]) -> Iterator[PairedRequest]:
    """What is measured of each pair of revisions; says in the end where the documents are."""
    import datetime

    import torch

    from opbench import baseline_alone, registry, suites
    from opbench import plan as planning
    from opbench.analyse.compare.paired import PairedRequest
    from opbench.documents import save
    from opbench.report.screen import screen

    registry.load()
    chosen = suites.load(request.suite)
    under: dict[Filter, tuple[str, ...]] = {**request.filters, "device": ("cpu",)}
    laid_out = planning.plan(chosen, under, cuda=False)
    baseline_alone.refuse(chosen, laid_out, under)
    threads = request.threads or torch.get_num_threads()
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H%M%S")
    folder = request.output or Path("results") / "local" / f"paired-{now}"
    written: list[Path] = []

    def keep(place: str, runs: Mapping[str, Run]) -> None:
        for name, run in runs.items():
            written.append(folder / place / f"{name}.json")
            save(run, written[-1])

    yield PairedRequest(
        plan=laid_out,
        settings=Settings(
            suite=chosen.name,
            precision=PAIRED_PRECISION,
            budget_seconds=PAIRED_BUDGET_SECONDS,
            filters={str(name): values for name, values in request.filters.items()},
            replicas=REPLICAS,
        ),
        threads=threads,
        # With the number of threads that was taken, whatever torch chooses where it is repeated.
        command=command_line("compare", msgspec.structs.replace(request, threads=threads)),
        confirming_seconds=request.confirm_budget,
        judge=lambda base, head: judge(base, head, request),
        progress=told,
        keep=keep,
    )
    screen(error=True).line(f"documents: {' '.join(map(str, written))}")


def _bisected(good_name: str, bad_name: str, asked: PairedRequest) -> Comparison:
    """The comparison of the good and the bad revision, and which commit between them brought what was lost."""
    from opbench.analyse.compare.bisecting import bisect_comparison
    from opbench.engine.revisions import History

    history = History.here()
    good, bad = history.commit(good_name), history.commit(bad_name)
    history.check_order(good, bad)
    return bisect_comparison(history, good, bad, asked)


COMMAND = Command("compare", CompareRequest, compare)
