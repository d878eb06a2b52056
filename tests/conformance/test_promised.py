"""A module in which no operator is found is convicted all the same of what no operator may do."""

import sys
from pathlib import Path

import pytest

from opbench.conformance import declared_kinds, promised
from opbench.conformance.findings import Request

PASTED = Path(__file__).parents[1] / "operators" / "clamped" / "pasted_snake.py"
sys.path.insert(0, str(PASTED.parent))

import pasted_snake  # noqa: E402


def fault(name, **asked):
    found = getattr(pasted_snake, name)
    (kind,) = declared_kinds.family("snake")
    return promised.fault(Request(f"{PASTED}:{name}", "snake", **asked), found, kind.supplied, name)


def test_each_fault_of_the_pasted_snake_is_named():
    sentence, statement = fault("DySnakeConv")
    assert sentence.startswith("DySnakeConv mixes the images of a batch in evaluation: image 1's output")
    assert "; and it leaves 12 parameters: conv_x.offset_conv.weight" in sentence
    assert statement.count(";") == 1


@pytest.mark.parametrize(("name", "said"), [("AllSampleImage0", "mixes the images"), ("UnusedBranch", "leaves 4 para")])
def test_a_fault_by_itself_is_the_only_one_named(name, said):
    sentence, statement = fault(name)
    assert sentence.startswith(f"{name} {said}")
    assert "; and it" not in sentence
    assert ";" not in statement


def test_an_argument_that_only_copies_have_is_supplied_unless_it_is_given():
    assert fault("DSConv")[0].startswith("DSConv mixes the images")
    assert promised.unset(pasted_snake.DSConv, {"morph": 0, "other": 1}) == {"morph": 0}
    assert promised.unset(pasted_snake.DSConv(4, 4, 0), {"morph": 0}) == {}
    given = ("morph=1", "in_ch=8", "out_ch=8")
    assert fault("DSConv", arguments=given)[0].startswith("DSConv mixes the images")


def test_without_gradients_images_are_still_kept_apart():
    assert "leaves" not in fault("DySnakeConv", forward_only=True)[0]
    assert fault("UnusedBranch", forward_only=True) == ("", "")


def test_a_module_that_breaks_no_promise_is_convicted_of_nothing():
    assert fault("Conv") == ("", "")
