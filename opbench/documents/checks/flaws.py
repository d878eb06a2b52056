"""One flaw of a document: where it is, and what is wrong."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import NamedTuple


class Flaw(NamedTuple):
    """`path` is as in `$.records[3].case`; `sentence` says what is there and what was expected."""

    path: str
    sentence: str


def repeated(names: Iterable[Hashable]) -> Iterable[int]:
    """The places of names that stood before."""
    seen: set[Hashable] = set()
    for place, name in enumerate(names):
        if name in seen:
            yield place
        seen.add(name)
