"""Relations and Hypothesis's draws in tests of one's own; what is importable, and when."""

import importlib.util
import subprocess
import sys

import pytest
from hypothesis import given, settings

import opbench.testing
from opbench.operators.carafe import IMPLEMENTATIONS
from opbench.schema import OpbenchError
from opbench.testing import Relation, assert_holds, calls, relations, run, same

right = IMPLEMENTATIONS["shift-add"].function


def dark(x, mask, **options):
    out = right(x, mask, **options).clone()
    out[..., -1] = 0
    return out


def doubled(core, example):
    same(run(core, example.replace(None, x=2 * example.tensors["x"])), 2 * run(core, example), example)


DOUBLED = Relation("doubled", "exact", "core(2x, mask) = 2 core(x, mask)", doubled, lambda space: calls("carafe"))


@pytest.mark.parametrize("name", opbench.testing.__all__)
def test_every_public_name_is_there(name):
    assert getattr(opbench.testing, name).__name__ == name
    assert getattr(opbench.testing, name).__doc__


def test_importing_it_loads_nothing_heavy():
    script = "import sys, opbench.testing; print([name for name in ('torch', 'pytest') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


@settings(max_examples=20)
@given(calls("carafe", kernel_size=3, H=4))
def test_calls_are_those_of_the_core_as_far_as_they_are_fixed(call):
    x, mask = call.tensors["x"], call.tensors["mask"]
    assert call.options["kernel_size"] == 3
    assert x.shape[2] == 4
    assert mask.shape[2] == 4 * call.options["scale_factor"]
    assert right(**call.tensors, **call.options).shape[1] == x.shape[1]


@pytest.mark.parametrize("relation", [relations("carafe")[0], DOUBLED], ids=lambda relation: relation.name)
def test_a_relation_holds_of_a_right_core(relation):
    assert_holds(relation, right, examples=10)


def test_a_relation_that_is_broken_fails_with_the_smallest_call():
    with pytest.raises(AssertionError) as caught:
        assert_holds(relations("carafe")[0], dark, fixed={"kernel_size": 1})
    said = str(caught.value)
    assert said.startswith("definition: output[0, 0, 0, ")
    assert "relation: core(inputs) = definition(inputs)" in said
    assert "with kernel_size=1, " in said
    assert "x (1, 1, 1, 1) float32 = [1]" in said


def test_a_core_that_refuses_everything_does_not_hold():
    def refuses(x, mask, **options):
        raise NotImplementedError("not today")

    with pytest.raises(AssertionError, match=r"doubled: nothing was tried: .*not today"):
        assert_holds(DOUBLED, refuses, examples=5)


def test_what_has_no_core_or_no_draws_is_said_in_a_sentence():
    with pytest.raises(OpbenchError, match="unknown core 'nearest'"):
        calls("nearest")
    with pytest.raises(OpbenchError, match="doesn't say what it draws"):
        assert_holds(Relation("undrawn", "exact", "", doubled), right)


def test_no_public_name_is_a_module_s():
    assert not [name for name in opbench.testing.__all__ if importlib.util.find_spec(f"opbench.testing.{name}")]
