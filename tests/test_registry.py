"""The registry is filled from the operators' folders, in one order, and a folder that is wrong stops no other."""

import json
import subprocess
import sys
import textwrap

import pytest

from opbench import registry
from opbench.schema import OpbenchError

OPERATORS = """
from opbench.schema import Cost, Implementation, Operator
from opbench.tasks import image

OPERATORS = (
    Operator(
        name="{name}",
        task="upsample2x",
        title="nothing",
        source="a test",
        inputs=image,
        module=lambda dims, implementation: None,
        definition=lambda dims, tensors, training: tensors["x"],
        cost=lambda dims: Cost(0, 0, 0, 0),
        implementations={{"torch": Implementation("torch")}},
    ),
)
"""


OWN_TASK = (
    OPERATORS.format(name="own").replace("upsample2x", "a_slot")
    + """
from opbench.schema import Task

TASKS = (Task("a_slot", "a slot of its own", "own[torch]", ("N", "C", "H", "W")),)
"""
)


def told(script, *arguments):
    """What a script prints as JSON in a process of its own: a registry is filled once."""
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.fixture(scope="module")
def beside(tmp_path_factory):
    """A folder beside the built-in ones, with two that are right and six that are each wrong in another way; what a
    process knows that looks there.
    """
    folder = tmp_path_factory.mktemp("beside")
    files = {
        "right": OPERATORS.format(name="right"),
        "no_module": "import a_package_that_nobody_has",
        "no_python": "def",
        "nothing": "OPERATOR = None",
        "no_tuple": "OPERATORS = 3",
        "taken": OPERATORS.format(name="nearest"),
        "own_task": OWN_TASK,
        "no_tasks": "TASKS = [1]",
    }
    for name, text in files.items():
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(text)
    return folder, told(LOOKING, folder)


LOOKING = """
    import json, sys
    import opbench.operators
    from opbench import registry
    from opbench.schema import OpbenchError

    opbench.operators.__path__.append(sys.argv[1])

    known = list(registry.operators("upsample2x"))
    own = list(registry.operators("a_slot"))
    try:
        registry.operator("upsample2x", "no_module")
    except OpbenchError as error:
        said = str(error)
    print(json.dumps([known, list(registry.operators("conv3x3")), own, registry.broken(), said]))
"""


def test_a_wrong_folder_is_named_with_what_is_wrong_and_stops_no_other(beside):
    folder, (upsamplers, convolutions, own, broken, _) = beside
    assert upsamplers[:3] == ["carafe", "yolo-carafe", "nearest"]
    assert upsamplers[-1] == "right"
    assert convolutions[5] == "dcnv2"
    assert own == ["own"], "in a task that its folder declares"
    assert broken == {
        f"operators/{name}": f"operators/{name} {wrong}"
        for name, wrong in {
            "no_module": f"can't be loaded: ModuleNotFoundError at {folder}/no_module/__init__.py:1: "
            "No module named 'a_package_that_nobody_has'",
            "no_python": f"can't be loaded: SyntaxError at {folder}/no_python/__init__.py:1: "
            "invalid syntax (__init__.py, line 1)",
            "no_tuple": "can't be loaded: OPERATORS: expected a tuple of opbench.schema.Operator, got int",
            "no_tasks": "can't be loaded: TASKS: expected a tuple of opbench.schema.Task, got list",
            "nothing": "declares nothing: expected a tuple OPERATORS of opbench.schema.Operator",
            "taken": "can't be loaded: operator 'nearest' is declared twice in task 'upsample2x'",
        }.items()
    }


def test_who_asks_for_an_operator_of_a_wrong_folder_is_told(beside):
    _, (*_, error) = beside
    assert error.startswith("unknown operator of task 'upsample2x' 'no_module'")
    assert "operators/no_module can't be loaded: ModuleNotFoundError" in error


def test_nothing_that_is_built_in_is_broken_and_the_order_is_the_same_whatever_was_imported_first():
    listed = """
    import json
    {first}
    from opbench import registry
    orders = {{task: list(registry.operators(task)) for task in ("upsample2x", "conv3x3")}}
    print(json.dumps([registry.broken(), orders]))
    """
    first = "import opbench.operators.dcnv2, opbench.operators.spatial_attention, opbench.operators.dcnv3"
    (broken, *orders), later = (told(textwrap.dedent(listed).format(first=text)) for text in ("", first))
    assert broken == {}
    orders += later[1:]
    assert orders[0] == orders[1]
    assert orders[0]["conv3x3"][:6] == [
        "conv3x3",
        "depthwise3x3",
        "depthwise-separable",
        "dcnv3",
        "yolo-dcnv3",
        "dcnv2",
    ]


def test_a_user_s_file_may_declare_as_a_folder_does(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(OPERATORS.format(name="mine"))
    script = """
    import json, sys
    from opbench import registry
    registry.load_file(sys.argv[1])
    print(json.dumps([list(registry.operators("upsample2x"))[-1], sorted(registry.extensions())]))
    """
    assert told(script, file) == ["mine", [["upsample2x", "mine[torch]"]]]


@pytest.mark.parametrize("name", ["carafe", "dcnv3"])
def test_importing_an_operator_imports_nothing_that_checks_or_draws_it(name):
    script = f"""
    import json, sys
    import opbench.operators.{name}
    print(json.dumps([module for module in sys.modules if module.startswith("opbench.")]))
    """
    loaded = told(script)
    assert {name.split(".")[1] for name in loaded} == {
        "errors", "user_cache", "schema", "constructors", "process", "declarations", "registry", "tasks", "kernels",
        "operators",
    }  # fmt: skip
    assert not [name for name in loaded if name.endswith((".relations", ".show"))]


def test_the_options_of_an_implementation_are_its_fields():
    """What editors offer for `register_implementation` is what `Implementation` holds."""
    from dataclasses import fields

    from opbench.schema import Implementation, ImplementationOptions

    named = {field.name: field.type for field in fields(Implementation) if field.name not in ("name", "function")}
    assert ImplementationOptions.__annotations__.keys() == named.keys()
    assert {name: one.__forward_arg__ for name, one in ImplementationOptions.__annotations__.items()} == named


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(OpbenchError, match=r"carafe\[mine\]: unknown option 'device'; did you mean 'devices'\?"):
        registry.register_implementation("carafe_core", "carafe", "mine", device=("cpu",))


def test_a_file_that_declares_an_implementation_can_be_imported_by_a_script():
    loaded = told("""
    import json

    from opbench.registry import operator, register_implementation

    @register_implementation("carafe_core", "carafe", "mine")
    def mine(x, mask, **settings): ...

    print(json.dumps(["mine" in operator("carafe_core", "carafe").implementations]))
    """)
    assert loaded == [True]
