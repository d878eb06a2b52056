"""Two revisions measured in turns and compared; what is called a change is then asked of fresh processes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from opbench.analyse.compare.confirming import PROCESSES, called, confirmed
from opbench.analyse.compare.nouns import Comparison
from opbench.engine.paired import measure_paired
from opbench.engine.revisions import Revision
from opbench.schema import Case, Plan, Run, Settings

Runs = tuple[Run, Run]


@dataclass(frozen=True)
class PairedRequest:
    """What is measured and how: `confirming_seconds` of timing a case, over `PROCESSES` pairs of fresh processes."""

    plan: Plan
    settings: Settings
    threads: int
    command: str
    confirming_seconds: float
    judge: Callable[[Run, Run], Comparison]
    progress: Callable[[str], None]
    keep: Callable[[str, Mapping[str, Run]], None]  # the folder within the output, "" for itself, and the documents


def compare_revisions(base: Revision, head: Revision, request: PairedRequest, folder: str = "") -> Comparison:
    """Measure -> judge -> measure the changed rows again -> judge those. All documents are kept."""
    first = _measure(base, head, request, request.plan, request.settings, "")
    request.keep(folder, {"base": first[0], "head": first[1]})
    found = request.judge(*first)
    cases = called(found)
    if not cases:
        return found
    settings = replace(
        request.settings,
        replicas=PROCESSES,
        budget_seconds=request.confirming_seconds,
        seed=request.settings.seed + 1,  # other orders than those that called it
    )
    again = _measure(base, head, request, only(request.plan, cases), settings, "confirming, ")
    request.keep(folder, {"confirming-base": again[0], "confirming-head": again[1]})
    return confirmed(found, *again)


def only(plan: Plan, cases: Collection[Case]) -> Plan:
    """The plan with these cases alone."""
    names = {case.id for case in cases}
    panels = [replace(panel, cases=tuple(case for case in panel.cases if case.id in names)) for panel in plan.panels]
    return replace(plan, panels=tuple(panel for panel in panels if panel.cases))


def _measure(
    base: Revision, head: Revision, request: PairedRequest, plan: Plan, settings: Settings, words: str
) -> Runs:
    return measure_paired(
        base,
        head,
        plan,
        settings,
        threads=request.threads,
        command=request.command,
        progress=lambda done, total, name: request.progress(f"{words}{done} of {total}: {name}"),
    )
