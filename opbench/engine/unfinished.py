"""What an interrupted run leaves, and how to go on with it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from opbench.engine.entries import NAME, PanelFinished, read
from opbench.plural import counted


def kept(folder: Path, command: str) -> Iterator[str]:
    """For whoever stopped it; `command` is the run's own."""
    if not (folder / NAME).exists():
        yield "opbench: interrupted; nothing was measured yet"
        return
    done = sum(isinstance(entry, PanelFinished) for entry in read(folder / NAME)[0])
    yield f"opbench: interrupted; {counted(done, 'finished panel')} kept in {folder / NAME}; go on with:"
    yield f"{command} -o {shlex.quote(str(folder))} --resume"
