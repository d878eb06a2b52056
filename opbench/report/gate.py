"""`opbench compare`: documents in, a table, markdown or JSON out, and the exit code of the gate."""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from opbench.analyse.compare import ASSUMED, MINIMUM_EFFECT, compare
from opbench.analyse.comparison import QUANTITIES, Comparison
from opbench.analyse.differences import KINDS
from opbench.analyse.power import find_selfcheck, quote
from opbench.document import encode, load, replace_file
from opbench.registry import nearest
from opbench.report.comparison import markdown, summary
from opbench.schema import OpbenchError, Run


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
    return show(judge(load(base), load(head), answer, near), answer)


def judge(base: Run, head: Run, answer: Answer, near: Collection[Path]) -> Comparison:
    """The comparison, with what the machine's own selfcheck says where there is one, given or in the folders `near`."""
    known = find_selfcheck(answer.selfcheck, near, head.environment)
    effect = MINIMUM_EFFECT if answer.minimum_effect is None else answer.minimum_effect
    said = quote(known, effect) if known else None
    return compare(
        base,
        head,
        minimum_effect=effect,
        allowance=said.allowance if said and said.allowance else ASSUMED,
        across=answer.across,
        allow=answer.allow,
        selfcheck=said.sentence if said else "No selfcheck of this machine was found: `opbench selfcheck` writes one.",
    )


def show(found: Comparison, answer: Answer) -> int:
    """Prints and writes it; the exit code."""
    if answer.markdown_file is not None:
        replace_file(answer.markdown_file, markdown(found).encode())
    if answer.as_json:
        sys.stdout.write(encode(found).decode() + "\n")
    else:
        Console(width=None if sys.stdout.isatty() else 160).print(summary(found))
    return int(found.regressed)
