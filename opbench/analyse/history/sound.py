"""What the fields of a digest say of each other, and whether it is what its document gives."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from opbench.analyse.history.digest import Digest, Entry
from opbench.documents.checks.flaws import Flaw, repeated

# What two versions of the same arithmetic may differ by.
_TOLERANCE = 1e-9


def flaws(digest: Digest) -> Iterator[Flaw]:
    """Every contradiction of a digest."""
    if not re.fullmatch("[0-9a-f]{64}", digest.sha256):
        yield Flaw("$.sha256", "not a SHA-256 in hexadecimal")
    for place in repeated(entry.case.id for entry in digest.entries):
        yield Flaw(f"$.entries[{place}].case", "a case that has an entry already")
    for place, entry in enumerate(digest.entries):
        yield from _entry(entry, f"$.entries[{place}]")


def _entry(entry: Entry, path: str) -> Iterator[Flaw]:
    if entry.outcome == "ok" and entry.worst_ratio is not None and entry.worst_ratio > 1:
        yield Flaw(f"{path}.worst_ratio", "an error beyond its bound, beside the outcome ok")
    if entry.outcome != "ok" and entry.timings:
        yield Flaw(f"{path}.timings", f"figures beside the outcome {entry.outcome}")
    for place, timing in enumerate(entry.timings):
        where, quartiles, ratio = f"{path}.timings[{place}]", timing.latency, timing.ratio
        if quartiles and not quartiles.lower_seconds <= quartiles.median_seconds <= quartiles.upper_seconds:
            yield Flaw(f"{where}.latency", "quartiles out of order")
        if ratio and not ratio.low <= ratio.value <= ratio.high:
            yield Flaw(f"{where}.ratio", "outside its own interval")


def agree(one: Digest, other: Digest) -> bool:
    """Whether two digests say the same of the same document, up to the last digits of a float."""
    return next(differences(msgspec.to_builtins(one), msgspec.to_builtins(other)), None) is None


def differences(one: Any, other: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two plain values differ by more than the last digits of a float: the path, and what stands there."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key, value in one.items():
            yield from differences(value, other[key], f"{path}.{key}")
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        for at, (here, there) in enumerate(zip(one, other, strict=True)):
            yield from differences(here, there, f"{path}[{at}]")
    elif not _same(one, other):
        yield path, one, other


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=_TOLERANCE) or one == other or (math.isnan(one) and math.isnan(other))
    return bool(one == other)
