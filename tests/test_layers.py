"""Imports point one way along the path a case travels."""

import ast
import graphlib
import re
import tokenize
from collections.abc import Collection
from pathlib import Path

import pytest

import opbench

PACKAGE = Path(opbench.__file__).parent

# From the nouns upwards. A module may import those before it, and its own layer.
LAYERS = (
    "schema",
    "slug",
    "statistics",
    "quantities",
    "child",
    "registry",
    "tasks",
    "kernels",
    "operators",
    "suites",
    "plan",
    "baseline_alone",
    "build",
    "verify",
    "conformance",
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


def importing(files: dict[str, str]) -> dict[str, set[str]]:
    """For each module (name: source) the others that it imports, inside functions too; not what only types need."""
    return {name: taken(source, files) - {name} for name, source in files.items()}


def taken(source: str, modules: Collection[str]) -> set[str]:
    """The modules that a source text imports. A module taken from a package stands for itself, not for the package."""
    tree = ast.parse(source)
    types = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    ignored = {node for block in types for node in ast.walk(block)}
    names = set()
    for node in set(ast.walk(tree)) - ignored:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            names |= {name if name in modules else str(node.module) for name in full}
    return names & set(modules)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_what_comes_before_it(path):
    relative = path.relative_to(PACKAGE).with_suffix("")
    if relative.parts == ("__init__",):
        assert not imported(path.read_text()), "import opbench must stay light"
        return
    assert not against_the_direction(relative.parts[0], path.read_text())


def test_the_nouns_import_nothing_of_the_project():
    assert not imported((PACKAGE / "schema.py").read_text())


def test_no_module_imports_itself_through_others():
    names = {path: ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in FILES}
    files = {names[path].removesuffix(".__init__"): path.read_text() for path in FILES}
    graphlib.TopologicalSorter(importing(files)).prepare()


def test_a_cycle_is_found_inside_functions_too():
    sorter = graphlib.TopologicalSorter(importing({"a.b": "from a import c", "a.c": "def f():\n    from a.b import d"}))
    with pytest.raises(graphlib.CycleError):
        sorter.prepare()
    for_types = "if TYPE_CHECKING:\n    from a.b import D"
    graphlib.TopologicalSorter(importing({"a.b": "from a import c", "a.c": for_types})).prepare()


def test_an_import_against_the_direction_is_found():
    assert against_the_direction("measure", "def f():\n    from opbench.report import tables\n") == ["opbench.report"]
    assert against_the_direction("operators", "from opbench import engine") == ["opbench.engine"]
    assert not against_the_direction("report", "from opbench.statistics.ratios import ratio")


def test_every_folder_and_file_has_a_layer():
    parts = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in FILES} - {"__init__"}
    assert parts <= set(LAYERS)


# What may name an operator in code: the networks and studies that are made of them, their relations and drawings, what
# older documents held, claims of their papers, help texts. It may shrink.
NAMING = frozenset(
    [
        "analyse/claims/computations",
        "analyse/claims/counts",
        "cli/app",
        "cli/checking",
        "cli/models",
        "cli/running",
        "cli/show",
        "document",
        "models/declared/fpn_model",
        "models/declared/internimage_model",
        "models/declared/yolov8_model",
        "models/fpn",
        "models/internimage",
        "models/networks",
        "models/ultralytics_yaml",
        "models/yolov8",
        "report/show/carafe",
        "report/show/command",
        "report/show/dcnv3",
        "report/show/weights",
        "study/detecting",
        "study/upsampling",
        "tasks",
        "conformance/__init__",
        "conformance/carafe_properties",
        "conformance/dcnv3_properties",
        "conformance/dcnv3_relations",
        "conformance/module_kinds",
    ]
)


def names_an_operator(path: Path) -> bool:
    with path.open(encoding="utf-8") as file:
        tokens = list(tokenize.generate_tokens(file.readline))
    held = (token.string for token in tokens if token.type in (tokenize.NAME, tokenize.STRING))
    return any(re.search("carafe|dcnv3", text, re.IGNORECASE) for text in held if not text.startswith('"""'))


def test_no_other_file_names_an_operator():
    """An operator is one folder: what the rest of opbench does with it, it asks of the declaration."""
    found = {
        str(path.relative_to(PACKAGE).with_suffix(""))
        for path in FILES
        if path.relative_to(PACKAGE).parts[0] not in ("operators", "kernels") and names_an_operator(path)
    }
    assert found <= NAMING, sorted(found - NAMING)
    assert found == NAMING, f"to be taken off the list: {sorted(NAMING - found)}"
