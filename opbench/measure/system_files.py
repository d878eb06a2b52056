"""Small files in which a system tells of itself, under /proc and /sys. What isn't there says nothing."""

from __future__ import annotations

from pathlib import Path


def text(file: Path) -> str:
    """The file's content; empty where it can't be read."""
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def line(file: Path) -> str:
    """The first line, without the space around it."""
    return text(file).partition("\n")[0].strip()
