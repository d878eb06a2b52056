"""The properties convict every bug planted in DCNv3, forward, backward and in the module, and nothing that is right."""

from dataclasses import replace

import dcnv3_gradient_mutants
import dcnv3_mutants
import pytest
from by_day import first_by_day, one_in
from dcnv3_gradient_mutants import GRADIENT_MUTANTS
from dcnv3_module_mutants import MODULE_MUTANTS, Module
from dcnv3_mutants import MUTANTS
from dcnv3_sampler import RIGHT
from falsify import falsify
from kills import lonely_and_idle, said

from opbench import registry
from opbench.build import build
from opbench.operators.dcnv3.conv3x3 import MODULE
from opbench.operators.dcnv3.module_definition import dcnv3_module_definition
from opbench.operators.dcnv3.relations import RELATIONS
from opbench.relations import Space
from opbench.schema import Case
from opbench.verify import gate

CORES = {**MUTANTS, **GRADIENT_MUTANTS}
# Most faults show in float32, the others in the dtype they are about.
DTYPES = ("float32", "bfloat16", "float64")
RAISED = (AssertionError, IndexError, RuntimeError, TypeError, ValueError)
# What most mutants fall to, and then what convicts those that it lets through; the rest is tried for what is left.
FIRST = ("definition", "definition-gradients", "offsets-not-finite")
BY_NAME = sorted(RELATIONS, key=lambda relation: FIRST.index(relation.name) if relation.name in FIRST else len(FIRST))


def convicts(relation, core, dtype, number):
    """What the relation has against the core; code that raises is wrong too."""
    try:
        return falsify(relation, core, Space(dtype), number)
    except RAISED as error:
        return error


def convicted_by(core, number):
    """A relation that the core violates, and in which dtype; None if there is none.

    One example of each comes before many: most bugs that the first let through show in it.
    """
    for relations, examples in ((BY_NAME[: len(FIRST)], number), (BY_NAME, 1), (BY_NAME, number)):
        for relation in relations:
            for dtype in DTYPES:
                if convicts(relation, core, dtype, examples):
                    return relation.name, dtype
    return None


@pytest.mark.parametrize("dtype", first_by_day(DTYPES))
@pytest.mark.parametrize("relation", RELATIONS, ids=lambda relation: relation.name)
def test_the_unchanged_sampler_meets_every_relation(relation, dtype):
    assert falsify(relation, RIGHT, Space(dtype), number=2) is None


@pytest.mark.parametrize("name", one_in(6, CORES))
def test_every_core_mutant_is_convicted(name, record_property):
    verdict = convicted_by(CORES[name].function, number=8)
    record_property("mutant", ("DCNv3 cores", verdict))
    assert verdict, f"{name} ({CORES[name].description}) survives every relation"


# --- Modules ----------------------------------------------------------------------------------------------------


def verdict_on(module, monkeypatch):
    """The gate's verdict on a class of modules with center_feature_scale, trained for one step at drawn parameters."""

    def definition(dims, tensors, training):
        x = tensors["x"].permute(0, 2, 3, 1)
        return dcnv3_module_definition(x, tensors, group=dims["G"], center_feature_scale=True).permute(0, 3, 1, 2)

    def made(dims, implementation):
        return module(dims["C"], group=dims["G"], center_feature_scale=True, implementation=implementation.function)

    def cost(dims):
        """With the blend's GC + G parameters."""
        plain = MODULE.cost(dims)
        return replace(plain, params=plain.params + dims["G"] * (dims["C"] + 1))

    operator = replace(MODULE, module=made, definition=definition, cost=cost)
    monkeypatch.setattr(registry, "operator", lambda task, name: operator)
    case = Case(
        task="conv3x3",
        workload="mutants",
        operator="dcnv3",
        implementation="gather",
        dims={"N": 2, "C": 6, "H": 5, "W": 4, "G": 2},
        dtype="float32",
        device="cpu",
        mode="training",
        spread=1.0,
    )
    built = build(case)
    return gate.check(built, gate.reference(built))


def test_the_unchanged_module_passes_the_gate(monkeypatch):
    verdict = verdict_on(Module, monkeypatch)
    assert verdict.correct, verdict.reason


@pytest.mark.parametrize("name", one_in(6, MODULE_MUTANTS))
def test_every_module_mutant_is_convicted(name, monkeypatch, record_property):
    mutant = MODULE_MUTANTS[name]
    verdict = verdict_on(mutant, monkeypatch)
    record_property("mutant", ("DCNv3 modules", None if verdict.correct else verdict.reason))
    assert not verdict.correct, f"{name} ({mutant.__doc__}) passes the gate"


# --- The whole table --------------------------------------------------------------------------------------------


@pytest.mark.nightly
def test_every_relation_convicts_some_mutant(capsys):
    lonely, idle = lonely_and_idle(CORES, RELATIONS, DTYPES, lambda *tried: convicts(*tried, number=6))
    with capsys.disabled():
        print("", *said("DCNv3 cores", lonely, idle), sep="\n")
    assert None not in lonely.values()
    assert not idle


def test_mutants_are_attributes_to_be_named_on_the_command_line():
    for module, mutants in ((dcnv3_mutants, MUTANTS), (dcnv3_gradient_mutants, GRADIENT_MUTANTS)):
        for name, mutant in mutants.items():
            assert getattr(module, name) is mutant.function
