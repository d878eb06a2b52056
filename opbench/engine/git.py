"""Git, asked about one folder: not about the repository that a hook's environment names."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SECONDS = 30.0


class GitError(Exception):  # the caller says what it wanted
    """Git can't be asked, or refuses: its own sentence."""


def git(folder: Path, *arguments: str) -> str:
    """What it prints. A hook's GIT_DIR, GIT_WORK_TREE and GIT_INDEX_FILE would name another repository than the folder.

    Raises GitError.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=SECONDS, env=environment
        )
    except FileNotFoundError:
        raise GitError("git is not installed, or the folder is gone") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise GitError(f"git can't be run: {type(error).__name__}") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"git {arguments[0]} ended with exit code {done.returncode}"]
        raise GitError(lines[0].removeprefix("fatal: "))
    return done.stdout.strip()
