"""A submission held against every check: what was found, what was derived again, and what can't be."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator

import opbench
from opbench.analyse.history.digest import machine_key
from opbench.contributed.checks import clocks, copies, counts, devices, figures, form, log, proofs, rounds
from opbench.contributed.nouns import CheckedPart, Said, Sign, Status, Submission, UncheckedPart, Verification
from opbench.engine.environment import commit_here

Check = Callable[[Submission], Iterable[Said]]

# In this order, the cheapest first. `proofs.definitions` comes last: it evaluates every definition.
CHECKS: tuple[Check, ...] = (
    form.schema,
    form.whole,
    form.seeds,
    figures.statistics,
    clocks.ticks,
    clocks.sums,
    rounds.paired,
    rounds.undisturbed,
    copies.copies,
    devices.device,
    devices.speed,
    log.log,
    proofs.ratios,
    counts.counts,
    counts.traffic,
    counts.memory,
)
# What no rule can find, said with every verification.
NEVER = UncheckedPart(
    "samples that were invented consistently",
    "whoever invents times, clocks and a log that fit each other is not found; ask for the machine, or measure it",
)
# Of what could have been checked here and wasn't: the rest of `unchecked` no machine could.
LEFT_UNDONE = ("definition and bound", "counts")


def verify(given: Submission, *, within_seconds: float | None = None) -> Verification:
    """All that can be derived of a submission, derived here.

    After `within_seconds` no other definition is evaluated. Code that a contributor's run named is not imported: its
    cases are listed as unchecked.
    """
    last: Check = functools.partial(proofs.definitions, seconds=within_seconds)
    said = list(_all(given, (*CHECKS, last)))
    signs = tuple(one for one in said if isinstance(one, Sign))
    unchecked = _merged([*(one for one in said if isinstance(one, UncheckedPart)), NEVER])
    manifest = given.manifest
    return Verification(
        sha256=hashlib.sha256(given.document).hexdigest(),
        machine=machine_key(given.run.environment),
        suite=given.run.settings.suite,
        started=given.run.started,
        status=_status(signs, unchecked),
        opbench=opbench.__version__,
        commit=commit_here()[0],
        signs=signs,
        checked=tuple(one for one in said if isinstance(one, CheckedPart) and one.count),
        unchecked=unchecked,
        contributor=manifest.contributor if manifest else "",
        note=manifest.note if manifest else "",
    )


def _all(given: Submission, checks: Iterable[Check]) -> Iterator[Said]:
    for check in checks:
        yield from check(given)


def _status(signs: tuple[Sign, ...], unchecked: tuple[UncheckedPart, ...]) -> Status:
    if signs:
        return "refused"
    return "partly checked" if any(one.what in LEFT_UNDONE for one in unchecked) else "checked"


def _merged(parts: Iterable[UncheckedPart]) -> tuple[UncheckedPart, ...]:
    counted: dict[tuple[str, str], int] = {}
    for one in parts:
        counted[one.what, one.why] = counted.get((one.what, one.why), 0) + one.count
    return tuple(UncheckedPart(what, why, count) for (what, why), count in counted.items())
