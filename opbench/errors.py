"""What a user can mend, and the sentences for an error and for a name that isn't known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Of the name of an error's class, and of what it says: a message may be hundreds of megabytes, and is searched.
LONGEST_KIND, LONGEST_TEXT = 100, 8_000


class OpbenchError(Exception):
    """What a user can mend: wrong usage or unreadable input. The command line prints it in one line, exit code 2."""


class NeedsOpset(NotImplementedError):
    """An operation that ONNX files have from opset `least` on; raised while a file of an older one is written."""

    def __init__(self, operation: str, least: int) -> None:
        super().__init__(f"{operation} is an operation of ONNX from opset {least} on")
        self.least = least


def said(error: BaseException, most: int | None = None) -> str:
    """An error's kind and the first line of what it says, or its first `most` letters.

    >>> said(ValueError("no such thing: try another")), said(KeyError())
    ('ValueError: no such thing: try another', 'KeyError')
    """
    first = (text_of(error).strip().splitlines() or [""])[0]
    shown = first if most is None or len(first) <= most else f"{first[:most]} ..."
    kind = " ".join(type(error).__name__.split())[:LONGEST_KIND]
    return f"{kind}: {shown}".rstrip(": ")


def text_of(error: BaseException) -> str:
    """What an error says, or the beginning of it; its `__str__` may be anybody's."""
    try:
        text = str(error)
        return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} ..."
    except Exception:
        return "(an error that can't be printed)"


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
