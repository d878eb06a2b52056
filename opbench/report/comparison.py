"""What a comparison looks like: in the terminal, in a pull request, as JSON.

Bad news first. Rows that are the same are counted, not listed; what was left out is said with its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec
from rich.console import Group
from rich.text import Text

from opbench.analyse.compare.nouns import BisectedCommit, Bisection, ComparedCase, ComparedRun, Comparison, Time
from opbench.plural import counted
from opbench.report import numbers
from opbench.report.escape import prose, visible
from opbench.report.table import Table

# A reviewer reads the first rows of a group; the rest is in the JSON.
MOST_LISTED = 60

HEADINGS = ("contender", "panel", "what", "change", "verdict", "absolute time")
# In the order of the tables. Operations, MACs or parameters that differ have no better or worse.
_ORDER = ("regressed", "changed", "improved", "not confirmed", "undecided", "allowed", "same")


class FindingText(msgspec.Struct, frozen=True):
    """One finding, as text. `confirmed`: what measuring it again said."""

    contender: str
    panel: str
    what: str
    change: str
    verdict: str
    absolute: str = ""
    confirmed: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        """In the order of `HEADINGS`."""
        if self.verdict == "not confirmed":
            said = self.confirmed
        else:
            said = f"{self.verdict}, {self.confirmed}" if self.confirmed else self.verdict
        return (self.contender, self.panel, self.what, self.change, said, self.absolute)


def lines(comparison: Comparison) -> list[FindingText]:
    """Every finding, the worst first."""
    found = [line for row in comparison.rows for line in _lines(row)]
    return sorted(found, key=lambda line: _ORDER.index(line.verdict))


def _lines(row: ComparedCase) -> Iterator[FindingText]:
    contender, panel = row.case.contender, row.case.panel_id
    for one in row.quantities:
        verdict = "allowed" if one.allowed else one.change
        yield FindingText(contender, panel, one.name, f"{one.base} -> {one.head}", verdict)
    for time in row.times:
        changed = numbers.change(time.ratio, time.low, time.high)
        yield FindingText(
            contender,
            panel,
            time.method,
            changed,
            _verdict(time),
            numbers.plain(time.absolute) + "x",
            time.confirmation.sentence if time.confirmation else "",
        )


def _verdict(time: Time) -> str:
    if time.allowed:
        return "allowed"
    return "not confirmed" if time.confirmation and not time.called else time.decision


def tally(comparison: Comparison) -> str:
    """The verdict in one line, with how many findings of each kind."""
    found = Counter(line.verdict for line in lines(comparison))
    named = [f"{found[name]} {name}" for name in _ORDER if found[name]]
    exact = sum(not row.quantities for row in comparison.rows)
    verdict = "REGRESSED" if comparison.regressed else "no regression"
    cases = counted(len(comparison.rows), "case")
    return f"{verdict}: {', '.join(named) or 'nothing timed'}; {exact} of {cases} exactly as before"


def explanations(comparison: Comparison) -> Iterator[str]:
    """How to read it, what was narrowed, and what the machine is known to tell apart."""
    timed = any(row.times for row in comparison.rows)
    effect = f"{100 * comparison.minimum_effect:g} %"
    if timed:
        unit = "head / base of the same rounds" if comparison.paired else "ratio to the panel's baseline, head / base"
        yield (
            f"Time: {unit}, 95 % interval. Regressed or improved: the interval lies beyond {effect} and survives "
            f"Holm's correction over all rows; same: it lies within {effect}; undecided: the data can't tell."
        )
        yield from _floors(comparison)
        yield from _confirmed(comparison)
    disturbed = [row for row in comparison.rows if row.disturbed]
    if disturbed:
        yield (
            f"Disturbed, without a time: {len(disturbed)} of {counted(len(comparison.rows), 'case')}; of the first, "
            f"{disturbed[0].disturbed}."
        )
    if comparison.allowance:
        yield (
            f"A single process on a side: {100 * comparison.allowance.deviation:.2g} % from process to process "
            f"({comparison.allowance.source})."
        )
    if comparison.selfcheck:
        yield comparison.selfcheck
    yield from comparison.notes
    reasons = Counter(reason for row in comparison.rows for reason in row.left_out)
    for reason, count in reasons.most_common():
        yield f"left out of {count} {'case' if count == 1 else 'cases'}: {reason}"
    for side, names in (("base", comparison.only_in_base), ("head", comparison.only_in_head)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            yield f"only in {side}, not compared: {', '.join(names[:3])}{more}"


def _floors(comparison: Comparison) -> Iterator[str]:
    """That some rows had to move further: processes of identical code differ by more than the minimum effect here."""
    times = [time for row in comparison.rows for time in row.times]
    raised = [time.least for time in times if time.least > comparison.minimum_effect]
    if raised:
        most, count = f"{100 * max(raised):.2g} %", f"{len(raised)} {'row' if len(raised) == 1 else 'rows'}"
        yield (
            f"Of {count} a change must be larger, by up to {most}: fresh processes of identical code differ by as much "
            "on this machine (its selfcheck)."
        )


def _confirmed(comparison: Comparison) -> Iterator[str]:
    called = [time for row in comparison.rows for time in row.times if time.called and not time.allowed]
    again = [time for row in comparison.rows for time in row.times if time.confirmation]
    if again:
        yield (
            "Rows called regressed or improved were measured again in fresh processes, which took turns at starting "
            "first. Not confirmed: too few of them said the same by themselves, so that it is no change."
        )
    elif called and comparison.confirm:
        rows = "The changed row is" if len(called) == 1 else f"The {len(called)} changed rows are"
        yield (
            f"{rows} not confirmed: a process and an hour differ though the code doesn't. This measures again in fresh "
            f"processes, both revisions in turns: {comparison.confirm}"
        )


def bisected(found: Bisection) -> Iterator[str]:
    """What a bisection found, in sentences."""
    if not found.cases:
        yield f"Nothing to bisect: {found.bad[:12]} is not slower, larger or wrong where {found.good[:12]} was not."
        return
    named = [_commit(commit) for commit in found.first_bad]
    if len(named) == 1:
        yield f"First bad commit: {named[0]}"
    else:
        yield f"The first bad commit is one of {len(named)}, as those before the last could not be judged:"
        yield from (f"  {name}" for name in named)
    skipped = [f"  {_commit(commit)}: {commit.why}" for commit in found.tried if commit.verdict == "skipped"]
    judged = len(found.tried) - len(skipped)
    yield f"measured against {found.good[:12]}: {counted(judged, 'commit')} between; skipped: {len(skipped)}."
    yield from skipped


def _commit(commit: BisectedCommit) -> str:
    return f"{commit.commit[:12]} {commit.subject}"


def summary(comparison: Comparison) -> Group:
    """What rich prints; nothing of the documents is read as markup or as a terminal escape."""
    listed, rest = _listed(comparison, {"same"})
    bisection = bisected(comparison.bisection) if comparison.bisection else ()
    said = [*_rest(rest), *explanations(comparison), tally(comparison), *bisection]
    return Group(
        Text(f"base {visible(_side(comparison.base))}\nhead {visible(_side(comparison.head))}"),
        *([_table(listed).rich()] if listed else []),
        *(Text(visible(sentence)) for sentence in said),
    )


def markdown(comparison: Comparison) -> str:
    """What a reviewer reads in the pull request."""
    parts = [f"### opbench: {tally(comparison)}"]
    parts.append(f"base: {prose(_side(comparison.base))}  \nhead: {prose(_side(comparison.head))}")
    listed, rest = _listed(comparison, {"same", "undecided"})
    if listed:
        parts.append(_table(listed).markdown())
    parts += [prose(sentence) for sentence in _rest(rest)]
    undecided = [line for line in lines(comparison) if line.verdict == "undecided"][:MOST_LISTED]
    if undecided:
        parts.append(
            f"<details><summary>undecided: {len(undecided)}</summary>\n\n{_table(undecided).markdown()}\n\n</details>"
        )
    parts.append("\n".join(f"- {prose(sentence)}" for sentence in explanations(comparison)))
    if comparison.bisection:
        parts.append("\n".join(f"- {prose(sentence.strip())}" for sentence in bisected(comparison.bisection)))
    return "\n\n".join(parts) + "\n"


def _listed(comparison: Comparison, apart: set[str]) -> tuple[list[FindingText], int]:
    found = [line for line in lines(comparison) if line.verdict not in apart]
    return found[:MOST_LISTED], max(0, len(found) - MOST_LISTED)


def _rest(rest: int) -> list[str]:
    return [f"and {counted(rest, 'more finding')} of this kind or less; `--json` has all"] if rest else []


def _table(listed: Sequence[FindingText]) -> Table:
    verdict = HEADINGS.index("verdict")
    styles = {(at, verdict): "bold" for at, line in enumerate(listed) if line.verdict in ("regressed", "changed")}
    return Table(HEADINGS, tuple(line.cells for line in listed), styles=styles)


def _side(side: ComparedRun) -> str:
    commit = (side.commit or "no commit")[:12] + (" (dirty)" if side.dirty else "")
    return f"{commit}, suite {side.suite}, {side.started}, {side.cpu}, {counted(side.threads, 'thread')}"
