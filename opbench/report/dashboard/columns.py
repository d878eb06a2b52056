"""Columns instead of rows, and each text once: what keeps ten thousand records in a few megabytes of JSON."""

from __future__ import annotations

import math
from typing import Any

from opbench.report.escape import visible

# A name is an identifier that a person reads; anything longer comes from a hostile or a broken document.
NAME_LIMIT = 160
TEXT_LIMIT = 600


class StringIndex(int):
    """Where a text stands among the page's strings."""


class Strings:
    """Every text of the page, once: `add` gives its place. Only this lets text from a document into the page."""

    def __init__(self) -> None:
        self._places: dict[str, StringIndex] = {"": StringIndex(0)}
        self._seen: dict[tuple[str, int], StringIndex] = {}

    def add(self, text: str, limit: int = TEXT_LIMIT) -> StringIndex:
        """The place of `text`, made one visible line of at most `limit` characters."""
        place = self._seen.get((text, limit))
        if place is None:
            place = self._places.setdefault(visible(text, limit), StringIndex(len(self._places)))
            self._seen[text, limit] = place
        return place

    def name(self, text: str) -> StringIndex:
        """The place of an identifier."""
        return self.add(text, NAME_LIMIT)

    @property
    def all(self) -> list[str]:
        """The texts in order of their places."""
        return list(self._places)


class Columns:
    """A table under construction: `append` takes a row by name; the first row says which columns there are."""

    def __init__(self) -> None:
        self._columns: dict[str, list[Any]] = {}
        self._length = 0

    def append(self, **row: Any) -> int:
        """Adds a row and gives its place."""
        if not self._columns:
            self._columns = {name: [] for name in row}
        for name, column in self._columns.items():
            column.append(row[name])
        self._length += 1
        return self._length - 1

    def built(self) -> dict[str, Any]:
        """The columns of texts (places among the strings) and the others, apart."""
        texts = {name: column for name, column in self._columns.items() if isinstance(column[0], StringIndex)}
        others = {name: column for name, column in self._columns.items() if name not in texts}
        return {"length": self._length, "texts": texts, "others": others}


def number(value: float | None, digits: int = 5) -> float | int | None:
    """What a chart can draw and a table can sort by: short, and None for what is no number (JSON has no NaN)."""
    if value is None or not math.isfinite(value):
        return None
    if isinstance(value, int):
        return value if abs(value) < 2**53 else float(value)
    return float(f"{value:.{digits}g}")
