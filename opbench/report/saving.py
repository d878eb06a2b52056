"""A run's document and its report, written together. What writes them is loaded when there is something to write."""

from __future__ import annotations

from pathlib import Path

from opbench.schema import Run


def save_reported(run: Run, folder: Path, lang: str = "en") -> None:
    """Writes run.json and its report, whose first sentences are in a language."""
    from opbench.documents import save
    from opbench.report.markdown import write

    save(run, folder / "run.json")
    write(run, folder, lang)
