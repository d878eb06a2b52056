"""What a user can mend, and the sentences for an error and for a name that isn't known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class OpbenchError(Exception):
    """What a user can mend: wrong usage or unreadable input. The command line prints it in one line, exit code 2."""


def said(error: BaseException, most: int | None = None) -> str:
    """An error's kind and the first line of what it says, or its first `most` letters.

    >>> said(ValueError("no such thing: try another")), said(KeyError())
    ('ValueError: no such thing: try another', 'KeyError')
    """
    try:
        first = (str(error).strip().splitlines() or [""])[0]
    except Exception:  # a __str__ of anybody's: anything
        first = "(an error that can't be printed)"
    shown = first if most is None or len(first) <= most else f"{first[:most]} ..."
    return f"{type(error).__name__}: {shown}".rstrip(": ")


def nearest(kind: str, name: str, known: Iterable[str], most: int | None = None) -> str:
    """One sentence for an unknown name: what was got, the nearest known one, and all of them, or the first `most`.

    >>> nearest("task", "upsample", ["conv3x3", "upsample2x"])
    "unknown task 'upsample'; did you mean 'upsample2x'? (known: conv3x3, upsample2x)"
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    more = f" and {len(names) - most} more" if most is not None and len(names) > most else ""
    return f"unknown {kind} {name!r}{hint} (known: {', '.join(names[:most])}{more})"
