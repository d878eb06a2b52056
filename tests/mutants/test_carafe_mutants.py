"""The properties convict every planted bug, and nothing that is right."""

from types import MethodType

import carafe_mutants
import pytest
from by_day import first_by_day, one_in
from carafe_module_mutants import MODULE_MUTANTS, RIGHT_FORWARDS
from carafe_mutants import MUTANTS
from carafe_recipe import RIGHT, after_backward
from falsify import falsify
from kills import lonely_and_idle, said

from opbench.build import build
from opbench.operators.carafe.relations import RELATIONS
from opbench.relations import Space
from opbench.schema import Case
from opbench.verify import gate

DTYPES = ("float32", "bfloat16", "float64")
# Most mutants fall to the first two, and what those let through to the next; the rest are tried for what is left.
FIRST = (
    "definition",
    "definition-gradients",
    "outside-taps",
    "inputs-unchanged",
    "repeatable",
    "repeatable-gradients",
    "fresh-output",
    "type-kept",
    "centre-is-nearest",
    "layouts",
    "huge-values",
    "empty-batch",
    "gradient-subsets",
    "fully-written",
    "gradient-layouts",
)
BY_NAME = sorted(RELATIONS, key=lambda relation: FIRST.index(relation.name) if relation.name in FIRST else len(FIRST))


def convicted_by(core, number):
    """The first relation that the core violates, with its dtype and what it says; None if there is none."""
    for relation in BY_NAME:
        for dtype in DTYPES:
            violation = falsify(relation, core, Space(dtype), number)
            if violation:
                return relation.name, dtype, str(violation)
    return None


@pytest.mark.parametrize("dtype", first_by_day(DTYPES))
@pytest.mark.parametrize("relation", RELATIONS, ids=lambda relation: relation.name)
@pytest.mark.parametrize("core", [RIGHT, after_backward()], ids=["right", "right backward"])
def test_the_unchanged_recipe_meets_every_relation(core, relation, dtype):
    assert falsify(relation, core, Space(dtype), number=3) is None


@pytest.mark.parametrize("name", one_in(6, MUTANTS))
def test_every_core_mutant_is_convicted(name, record_property):
    verdict = convicted_by(MUTANTS[name].function, number=10)
    record_property("mutant", ("CARAFE cores", verdict))
    assert verdict, f"{name} ({MUTANTS[name].description}) survives every relation"


def built(operator, dtype="float32"):
    dims = {"N": 2, "C": 4, "H": 5, "W": 4, "k_up": 3, "k_enc": 3, "c_mid": 3, "g": 2 if operator == "carafe" else 1}
    case = Case(
        task="upsample2x",
        workload="mutants",
        operator=operator,
        implementation="shift-add",
        dims=dims,
        dtype=dtype,
        device="cpu",
        mode="training",
    )
    return build(case)


def verdict_on(operator, forward, dtype="float32"):
    case = built(operator, dtype)
    expected = gate.reference(case)
    case.module.forward = MethodType(forward, case.module)
    return gate.check(case, expected)


@pytest.mark.parametrize("operator", RIGHT_FORWARDS)
def test_the_unchanged_module_passes_the_gate(operator):
    for dtype in DTYPES:
        verdict = verdict_on(operator, RIGHT_FORWARDS[operator], dtype)
        assert verdict.correct, verdict.reason


@pytest.mark.parametrize("name", one_in(3, MODULE_MUTANTS))
def test_every_module_mutant_is_convicted(name, record_property):
    mutant = MODULE_MUTANTS[name]
    verdict = verdict_on(mutant.operator, mutant.forward)
    record_property("mutant", ("CARAFE modules", None if verdict.correct else verdict.reason))
    assert not verdict.correct, f"{name} ({mutant.description}) passes the gate"


@pytest.mark.nightly
def test_every_relation_convicts_some_mutant(capsys):
    def convicts(relation, core, dtype):
        return falsify(relation, core, Space(dtype), number=5)

    lonely, idle = lonely_and_idle(MUTANTS, BY_NAME, DTYPES, convicts)
    with capsys.disabled():
        print("", *said("CARAFE cores", lonely, idle), sep="\n")
    assert None not in lonely.values()
    assert not idle


def test_mutants_are_attributes_to_be_named_on_the_command_line():
    for name, mutant in MUTANTS.items():
        assert getattr(carafe_mutants, name) is mutant.function
    with pytest.raises(AttributeError):
        carafe_mutants.no_such_mutant  # noqa: B018
