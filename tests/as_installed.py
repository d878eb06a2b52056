"""pytest in a repository of somebody's own, where opbench is installed: its entry points are found, as pip leaves them.

A checkout that isn't installed again since an entry point was added has none of it. Where opbench is installed, pytest
meets the plugin twice under one name, and takes it once.
"""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def site(folder):
    """A folder for PYTHONPATH with what an installed opbench says of itself."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    about = folder / "site" / "opbench_as_installed-0.dist-info"
    about.mkdir(parents=True, exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: opbench-as-installed\nVersion: 0\n")
    text = ""
    for group, points in project["entry-points"].items():
        text += f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
    (about / "entry_points.txt").write_text(text)
    return about.parent


def pytest(folder, *arguments, plugin=True, seconds=300):
    """`pytest ARGUMENTS` in the folder, in a process of its own; without `plugin` as if opbench had none."""
    places = [*([str(site(folder.parent))] if plugin else []), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    words = [] if plugin else ["-p", "no:opbench"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_", "COVERAGE_"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words, *map(str, arguments)],
        cwd=folder,
        env=kept | {"PYTHONPATH": os.pathsep.join(places), "COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
