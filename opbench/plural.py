"""A number with its noun."""

from __future__ import annotations


def counted(count: int, one: str, several: str = "") -> str:
    """`1 case`, `1,200 cases`; `several` where the plural isn't `one` with an s.

    >>> counted(1, "panel"), counted(1200, "case"), counted(2, "process", "processes")
    ('1 panel', '1,200 cases', '2 processes')
    """
    return f"{count:,} {one if count == 1 else several or one + 's'}"
