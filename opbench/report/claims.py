"""Claims of papers and write-ups as a table: in the terminal, in Markdown, as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Group
from rich.text import Text

from opbench.analyse.claims.nouns import DECISIONS, Answer
from opbench.report.table import Table
from opbench.schema import Run

HEADINGS = ("claim", "against", "verdict", "evidence", "source")
NOTE = (
    "Confirmed and refuted mean: of this baseline, read as a statement that can be counted, computed or timed "
    "(`opbench claims --json` prints the reading). Time is decided by 95 % intervals, and a claim that fails in one "
    "panel is refuted. 1 MAC = 2 FLOPs."
)


def claims(runs: Sequence[Run]) -> Table:
    """One row for each claim and baseline."""
    from opbench.analyse.claims.answers import evaluate  # the definitions need torch, which no other table does

    return table(evaluate(runs))


def table(answers: Sequence[Answer]) -> Table:
    """Claims as text; nothing in it is escaped yet."""
    rows = tuple((one.claim, one.baseline or "-", one.verdict, one.evidence, one.source) for one in answers)
    return Table(HEADINGS, rows, NOTE, names=(1,))


def tally(answers: Sequence[Answer]) -> str:
    """`23 confirmed, 15 refuted, 4 undecided`."""
    counted = Counter(one.verdict for one in answers)
    return ", ".join(f"{counted[name]} {name}" for name in DECISIONS if counted[name])


def unclaimed() -> list[str]:
    """A sentence for each operator that came with a file or a package and that no claim speaks of."""
    from opbench import registry
    from opbench.analyse.claims.answers import load as load_claims

    spoken = {name.partition("[")[0] for claim in load_claims() for name in (claim.subject, *claim.baselines)}
    added = dict.fromkeys(contender.partition("[")[0] for _, contender in sorted(registry.extensions()))
    return [f"{name}: no claim of a paper or write-up is recorded for it" for name in added if name not in spoken]


_STYLES = {"confirmed": "green", "refuted": "bold red", "undecided": "yellow"}


def summary(answers: Sequence[Answer]) -> Group:
    """What rich prints; nothing of the documents is read as markup or as a terminal escape."""
    rows = tuple(row[:4] for row in table(answers).rows)
    styles = {(at, 2): _STYLES[one.verdict] for at, one in enumerate(answers)}
    return Group(Table(HEADINGS[:4], rows, styles=styles).rich(), Text(tally(answers)))
