"""What a user can mend, and the sentence for a name that isn't known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class OpbenchError(Exception):
    """What a user can mend: wrong usage or unreadable input. The command line prints it in one line, exit code 2."""


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
