"""One colour and one shape for each operator, the same in every chart, report and page.

Colours are those of Okabe and Ito, which stay apart for colour-blind eyes. The operators that opbench is about have
colours of their own, the baselines of tasks are black, and all others share what is left: within a task no two look
alike. Implementations of an operator are told apart by how its mark is filled and its line dashed.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

import msgspec

from opbench import registry

# Okabe and Ito without yellow, which is too faint for a thin line on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# The same on a dark ground, lighter.
DARK = ("#4FA8E0", "#EF8A46", "#2FC496", "#DC98BD", "#F0B93A", "#8FD0F5", "#E8E8E8")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
# Of the implementations of one operator in a chart: how a line is dashed. Marks are filled, hollow, pale, hollow again.
DASHES = ((1, 0), (6, 3), (2, 2), (8, 3, 2, 3))
BLACK = len(PALETTE) - 1
# The first colours are for what opbench is about: each of its names, and what has several of them at once.
_SUBJECTS = 3
_FREE_COLOURS = range(_SUBJECTS, BLACK)


class Mark(msgspec.Struct, frozen=True):
    """Places in `PALETTE` and `SHAPES`; `subject` is the name under which the operator is accented, or empty."""

    colour: int
    shape: int
    subject: str = ""


# The pairs of the colours that no subject and no baseline has, neighbours apart in both.
_REST = tuple(
    Mark(_FREE_COLOURS[at % len(_FREE_COLOURS)], (at + at // len(SHAPES)) % len(SHAPES))
    for at in range(len(_FREE_COLOURS) * len(SHAPES))
)


def marks(names: Iterable[str]) -> dict[str, Mark]:
    """Operators by name, each with its mark. One that is not declared here has a mark that follows from its name."""
    known = _declared()
    found: dict[str, Mark] = {}
    for name in sorted(set(names)):
        found[name] = known.get(name) or _stranger(name, found.values())
    return found


def operator_of(contender: str) -> str:
    """`carafe` of `carafe[cpu]/spread=2px`."""
    return contender.partition("[")[0]


def implementations(operator: str) -> tuple[str, ...]:
    """The implementations that are declared of an operator, the preferred first."""
    own = (one for one in registry.every_operator() if one.name == operator)
    return tuple(dict.fromkeys(name for one in own for name in (*one.preferred, *one.implementations)))


def order(contenders: Sequence[str]) -> dict[str, int]:
    """Contenders to their place among those of one operator in a chart: it fills the mark and dashes the line."""
    groups: dict[str, list[str]] = {}
    for contender in dict.fromkeys(contenders):
        groups.setdefault(operator_of(contender), []).append(contender)
    found = {}
    for operator, own in groups.items():
        known = implementations(operator)

        def place(contender: str, known: tuple[str, ...] = known) -> tuple[int, str]:
            name = contender.partition("[")[2].partition("]")[0]
            return (known.index(name) if name in known else len(known), contender)

        found.update({contender: number for number, contender in enumerate(sorted(own, key=place))})
    return found


def _declared() -> dict[str, Mark]:
    """The marks of all declared operators, task by task; an operator keeps that of its first task."""
    found: dict[str, Mark] = {}
    subjects: dict[str, int] = {}
    for task in registry.tasks().values():
        for operator in registry.operators(task.name).values():
            if operator.subject and operator.name not in found:
                colour = subjects.setdefault(operator.subject, len(subjects) % _SUBJECTS)
                taken = [one.shape for one in found.values() if one.subject == operator.subject]
                found[operator.name] = Mark(colour, len(taken) % len(SHAPES), operator.subject)
    for task in registry.tasks().values():
        own = registry.operators(task.name)
        there = [found[name] for name in own if name in found]
        base = operator_of(task.baseline)
        if base in own and base not in found:
            blacks = sum(one.colour == BLACK for one in found.values())
            found[base] = Mark(BLACK, blacks % len(SHAPES))
            there.append(found[base])
        for name in own:
            if name not in found:
                found[name] = _free(there)
                there.append(found[name])
    return found


def _free(taken: Iterable[Mark], start: int = 0) -> Mark:
    used = set(taken)
    turned = (*_REST[start:], *_REST[:start])
    return next((one for one in turned if one not in used), turned[0])


def _stranger(name: str, taken: Iterable[Mark]) -> Mark:
    start = zlib.crc32(name.encode("utf-8", "backslashreplace")) % len(_REST)
    return _free(taken, start)
