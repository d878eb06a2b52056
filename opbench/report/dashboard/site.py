"""`opbench dashboard`: a results folder to a folder that any static host can serve, or a browser open from the disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from opbench.analyse.claims.nouns import Answer
from opbench.analyse.history.commits import by_commit
from opbench.analyse.history.store import read
from opbench.documents import replace_file
from opbench.report.dashboard.page import html
from opbench.report.dashboard.payload import payload
from opbench.report.escape import visible
from opbench.schema import OpbenchError, Run

PAGE = "index.html"
_LISTED = 3

Judge = Callable[[Sequence[Run]], Iterable[Answer]]


class WrittenSite(NamedTuple):
    """The page that was written, and a sentence for each document that isn't on it."""

    page: Path
    problems: tuple[str, ...]


def _none(runs: Sequence[Run]) -> Iterable[Answer]:
    return ()


def write_site(
    results: str | os.PathLike[str], site: str | os.PathLike[str], claims: Judge = _none, lang: str = "en"
) -> WrittenSite:
    """Writes `site`/index.html. The same folder, in the same repository, gives the same bytes.

    `claims` judges published claims by the newest run of each suite and machine. `lang` is the language of the answer.
    Raises `OpbenchError` where no run of `results` can be shown.
    """
    store = by_commit(read(results))
    said = tuple(f"{problem.path}: {problem.sentence}" for problem in store.problems)
    if not store.runs:
        digests = f"; its {len(store.digests)} digests hold no rows" if store.digests else ""
        raise OpbenchError(
            f"{os.fspath(results)}: holds no run document (expected a run.json that `opbench run -o DIR` wrote, at any "
            f"depth){digests}{_unread(said)}"
        )
    newest = {(one.digest.machine, one.digest.suite): one for one in store.runs}
    path = Path(site) / PAGE
    replace_file(path, html(payload(store, tuple(claims([one.run for one in newest.values()])), lang)))
    return WrittenSite(path, said)


def _unread(said: Sequence[str]) -> str:
    if not said:
        return ""
    more = f"; and {len(said) - _LISTED} more" if len(said) > _LISTED else ""
    return f"; {'; '.join(map(visible, said[:_LISTED]))}{more}"
