"""Imports point one way along the path a case travels."""

import ast
from pathlib import Path

import pytest

import opbench

PACKAGE = Path(opbench.__file__).parent

# From the nouns upwards. A module may import those before it, and its own layer.
LAYERS = (
    "schema",
    "child",
    "registry",
    "kernels",
    "operators",
    "suites",
    "plan",
    "baseline_alone",
    "build",
    "verify",
    "measure",
    "models",
    "document",
    "engine",
    "analyse",
    "study",
    "report",
    "session",
    "cli",
    "__main__",
)
FILES = sorted(PACKAGE.rglob("*.py"))


def layer_of(name: str) -> str:
    return name.split(".")[1]


def imported(source: str) -> set[str]:
    """The project's own modules that a source text imports, wherever in the text it does."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names |= {f"{module}.{alias.name}" if module == "opbench" else module for alias in node.names}
    return {name for name in names if name.startswith("opbench.")}


def against_the_direction(layer: str, source: str) -> list[str]:
    rank = LAYERS.index(layer)
    return sorted(name for name in imported(source) if LAYERS.index(layer_of(name)) > rank)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_what_comes_before_it(path):
    relative = path.relative_to(PACKAGE).with_suffix("")
    if relative.parts == ("__init__",):
        assert not imported(path.read_text()), "import opbench must stay light"
        return
    assert not against_the_direction(relative.parts[0], path.read_text())


def test_the_nouns_import_nothing_of_the_project():
    assert not imported((PACKAGE / "schema.py").read_text())


def test_an_import_against_the_direction_is_found():
    assert against_the_direction("measure", "def f():\n    from opbench.report import tables\n") == ["opbench.report"]
    assert against_the_direction("operators", "from opbench import engine") == ["opbench.engine"]
    assert not against_the_direction("report", "from opbench.analyse.statistics import ratio")


def test_every_folder_and_file_has_a_layer():
    parts = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in FILES} - {"__init__"}
    assert parts <= set(LAYERS)
