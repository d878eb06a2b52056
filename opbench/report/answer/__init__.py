"""What a run answers to "should I?": sentences of plain text, the first thing that every report says.

    answer(standings(run))              -> ("In YOLOv8n at 640 here, CARAFE ... costs 3 % [0, 7] more time ...", ...)
    answer(standings(run), lang="zh")   -> the same in Chinese

`findings` chooses what is said, `words` says it: a language is a file beside it (en.toml, zh.toml). Names come from the
document and may hold anything: whoever places a sentence escapes it for the medium.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from opbench.analyse.standings import NOT_RUN, Standing
from opbench.report.answer.findings import (
    FormatEffect,
    SpokenOperator,
    format_effect,
    in_weak_format,
    subjects,
    unmeasured,
)
from opbench.report.answer.words import Language, language

# Of networks and of operators: what comes after them is counted, and stands in the tables.
MOST_NETWORKS, MOST_OPERATORS = 4, 6
MOST_NAMED = 3


def answer(
    spoken_of: Sequence[Standing], lang: str = "en", *, held: Sequence[Standing] | None = None, studied: bool = False
) -> tuple[str, ...]:
    """The sentences on some panels of a machine, in either language.

    `held` are all that its documents hold, where that is more: what they don't is said to be not measured. `studied`:
    a study beside them has trained networks, so that something is known of accuracy.
    """
    return tuple(_sentences(spoken_of, spoken_of if held is None else held, language(lang), studied))


def _sentences(spoken_of: Sequence[Standing], held: Sequence[Standing], said: Language, studied: bool) -> Iterator[str]:
    found = subjects(spoken_of, tuple(said.names))
    networks = [one for one in found if one.network]
    operators = [one for one in found if not one.network]
    if not found:
        yield said.say("nothing")
    yield from (said.network(one) for one in networks[:MOST_NETWORKS])
    yield from (said.operator(one) for one in operators[:MOST_OPERATORS])
    if more := len(networks[MOST_NETWORKS:]) + len(operators[MOST_OPERATORS:]):
        yield said.say("more" if more > 1 else "one-more", count=more)
    yield from _baseline(spoken_of, operators, said)
    yield from _failed(spoken_of, said)
    if absent := unmeasured(held, studied=studied):
        yield said.say("unmeasured", what=said.listed([said.say(f"unmeasured-{name}") for name in absent]))


def _baseline(spoken_of: Sequence[Standing], operators: Sequence[SpokenOperator], said: Language) -> Iterator[str]:
    """That the baseline is slow in torch's default memory format, by the figures of the other where there are some."""
    effect: FormatEffect | None = format_effect(spoken_of)
    if effect is not None:
        yield said.format_effect(effect)
    elif weak := next((one for one in operators if in_weak_format(one)), None):
        yield said.say("weak-format", baseline=said.name(weak.baseline))


def _failed(spoken_of: Sequence[Standing], said: Language) -> Iterator[str]:
    """How many cases have no figure, by outcome, and whose."""
    rows = [row for standing in spoken_of for row in standing.rows]
    failed: dict[str, list[str]] = {}
    for row in rows:
        if row.outcome != "ok":
            failed.setdefault(row.outcome, []).append(row.case.contender)
    if not failed:
        return
    parts = []
    # What could not be told comes last: it says nothing against a contender.
    for outcome in sorted(failed, key=lambda name: (name == NOT_RUN, name)):
        names = list(dict.fromkeys(failed[outcome]))
        shown = said.listed([said.short(name) for name in names[:MOST_NAMED]])
        more = "…" if len(names) > MOST_NAMED else ""
        parts.append(said.say("failed-of", count=len(failed[outcome]), outcome=outcome, names=f"{shown}{more}"))
    count = sum(map(len, failed.values()))
    yield said.say("failed", count=count, total=len(rows), parts=said.listed(parts))
