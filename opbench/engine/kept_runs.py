"""What an unfinished run has left in its folder: journals, and how to go on with them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from opbench.engine.entries import NAME, PanelFinished, read
from opbench.options import command_line
from opbench.plural import counted
from opbench.run_request import RunRequest


def journals(request: RunRequest, folder: Path) -> list[Path]:
    """The journals of an unfinished run; over a fleet of several node types each has its own, in a folder below."""
    own = [folder / NAME] if (folder / NAME).exists() else []
    return [*own, *(sorted(folder.glob(f"*/{NAME}")) if request.executor == "ray" else ())]


def kept(request: RunRequest, folder: Path) -> Iterator[str]:
    """What an interrupted run leaves, and how to go on."""
    found = journals(request, folder)
    if not found:
        yield "opbench: interrupted; nothing was measured yet"
        return
    what = ", ".join(f"{counted(_finished(path), 'finished panel')} kept in {path}" for path in found)
    yield f"opbench: interrupted; {what}; go on with:"
    yield f"{command_line('run', request)} -o {shlex.quote(str(folder))} --resume"


def _finished(journal: Path) -> int:
    return sum(isinstance(entry, PanelFinished) for entry in read(journal)[0])
