"""Runs a page: its files are written, its commands and Python code run in order, in one folder, as a reader would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import as_installed
from pages import NOT_RUN, ROOT, Block

# What a page installs is there already; whether the extras and sessions exist, another test says.
TOOLS = {
    # Pages are followed beside other tests: a case that waited for a core is none the worse here.
    "opbench": f'[ "$1" != run ] || set -- "$@" --share-cpu; exec {sys.executable} -m opbench "$@"',
    "python": f'exec {sys.executable} "$@"',
    "pip": "exit 0",
    "nox": "exit 0",
    "git": "exit 0",
    "pytest": f'exec {sys.executable} -m pytest -p no:cacheprovider "$@"',
}


def is_run(block: Block, nightly: bool) -> bool:
    """Whether a block is run now; what is `nightly` is only parsed otherwise."""
    if any(word in NOT_RUN for word in block.words):
        return False
    return nightly or "nightly" not in block.words


class Reader:
    """Somebody in an empty folder who follows a page."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "reader"
        self.tools = folder / "tools"
        self.folder.mkdir()
        self.tools.mkdir()
        for name in ("results", "tests"):
            (self.folder / name).symlink_to(ROOT / name)
        for name, script in TOOLS.items():
            path = self.tools / name
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
        self.said = ""

    def follow(self, block: Block) -> None:
        """One block. Raises AssertionError that names the page and the line."""
        if block.value("file"):
            path = self.folder / block.value("file")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language in ("bash", "sh"):
            # Bash says the line of a command that failed: the page's, as the script is moved down to it.
            script = "\n" * (block.line - 1) + block.text
            self._run(["bash", "-eo", "pipefail", "-c", f"trap 'echo \"line $LINENO\" >&2' ERR{script}"], block)
        elif block.language == "python":
            code = f"compile({chr(10) * (block.line - 1) + block.text!r}, {block.where.split(':')[0]!r}, 'exec')"
            self._run([sys.executable, "-c", f"exec({code})"], block)
        elif "output" in block.words:
            self._compare(block)

    def _run(self, command: list[str], block: Block) -> None:
        path = f"{self.tools}{os.pathsep}{os.environ['PATH']}"
        found = os.pathsep.join([str(as_installed.site(self.tools)), str(ROOT)])
        env = os.environ | {"PATH": path, "PYTHONPATH": found, "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
        done = subprocess.run(
            command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=900, check=False
        )
        self.said = done.stdout + done.stderr
        expected = int(block.value("exit") or 0)
        ended = f"{block.where}: ended with {done.returncode}, expected {expected}"
        assert done.returncode == expected, f"{ended}\n{done.stdout[-2000:]}{done.stderr[-3000:]}"

    def _compare(self, block: Block) -> None:
        """Each line of a shown output was said; a line that holds `...` stands for others."""
        said = " ".join(self.said.split())
        for number, line in enumerate(block.text.splitlines(), block.line):
            if line.strip() and "..." not in line:
                wanted, where = " ".join(line.split()), f"{block.page.relative_to(ROOT)}:{number}"
                assert wanted in said, f"{where}: not said: {wanted}\n{self.said[-3000:]}"
