"""`opbench dashboard`: a results folder to a folder that any static host can serve, or a browser open from the disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from opbench.analyse.store import read
from opbench.document import replace_file
from opbench.report.dashboard.page import html
from opbench.report.dashboard.payload import Claim, payload
from opbench.report.escape import visible
from opbench.schema import OpbenchError

PAGE = "index.html"
_LISTED = 3


def write_site(
    results: str | os.PathLike[str], site: str | os.PathLike[str], claims: Sequence[Claim] = ()
) -> tuple[Path, tuple[str, ...]]:
    """Writes `site`/index.html; gives its path and a sentence for each document that isn't on it.

    Raises `OpbenchError` where no run of `results` can be shown. The same folder gives the same bytes.
    """
    store = read(results)
    said = tuple(f"{problem.path}: {problem.sentence}" for problem in store.problems)
    if not store.runs:
        raise OpbenchError(
            f"{os.fspath(results)}: holds no run document (expected a run.json that `opbench run -o DIR` wrote, at any "
            f"depth){_unread(said)}"
        )
    path = Path(site) / PAGE
    replace_file(path, html(payload(store, claims)))
    return path, said


def run_dashboard(results: Path, site: Path) -> int:
    """What the command does: the page, then where it is and what it doesn't show; the exit code."""
    path, said = write_site(results, site)
    for sentence in said:
        print(visible(sentence))
    print(f"dashboard: {path}")
    return 0


def _unread(said: Sequence[str]) -> str:
    if not said:
        return ""
    more = f"; and {len(said) - _LISTED} more" if len(said) > _LISTED else ""
    return f"; {'; '.join(map(visible, said[:_LISTED]))}{more}"
