"""The commit that made something slower, larger or wrong: a binary search between a good commit and a bad one.

Each step measures a commit in turns with the good one, with confirmation, on the cases that the bad one lost, and
looks whether it has lost the same of them. Git says which commit halves what is left, whatever branches there were.
A merge is skipped: what it brings stands in the commits that it merges, unless they are all good. So is a commit that
doesn't load, or in which none of the cases can be judged. Where only skipped ones are left before the first bad one,
it is any of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Literal, NamedTuple

from msgspec.structs import replace

from opbench.analyse.compare.nouns import OUTCOME, BisectedCommit, Bisection, ComparedCase, Comparison
from opbench.analyse.compare.paired import PairedRequest, compare_revisions, only
from opbench.engine.revision_worker import WorkerLostError
from opbench.engine.revisions import History, Revision
from opbench.errors import OpbenchError
from opbench.plural import counted

TIME = "time"
MERGE = "a merge"


class CommitVerdict(NamedTuple):
    """What one commit is, beside the good one."""

    verdict: Literal["good", "bad", "skipped"]
    why: str = ""


class Bisected(NamedTuple):
    """The first bad commit, or those that it is one of, and every commit that the search came by."""

    first_bad: tuple[BisectedCommit, ...]
    tried: tuple[BisectedCommit, ...]


def bisect(
    history: History, good: str, bad: str, judge: Callable[[str], CommitVerdict], progress: Callable[[str], None]
) -> Bisected:
    """The search between a good commit and a bad one that comes after it. `judge` is asked for a few in between."""
    goods, skipped, tried = [good], set[str](), []
    while True:
        left = history.between(goods, bad)
        skipped |= history.merges(goods, bad) - {bad}
        middle = next((commit for commit in left if commit not in skipped and commit != bad), None)
        if middle is None:
            break
        progress(f"bisecting, {counted(len(left), 'commit')} left: {middle[:12]}")
        judged = judge(middle)
        tried.append(BisectedCommit(middle, history.subject(middle), *judged))
        if judged.verdict == "good":
            goods.append(middle)
        elif judged.verdict == "bad":
            bad = middle
        else:
            skipped.add(middle)
    why = {commit.commit: commit.why for commit in tried}
    merges = [commit for commit in left if commit != bad and commit not in why]
    tried += [BisectedCommit(commit, history.subject(commit), "skipped", MERGE) for commit in merges]
    # Oldest first, the one that is known to be bad last.
    named = [commit for commit in history.in_order(goods, bad) if commit in left]
    first_bad = tuple(
        BisectedCommit(commit, history.subject(commit), "bad" if commit == bad else "skipped", why.get(commit, MERGE))
        if commit != bad
        else BisectedCommit(commit, history.subject(commit), "bad")
        for commit in named
    )
    return Bisected(first_bad, tuple(tried))


def bisect_comparison(history: History, good: str, bad: str, asked: PairedRequest) -> Comparison:
    """The good and the bad commit compared, with the first bad one between them where anything was lost."""
    with history.tree(good) as base:
        with history.tree(bad) as head:
            found = compare_revisions(base, head, asked)
        sought = lost(found)
        if not sought:
            return replace(found, bisection=Bisection(good, bad, (), (), ()))
        cases = [row.case for row in found.rows if row.case.id in sought]
        narrow = dataclasses.replace(asked, plan=only(asked.plan, cases))
        first_bad, tried = bisect(
            history, good, bad, lambda commit: _step(history, base, commit, narrow, sought), asked.progress
        )
    return replace(found, bisection=Bisection(good, bad, tuple(sought), first_bad, tried))


def _step(
    history: History, base: Revision, commit: str, asked: PairedRequest, sought: Mapping[str, Collection[str]]
) -> CommitVerdict:
    """One commit beside the good one. What can't be loaded, or has nothing in common with it, is skipped."""
    with history.tree(commit) as head:
        try:
            return judged(compare_revisions(base, head, asked, commit[:12]), sought)
        except (WorkerLostError, OpbenchError) as error:
            return CommitVerdict("skipped", f"can't be measured: {error}")


def lost(comparison: Comparison) -> Mapping[str, frozenset[str]]:
    """Case -> what of it got worse: "time", a deterministic quantity or the outcome."""
    return {row.case.id: found for row in comparison.rows if (found := _lost(row))}


def _lost(row: ComparedCase) -> frozenset[str]:
    exact = {one.name for one in row.quantities if one.change != "improved" and not one.allowed}
    slower = {TIME for time in row.times if time.decision == "regressed" and not time.allowed}
    return frozenset(exact | slower)


def judged(comparison: Comparison, sought: Mapping[str, Collection[str]]) -> CommitVerdict:
    """Whether a commit has lost any of what is `sought`; skipped where none of it can be told."""
    here = {row.case.id: row for row in comparison.rows}
    unknown = "none of the cases is declared in it"
    told = False
    for name, quantities in sought.items():
        row = here.get(name)
        if row is None:
            continue
        worse = _lost(row)
        if worse & set(quantities):
            return CommitVerdict("bad", f"{name}: {', '.join(sorted(worse & set(quantities)))}")
        if OUTCOME in worse or row.disturbed or (TIME in quantities and not row.times):
            unknown = row.disturbed or "; ".join(row.left_out) or f"{name} fails in it"
        else:
            told = True
    return CommitVerdict("good") if told else CommitVerdict("skipped", unknown)
