"""A function of an operator that has no public core is judged in the place of the core in the operator's own module."""

from pathlib import Path

import pytest

from opbench.conformance.findings import Request
from opbench.conformance.judging import prepare
from opbench.conformance.search import search
from opbench.relations import Space
from opbench.schema import OpbenchError

FILE = Path(__file__).with_name("functions_in_place.py")


def prepared(name, operator, **asked):
    return prepare(Request(f"{FILE}:{name}", operator, **asked))


def found(name, operator, examples=4, **asked):
    """What the first relation of a module that fails says; None where they hold."""
    judged = prepared(name, operator, **asked)
    for relation in judged.properties[:3]:
        space = Space("float32", "cpu", judged.fixed)
        done = search(relation, judged.core, space, examples=examples, seed=0, shrink_seconds=0.0)
        if done.finding is not None:
            return done.finding.message
        assert done.examples, f"{relation.name}: {[refused.message for refused in done.refusals]}"
    return None


@pytest.mark.parametrize("name", ["right", "of_other_names"])
def test_a_right_function_is_right_under_whatever_names(name):
    judged = prepared(name, "dysample", fix=("in_channels=16",))
    assert judged.judged_as == "dysample (function, in its module)"
    assert ("s: taken for scale" in judged.notes) == (name == "of_other_names")
    assert found(name, "dysample", 2, fix=("in_channels=16", "style=lp")) is None


@pytest.mark.parametrize("name", ["axes_exchanged", "without_gradient"])
def test_a_wrong_function_is_convicted(name):
    assert found(name, "dysample", fix=("in_channels=16",)) is not None


def test_a_function_of_one_scale_is_judged_at_that_scale():
    with pytest.raises(OpbenchError, match=r"no argument scale .*add --fix scale=VALUE.*expected dysample\(x, offset,"):
        prepared("of_one_scale", "dysample")
    assert found("of_one_scale", "dysample", 2, fix=("scale=2", "in_channels=16", "style=lp")) is None


def test_a_core_without_a_definition_of_its_own_is_called_as_it_is():
    assert found("halves", "gsconv", 2) is None
    assert found("one_shuffle", "gsconv", 8, fix=("c2=12",)) is not None


def test_a_module_whose_core_can_not_be_exchanged_is_named():
    with pytest.raises(OpbenchError, match=r"--operator adown is a module: expected target .* like ADown, got"):
        prepared("right", "adown")
