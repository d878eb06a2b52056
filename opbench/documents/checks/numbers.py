"""The range of every number of a document. What a field doesn't say otherwise holds of all:

an integer counts something, so it is 0 or more and fits 64 bits; a float measures something, so it is finite and 0 or
more. `EXCEPTIONS` names the fields that may hold something else, and the one place that says why.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_origin

import msgspec

from opbench.documents.checks.flaws import Flaw

LARGEST = (1 << 63) - 1
# Digits behind the point that a figure can be written with.
MOST_PLACES = 12

# A rule takes every number between two that it takes.
Holds = Callable[[float], bool]


def _finite(value: float) -> bool:
    return math.isfinite(value)


def _any(value: float) -> bool:
    return True


def _unless_negative(value: float) -> bool:
    """A magnitude, or infinity, or NaN where there is none."""
    return not value < 0


def _time_or_discarded(value: float) -> bool:
    """A time is more than nothing and less than for ever; NaN stands for a sample that was discarded."""
    return math.isnan(value) or 0 < value < math.inf


def _positive(value: float) -> bool:
    return 0 < value < math.inf


EXCEPTIONS: Mapping[str, tuple[Holds, str]] = {
    # A wrong answer may be anything, and so may how far it is off.
    "Worst.expected": (_any, ""),
    "Worst.got": (_any, ""),
    "Worst.index": (_finite, "a whole number"),
    "Worst.bound": (_unless_negative, "0 or more"),
    "Verdict.worst_ratio": (_unless_negative, "0 or more"),
    "Verdict.max_error": (_unless_negative, "0 or more"),
    "Verdict.rms_error": (_unless_negative, "0 or more"),
    "Entry.worst_ratio": (_unless_negative, "0 or more"),
    # NaN stands for a sample that was discarded, or for what its sensor didn't say.
    "Latency.samples_seconds": (_time_or_discarded, "a time, or NaN where one was discarded"),
    "Latency.first_call_seconds": (_unless_negative, "0 or more"),
    "Latency.calls_per_sample": (_positive, "1 or more"),
    "Latency.sm_clock_mhz": (_unless_negative, "0 or more"),
    "Latency.temperature_celsius": (_any, ""),
    "FirstCall.cold_seconds": (_time_or_discarded, "a time, or NaN where one was discarded"),
    "FirstCall.cached_seconds": (_time_or_discarded, "a time, or NaN where one was discarded"),
    "Yardstick.samples": (_time_or_discarded, "more than 0, or NaN where one was discarded"),
    # Student's t over two processes that disagree has no useful upper end.
    "Ratio.value": (_positive, "more than 0"),
    "Ratio.high": (_unless_negative, "0 or more"),
    "Quartiles.lower_seconds": (_positive, "more than 0"),
    "Quartiles.median_seconds": (_positive, "more than 0"),
    "Quartiles.upper_seconds": (_positive, "more than 0"),
    # Settings are what an operator is called with, seeds and dimensions what a person chose.
    "Case.settings": (_finite, "finite"),
    "Case.seed": (_finite, "a whole number"),
    "Settings.seed": (_finite, "a whole number"),
    "Settings.operator_settings": (_finite, "finite"),
    "Trial.effect": (lambda value: -1 < value < math.inf, "more than -1"),
    "Trial.first_nanoseconds": (_positive, "more than 0"),
    "Trial.second_nanoseconds": (_positive, "more than 0"),
    "Called.ratio": (_unless_negative, "0 or more"),
    # A training may diverge, and a score is in whatever unit its metric has.
    "Training.losses": (_any, ""),
    "Training.scores": (_any, ""),
    "Training.seed": (_finite, "a whole number"),
    "StudyResult.seeds": (_finite, "a whole number"),
    "StudyResult.search_seed": (_finite, "a whole number"),
    "StudyResult.anchors": (_any, ""),
    "SlotChange.before": (_any, ""),
    "SlotChange.after": (_any, ""),
    "Metric.places": (lambda value: 0 <= value <= MOST_PLACES, f"0 to {MOST_PLACES}"),
}


def numbers(noun: msgspec.Struct) -> Iterator[Flaw]:
    """Every number of a noun that is out of its range."""
    # Thousands of documents are read that have no flaw: where one is, is only asked of one that has.
    if not _all_hold(noun, _measured):
        yield from _struct(noun, "$")


def large(noun: msgspec.Struct) -> Iterator[Flaw]:
    """Every integer of a noun that no 64 bits hold: arithmetic with floats would fail at it."""
    yield from _values(noun, "$", _any, "", _unbounded)


def _measured(value: float) -> bool:
    return 0 <= value < math.inf


def _all_hold(value: Any, holds: Holds) -> bool:
    """Whether every number in a value is within its range."""
    kind: Any = type(value)
    if kind is float:
        return holds(value)
    if kind is int:
        return -LARGEST <= value <= LARGEST and holds(value)
    if kind is tuple or kind is list:
        return _ends_hold(value, holds) or all(
            holds(item) if type(item) is float else _all_hold(item, holds) for item in value
        )
    if kind is dict:
        return all(_all_hold(item, holds) for item in value.values())
    if not isinstance(value, msgspec.Struct):
        return True
    for field, rule in _rules(kind):
        held = getattr(value, field)
        if held is not None and not _all_hold(held, rule):
            return False
    return True


def _ends_hold(values: Sequence[Any], holds: Holds) -> bool:
    """Whether these are numbers, all finite, of which the least and the largest are in range: then all of them are.

    A document has millions of them. Where it is False, each must be looked at.
    """
    try:
        if not values or not math.isfinite(sum(values)):
            return False
    except (TypeError, OverflowError):
        return False
    ends = min(values), max(values)
    return all(-LARGEST <= end <= LARGEST and holds(end) for end in ends)


@functools.cache
def _rules(noun: Any) -> tuple[tuple[str, Holds], ...]:
    """The rule of each field that can hold a number."""
    return tuple(
        (field.name, EXCEPTIONS.get(f"{noun.__name__}.{field.name}", (_measured, ""))[0])
        for field in msgspec.structs.fields(noun)
        if field.type not in (str, bool) and get_origin(field.type) is not Literal
    )


def _struct(noun: msgspec.Struct, path: str) -> Iterator[Flaw]:
    for field in noun.__struct_fields__:
        holds, wanted = EXCEPTIONS.get(f"{type(noun).__name__}.{field}", (_measured, "finite, and 0 or more"))
        yield from _values(getattr(noun, field), f"{path}.{field}", holds, wanted, _struct)


def _unbounded(noun: msgspec.Struct, path: str) -> Iterator[Flaw]:
    for field in noun.__struct_fields__:
        yield from _values(getattr(noun, field), f"{path}.{field}", _any, "", _unbounded)


def _values(
    value: Any, path: str, holds: Holds, wanted: str, struct: Callable[[Any, str], Iterator[Flaw]]
) -> Iterator[Flaw]:
    """The flaws of a value at `path`, and of what is in it; those of a noun's fields are `struct`'s to find."""
    if isinstance(value, int | float):
        if isinstance(value, int) and not -LARGEST <= value <= LARGEST:
            yield Flaw(path, "an integer of more than 64 bits")
        elif not isinstance(value, bool) and not holds(value):
            yield Flaw(path, f"{value!r}, expected {wanted}")
    elif isinstance(value, tuple | list):
        for index, item in enumerate(value):
            yield from _values(item, f"{path}[{index}]", holds, wanted, struct)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _values(item, f"{path}[{key!r}]", holds, wanted, struct)
    elif isinstance(value, msgspec.Struct):
        yield from struct(value, path)
