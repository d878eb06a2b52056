"""`opbench compare`: documents in, a table, markdown or JSON out, and the exit code of the gate."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from opbench import registry
from opbench.analyse.compare.environments import KINDS
from opbench.analyse.compare.nouns import QUANTITIES, Comparison
from opbench.analyse.compare.runs import ASSUMED, MINIMUM_EFFECT, compare
from opbench.documents import read, render, replace_file, save
from opbench.documents.selfchecks import find_selfcheck
from opbench.errors import nearest
from opbench.report.comparison import markdown, summary
from opbench.schema import OpbenchError, Run, Settings
from opbench.statistics.power import quote

if TYPE_CHECKING:
    from opbench.plan import Filter


@dataclass(frozen=True)
class Answer:
    """How a comparison is to be judged and shown."""

    markdown_file: Path | None = None
    as_json: bool = False
    minimum_effect: float | None = None
    across: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    selfcheck: Path | None = None

    def __post_init__(self) -> None:
        for kind, given, known in (("difference", self.across, KINDS), ("quantity", self.allow, QUANTITIES)):
            for name in given:
                if name not in known:
                    raise OpbenchError(nearest(kind, name, known))


def run_compare(base: Path | None, head: Path | None, answer: Answer) -> int:
    """Compares two run documents. Returns 1 on a regression, else 0; raises OpbenchError for what can't be compared."""
    if base is None or head is None:
        raise OpbenchError("compare: expected two documents, BASE.json HEAD.json (or --paired REF)")
    near = [head.parent, *head.absolute().parent.parents[:2], base.parent]
    return show(judge(read(base, Run), read(head, Run), answer, near), answer)


def judge(base: Run, head: Run, answer: Answer, near: Collection[Path]) -> Comparison:
    """The comparison, with what the machine's own selfcheck says where there is one, given or in the folders `near`."""
    known = find_selfcheck(answer.selfcheck, near, head.environment)
    effect = MINIMUM_EFFECT if answer.minimum_effect is None else answer.minimum_effect
    said = quote(known, effect) if known else None
    # How far processes differ depends on how many threads they share the machine with.
    known_spread = said.allowance if known and said and known.environment.threads == head.environment.threads else None
    return compare(
        base,
        head,
        minimum_effect=effect,
        allowance=known_spread or ASSUMED,
        across=answer.across,
        allow=answer.allow,
        selfcheck=said.sentence if said else "No selfcheck of this machine was found: `opbench selfcheck` writes one.",
    )


def show(found: Comparison, answer: Answer) -> int:
    """Prints and writes it; the exit code."""
    if answer.markdown_file is not None:
        replace_file(answer.markdown_file, markdown(found).encode())
    if answer.as_json:
        sys.stdout.write(render(found).decode())
    else:
        Console(width=None if sys.stdout.isatty() else 160).print(summary(found))
    return int(found.regressed)


# Below three pairs of processes the spread between processes is hardly known.
REPLICAS = 3
PAIRED_BUDGET_SECONDS = 3.0
PAIRED_PRECISION = 0.01


def run_paired(
    reference: str,
    documents: tuple[Path | None, Path | None],
    suite: str,
    filters: Mapping[Filter, Sequence[str]],
    threads: int | None,
    output: Path | None,
    answer: Answer,
) -> int:
    """Measures a git revision and the working tree in turns and compares them; 1 on a regression, else 0."""
    if any(documents):
        raise OpbenchError("compare --paired REF measures both sides itself: leave BASE.json and HEAD.json out")
    from opbench import baseline_alone, suites
    from opbench import plan as planning
    from opbench.engine.paired import measure_paired
    from opbench.engine.revisions import checked_out

    registry.load()
    chosen = suites.load(suite)
    under: Mapping[Filter, Sequence[str]] = {**filters, "device": ("cpu",)}
    laid_out = planning.plan(chosen, under, cuda=False)
    baseline_alone.refuse(chosen, laid_out, under)
    import torch

    threads = threads or torch.get_num_threads()
    settings = Settings(
        suite=chosen.name,
        precision=PAIRED_PRECISION,
        budget_seconds=PAIRED_BUDGET_SECONDS,
        filters={name: tuple(values) for name, values in filters.items()},
    )
    words = ["opbench", "compare", "--paired", reference, "--suite", suite, "--threads", str(threads)]
    words += [part for name, values in filters.items() for value in values for part in (f"--{name}", value)]
    console = Console(stderr=True)
    with console.status("compare --paired") as status, checked_out(reference) as (base, head):
        runs = measure_paired(
            base,
            head,
            laid_out,
            settings,
            replicas=REPLICAS,
            threads=threads,
            command=shlex.join(words),
            progress=lambda done, total, name: status.update(f"{done} of {total}: {escape(name)}"),
        )
    folder = output or Path("results") / "local" / f"paired-{runs[0].started.replace(':', '')[:17]}"
    for name, run in zip(("base.json", "head.json"), runs, strict=True):
        save(run, folder / name)
    console.print(f"documents: {folder / 'base.json'} {folder / 'head.json'}", soft_wrap=True, markup=False)
    return show(judge(*runs, answer, [folder, *folder.absolute().parents[:2]]), answer)
