"""Imports point one way along the path a case travels."""

import ast
import functools
import graphlib
import re
import subprocess
import sys
import tokenize
from collections.abc import Collection
from pathlib import Path

import pytest

import opbench

PACKAGE = Path(opbench.__file__).parent

# From the nouns upwards. A module may import those before it, and its own layer.
LAYERS = (
    "errors",
    "user_cache",
    "seeds",
    "plural",
    "schema",
    "storage",
    "relations",
    "anatomy",
    "constructors",
    "drawings",
    "exit_codes",
    "options",
    "help_text",
    "slug",
    "statistics",
    "quantities",
    "documents",
    "process",
    "declarations",
    "registry",
    "tasks",
    "kernels",
    "operators",
    "runtimes",
    "suites",
    "listing",
    "contenders",
    "across_runtimes",
    "plan",
    "run_request",
    "network_request",
    "baseline_alone",
    "build",
    "verify",
    "conformance",
    "measure",
    "floor",
    "models",
    "engine",
    "doctor",
    "analyse",
    "contributed",
    "decision",
    "deploy",
    "study",
    "report",
    "run_on_fleet",
    "commands",
    "api",
    "testing",
    "main",
    "cli",
    "__main__",
)
# In an operator's folder these files (or folders) are parts of the room that loads them, which no other layer below
# may import: `import opbench.operators.carafe` loads neither Hypothesis nor a renderer.
ROOM_OF = {"relations": "conformance", "show": "report"}
FILES = sorted(PACKAGE.rglob("*.py"))


def layer_of(name: str) -> str:
    """`opbench.measure.memory` -> measure, `opbench.operators.carafe.relations` -> conformance."""
    _, layer, *inside = name.split(".")
    rooms = [ROOM_OF[part] for part in inside[1:] if part in ROOM_OF] if layer == "operators" else []
    return rooms[0] if rooms else layer


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


@functools.cache
def nodes(source: str) -> tuple[ast.AST, ...]:
    """Everything in a source text; several statements here are about all files."""
    return tuple(ast.walk(ast.parse(source)))


def imported(source: str) -> set[str]:
    """The project's own modules that a source text imports, wherever in the text it does."""
    names = set()
    for node in nodes(source):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            full = {f"{module}.{alias.name}" for alias in node.names}
            names |= full if module == "opbench" else {module}
            names |= {name for name in full if module.startswith("opbench.") and layer_of(name) != layer_of(module)}
    return {name for name in names if name.startswith("opbench.")}


def against_the_direction(layer: str, source: str) -> list[str]:
    rank = LAYERS.index(layer)
    return sorted(name for name in imported(source) if LAYERS.index(layer_of(name)) > rank)


def importing(files: dict[str, str]) -> dict[str, set[str]]:
    """For each module (name: source) the others that it imports, inside functions too; not what only types need."""
    return {name: taken(source, files) - {name} for name, source in files.items()}


def taken(source: str, modules: Collection[str]) -> set[str]:
    """The modules that a source text imports. A module taken from a package stands for itself, not for the package."""
    types = [node for node in nodes(source) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    ignored = {node for block in types for node in ast.walk(block)}
    names = set()
    for node in set(nodes(source)) - ignored:
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
        assert not taken(path.read_text(), [name_of(one) for one in FILES]), "import opbench must stay light"
        return
    assert not against_the_direction(layer_of(name_of(path)), path.read_text())


def test_the_nouns_import_nothing_of_the_project():
    assert not imported((PACKAGE / "errors.py").read_text())
    taken = {name for path in (PACKAGE / "schema").glob("*.py") for name in imported(path.read_text())}
    assert {layer_of(name) for name in taken} == {"errors", "schema"}


def test_no_module_imports_itself_through_others():
    files = {name_of(path): path.read_text() for path in FILES}
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


def test_a_room_s_part_of_an_operator_belongs_to_the_room():
    for source in (
        "from opbench.operators.carafe import relations",
        "import opbench.operators.carafe.relations.examples",
    ):
        assert against_the_direction("operators", source)
        assert not against_the_direction("conformance", source)
    assert against_the_direction("conformance", "from opbench.operators.carafe.show import drawn")
    code = "import sys, opbench.operators.carafe, opbench.operators.dcnv3; sys.exit('hypothesis' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_folder_and_file_has_a_layer():
    parts = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in FILES} - {"__init__"}
    assert parts <= set(LAYERS)


# What may name an operator in code, and why. It may shrink.
#   analyse/claims: the claims of their papers, computed. cli, commands: examples in help texts.
#   document: where schema 1 held CARAFE's settings. models: published networks made of them, and the lines that their
#   write-ups have in ultralytics' YAML. study: the contenders of an experiment, chosen as a suite chooses them.
NAMING = frozenset(
    [
        "analyse/claims/computations",
        "analyse/claims/counts",
        "documents/older",
        "commands/check",
        "commands/deploy",
        "commands/model",
        "commands/show",
        "main",
        "models/declared/fpn_model",
        "models/declared/internimage_model",
        "models/declared/plain_yolov8_model",
        "models/detector_networks",
        "models/detectors",
        "models/fpn",
        "models/internimage",
        "models/ultralytics_yaml",
        "models/yolov8",
        "run_request",
        "study/detecting",
        "study/downsampling",
        "study/upsampling",
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


# One word, one meaning. Each kernel's launcher has a _Call. It may shrink.
SHARED_NAMES = frozenset(["_Call"])


def test_a_class_name_stands_in_one_module():
    modules = {}
    for path in FILES:
        for node in nodes(path.read_text()):
            if isinstance(node, ast.ClassDef):
                modules.setdefault(node.name, set()).add(name_of(path))
    shared = {name: sorted(found) for name, found in modules.items() if len(found) > 1}
    assert set(shared) <= SHARED_NAMES, {name: found for name, found in shared.items() if name not in SHARED_NAMES}
    assert set(shared) == SHARED_NAMES, f"to be taken off the list: {sorted(SHARED_NAMES - set(shared))}"


def test_a_file_of_more_than_300_lines_says_why():
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > 300:
            said = " ".join((ast.get_docstring(ast.parse(text)) or "").split())
            assert "Longer than 300 lines because" in said, f"{path}: say why in its docstring, or split it"
