"""Kinds of pasted modules that were once judged wrongly or not at all."""

import inspect
from pathlib import Path

import pasted_modules
import pytest
import torch

from opbench import registry
from opbench.conformance.cores import relations_of
from opbench.conformance.findings import Request
from opbench.conformance.inside.core import InsideCore
from opbench.conformance.inside.fakes import _nothing_meets
from opbench.conformance.inside.looking import look
from opbench.conformance.inside.thin import CAUSE, NAME, judged_apart
from opbench.conformance.inside.tracing import recorded
from opbench.conformance.judging import prepare
from opbench.conformance.promises.constructing import built
from opbench.conformance.promises.findings import PromiseRequest
from opbench.conformance.search import search
from opbench.operators.carafe.anatomy import ANATOMY as CARAFE
from opbench.operators.carafe.definition import reassembly
from opbench.operators.dysample.anatomy import ANATOMY as DYSAMPLE
from opbench.relations import Space
from opbench.schema import OpbenchError

FILE = Path(pasted_modules.__file__)


def looked(kind, operator, anatomy):
    takes = [name for name, one in inspect.signature(kind).parameters.items() if one.default is one.empty]

    def make(count):
        return kind(**dict.fromkeys(takes, count or 16))

    return look(kind.__name__, make, (16,), {operator: anatomy}, operator)


def test_a_module_that_its_first_call_builds_is_looked_into_from_its_second_on():
    inside = looked(pasted_modules.BuiltByItsFirstCall, "carafe", CARAFE)
    assert inside.kind == "right", inside.sentence
    assert isinstance(inside.core, InsideCore)
    options = {"kernel_size": 3, "group_size": 1, "scale_factor": 2}
    for dtype in (torch.float32, torch.float64):  # each has an instance of its own
        x, mask = torch.randn(2, 16, 4, 3, dtype=dtype), torch.rand(2, 9, 8, 6, dtype=dtype)
        torch.testing.assert_close(inside.core(x=x, mask=mask, **options), reassembly(x, mask, **options))


@pytest.mark.parametrize(("name", "fake"), [("SeparableUnderItsName", True), ("GatedBySigmoid", False)])
def test_a_row_of_plain_layers_is_a_fake_and_one_with_a_gate_is_not_known_to_be(name, fake):
    module = getattr(pasted_modules, name)(8, 8).eval()
    assert _nothing_meets(recorded(module, torch.randn(1, 8, 5, 6))) is fake


def test_d_in_and_d_out_are_channels():
    _, told, channels, _ = built(PromiseRequest(target=f"{FILE}:SeparableUnderItsName"))
    assert f"d_in={channels[0]}, d_out={channels[0]}" in told


def test_published_parameters_are_judged_with_channels_where_the_module_takes_them():
    judged = prepare(Request(f"{FILE}:ChannelsFirst", "dcnv3"))
    assert judged.judged_as == "dcnv3 (module, channels first)"
    tried = {one.name: one for one in judged.properties}
    for name in ("evaluation", "copies"):
        done = search(tried[name], judged.core, Space(fixed=judged.fixed), examples=1, seed=0, shrink_seconds=0.0)
        assert (done.finding, done.examples) == (None, 1)


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "FromCornerToCorner",
            "round pixels spread from corner to corner, and corners not aligned, with offsets in pixels",
        ),
        ("SquaresOnly", "its pixels end in other places of the image"),
    ],
)
def test_a_wrong_grid_is_named(name, said):
    inside = looked(getattr(pasted_modules, name), "dysample", DYSAMPLE)
    assert (inside.kind, said in inside.sentence) == ("wrong", True), inside.sentence


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (f"{FILE}:FirstPositionsCrossed", "buffer init_pos, as it is made: expected "),
        ("opbench.operators.dysample:DySample", None),
    ],
)
def test_a_constant_of_its_own_making_is_held_to_the_published_one(target, said):
    judged = prepare(Request(target, "dysample"))
    relation = next(one for one in judged.properties if one.name == "constants")
    done = search(relation, judged.core, Space(fixed=judged.fixed), examples=3, seed=0, shrink_seconds=0.0)
    assert (done.finding and said and done.finding.message.startswith(said)) if said else done.finding is None


def test_a_value_that_the_published_module_refuses_is_said_in_a_sentence():
    judged = prepare(Request(f"{FILE}:ActivationOfItsOwn", "eucb", fix=("activation=mine",)))
    relation = next(one for one in judged.properties if one.name == "evaluation")
    with pytest.raises(OpbenchError, match="EUCB is not defined at what is fixed: "):
        search(relation, judged.core, Space(fixed=judged.fixed), examples=1, seed=0)


@pytest.mark.nightly
def test_a_core_that_is_wrong_on_one_row_alone_is_fragile_and_judged_on_other_images():
    inside = looked(pasted_modules.WrongOnOneRow, "carafe", CARAFE)
    operator = registry.operator("carafe_core", "carafe")
    core, relations = judged_apart(inside.core, inside.found, relations_of(operator))
    told = relations[-1]
    assert (told.name, told.tier) == (NAME, "fragile")
    fixed = dict(inside.found.options)
    tried = {
        one.name: search(one, core, Space(fixed=fixed), examples=4, seed=0, shrink_seconds=0.0)
        for one in relations
        if one.name in (NAME, "definition", "repeatable")
    }
    assert [one.cause for one in tried[NAME].fragile] == [CAUSE]
    assert tried[NAME].fragile[0].message.startswith("output[")
    assert all(tried[name].finding is None and tried[name].examples == 4 for name in ("definition", "repeatable"))

    def wrong(**given):
        return 1.5 * inside.core(**given)

    assert judged_apart(wrong, inside.found, relations)[0] is wrong
