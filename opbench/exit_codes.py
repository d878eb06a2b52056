"""What every command's exit code means, and which outcomes of a run and which verdict of a check make which."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping


class Exit(enum.IntEnum):
    """How a command ended, as a shell sees it."""

    FINE = 0
    BAD_NEWS = 1  # incorrect, crashed, ..., regressed: there is an answer, and it is bad
    NO_ANSWER = 2  # wrong usage, unreadable input, nothing judged, nothing that could be measured
    FAULT = 70  # opbench itself is at fault (EX_SOFTWARE of sysexits.h)
    INTERRUPTED = 130  # Ctrl-C: what a shell reports of a program that SIGINT ended


# A disturbed, throttled or unsupported case says something of the machine, not of the contender: it has no answer.
OF_OUTCOME: Mapping[str, Exit] = {
    "ok": Exit.FINE,
    "incorrect": Exit.BAD_NEWS,
    "miscounted": Exit.BAD_NEWS,
    "implausible": Exit.BAD_NEWS,
    "raised": Exit.BAD_NEWS,
    "crashed": Exit.BAD_NEWS,
    "out-of-memory": Exit.BAD_NEWS,
    "timed-out": Exit.BAD_NEWS,
    "disturbed": Exit.NO_ANSWER,
    "throttled": Exit.NO_ANSWER,
    "unsupported": Exit.NO_ANSWER,
}


def of_outcomes(outcomes: Iterable[str]) -> Exit:
    """Of a run: bad news where any case is bad news; else fine where any case was measured; else no answer.

    >>> of_outcomes(["ok", "throttled"]), of_outcomes(["ok", "crashed"]), of_outcomes(["unsupported"])
    (<Exit.FINE: 0>, <Exit.BAD_NEWS: 1>, <Exit.NO_ANSWER: 2>)
    """
    found = {OF_OUTCOME[outcome] for outcome in outcomes}
    return next((code for code in (Exit.BAD_NEWS, Exit.FINE) if code in found), Exit.NO_ANSWER)


def of_verdict(verdict: str, strict: bool) -> Exit:
    """Of a check: right and fragile are fine; strictly, fragile is bad news.

    >>> of_verdict("fragile", strict=False), of_verdict("fragile", strict=True), of_verdict("not judged", strict=True)
    (<Exit.FINE: 0>, <Exit.BAD_NEWS: 1>, <Exit.NO_ANSWER: 2>)
    """
    if verdict == "not judged":
        return Exit.NO_ANSWER
    return Exit.BAD_NEWS if verdict == "wrong" or (strict and verdict == "fragile") else Exit.FINE
