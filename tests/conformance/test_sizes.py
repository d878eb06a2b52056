"""A core that breaks at a size is convicted, and told by the size at which it does; right cores pass at every size."""

import dataclasses
import math
import re

import pytest
import torch
from in_process import CheckingHere

from opbench.conformance import check as checking
from opbench.conformance.check import check
from opbench.conformance.cores import relations
from opbench.conformance.findings import Request
from opbench.conformance.judging import prepare
from opbench.conformance.sizes import LADDER, NAME, alone, completed
from opbench.conformance.walking import WalkExtent, walk
from opbench.operators.carafe import IMPLEMENTATIONS
from opbench.operators.carafe.cores import shift_add
from opbench.operators.dcnv3.cores import CORES, gather
from opbench.relations import Space
from opbench.report.conformance import lines
from opbench.schema import OpbenchError

TABLES = {"carafe": IMPLEMENTATIONS, "dcnv3": CORES}
RIGHT = {"carafe": shift_add, "dcnv3": gather}
SHIPPED = [
    (operator, name)
    for operator, table in TABLES.items()
    for name, it in table.items()
    if not it.compiles and "cpu" in it.devices and it.missing() is None
]
# Without the options of which a planted core takes no notice.
PLAIN = {
    "carafe": Space(fixed={"scale_factor": 2, "group_size": 1}),
    "dcnv3": Space(fixed={"stride": 1, "dilation": 1, "group": 1, "offset_scale": 1.0, "remove_center": False}),
}
BOTH = pytest.mark.parametrize("operator", TABLES)


def relation(operator):
    return next(one for one in relations(operator) if one.name == NAME)


def output_alone(operator):
    whole = relation(operator)
    return dataclasses.replace(whole, check=whole.without_gradients)


def walked(operator, core, extent=None, space=None, what=relation, **limits):
    return walk(what(operator), core, space or Space(), extent=extent or WalkExtent(), seed=0, **limits)


def sizes_of(operator, *, x, kernel_size, **others):
    N, C, H, W = x.shape if operator == "carafe" else x.permute(0, 3, 1, 2).shape
    return {"N": N, "C": C, "H": H, "W": W, "k": kernel_size}


def breaking(operator, where):
    """The right core with its last element off wherever `where(sizes)`."""

    def core(**call):
        out = RIGHT[operator](**call)
        off = torch.zeros_like(out)
        off.view(-1)[-1] = where(sizes_of(operator, **call))
        return out + off

    return core


class Halved(torch.autograd.Function):
    """The identity, of whose gradient one half arrives."""

    @staticmethod
    def forward(context, value):
        return value.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient / 2


# --- planted ----------------------------------------------------------------------------------------------------

PLANTED = {
    "past 64 channels": (lambda at: at["C"] > 64, "right up to C = 64, wrong from C = 65; ", "C=65, H=1, W=1"),
    "from the third image on": (lambda at: at["N"] > 2, "right up to N = 2, wrong from N = 3; ", "N=3, C=1, H=1, W=1"),
    "for k = 9": (
        lambda at: at["k"] == 9,
        "right at kernel_size = 7, wrong at kernel_size = 9, right again at kernel_size = 11; ",
        "C=1, H=1, W=1, kernel_size=9",
    ),
    "for W a multiple of 16": (
        lambda at: at["W"] % 16 == 0,
        "right between and wrong at multiples of 16, W = 16, 32, 48; ",
        "H=1, W=16",
    ),
    "past 300 columns": (lambda at: at["W"] > 300, "right up to W = 300, wrong from W = 301; ", "H=1, W=301"),
}


@BOTH
@pytest.mark.parametrize("planted", PLANTED)
def test_a_core_that_breaks_at_a_size_is_told_by_it(operator, planted):
    where, limit, smallest = PLANTED[planted]
    extent = WalkExtent(thin=planted != "past 300 columns")
    finding = walked(operator, breaking(operator, where), extent, PLAIN[operator], output_alone).finding
    assert finding.message.startswith(limit + "smallest failing call N=")
    assert smallest in finding.message.partition(": output[")[0]
    assert where(sizes_of(operator, **finding.example.tensors, **finding.example.options))


@BOTH
def test_a_gradient_that_breaks_past_a_size_is_told_by_it(operator):
    def core(x, **others):
        deep = x.shape[1 if operator == "carafe" else 3] > 32
        return RIGHT[operator](x=Halved.apply(x) if deep else x, **others)

    message = walked(operator, core, space=PLAIN[operator]).finding.message
    assert message.startswith("right up to C = 32, wrong from C = 33; smallest failing call N=1, C=33, H=1, W=1")
    assert "gradient of x" in message
    assert walked(operator, core, what=output_alone).finding is None


@BOTH
def test_what_breaks_at_two_sizes_together_is_found_in_pairs(operator):
    core = breaking(operator, lambda at: at["C"] > 64 and at["k"] == 5)
    given = {"space": PLAIN[operator], "what": output_alone}
    assert walked(operator, core, **given).finding is None
    message = walked(operator, core, WalkExtent(paired=True), **given).finding.message
    assert "right up to C = 64, wrong from C = 65 and right at kernel_size = " in message
    assert "wrong at kernel_size = 5, right again at kernel_size = " in message


def test_a_core_that_is_always_wrong_has_no_limit():
    message = walked("carafe", breaking("carafe", lambda at: True)).finding.message
    assert message.startswith("smallest failing call N=1, C=1, H=1, W=1, kernel_size=1, group_size=1, scale_factor=1: ")


def test_a_call_of_the_caller_s_own_comes_first_and_is_told_by_its_limits():
    core = breaking("carafe", lambda at: at["C"] > 40 and at["W"] >= 30)
    shape = {"N": 2, "C": 48, "H": 6, "W": 37}
    message = walked("carafe", core, WalkExtent(shape=shape)).finding.message
    assert message.startswith(
        "right up to C = 40, wrong from C = 41 and right up to W = 29, wrong from W = 30; smallest failing call "
        "N=1, C=41, H=1, W=30, kernel_size=1, "
    )
    assert walked("carafe", shift_add, WalkExtent(shape=shape)).reached.startswith("tried as given, alone: all ")


# --- shipped ----------------------------------------------------------------------------------------------------


# By day the kernels, whose code tells sizes apart.
@pytest.mark.parametrize(
    ("operator", "name"),
    [pytest.param(*one, marks=[] if one[1] == "cpu" else [pytest.mark.nightly]) for one in SHIPPED],
)
def test_every_implementation_is_right_at_every_size(operator, name):
    done = walked(operator, TABLES[operator][name].function)
    assert done.finding is None
    assert not done.refusals
    assert done.reached.startswith("tried alone: all ")


@pytest.mark.nightly
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("operator", "name"), SHIPPED)
def test_every_implementation_is_right_on_the_whole_ladder_and_in_pairs(operator, name, dtype):
    extent = WalkExtent(thin=False, paired=True)
    done = walked(operator, TABLES[operator][name].function, extent, Space(dtype), seconds=180)
    assert done.finding is None


# --- from the command line ---------------------------------------------------------------------------------------

WRONG = """
from opbench.operators.carafe.cores import shift_add

def right(x, mask, *, kernel_size, group_size, scale_factor):
    return shift_add(x, mask, kernel_size=kernel_size, group_size=group_size, scale_factor=scale_factor)

def past_64(x, mask, **options):
    return right(x, mask, **options) * (1 + (x.shape[1] > 64))

def forward_past_2(x, mask, **options):
    return right(x, mask, **options).detach() * (1 + (x.shape[0] > 2))

"""


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    file = tmp_path_factory.mktemp("sizes") / "cores.py"
    file.write_text(
        WRONG.replace("mask, **options):", "mask, *, kernel_size, group_size, scale_factor):").replace(
            "**options)", "kernel_size=kernel_size, group_size=group_size, scale_factor=scale_factor)"
        )
    )
    return str(file)


def checked(target, name, **asked):
    """By this process: no other imports torch first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checking, "Child", CheckingHere)
        return check(Request(f"{target}:{name}", "carafe", only=(NAME,), quick=True, **asked))


def test_the_check_says_at_which_size_a_core_breaks(target):
    found = checked(target, "past_64")
    assert found.failing == (NAME,)
    assert found.results[0].message.startswith(
        "right up to C = 64, wrong from C = 65; smallest failing call N=1, C=65,"
    )
    assert found.results[0].counterexample.tensors["x"].shape == (1, 65, 1, 1)


def test_without_gradients_the_output_is_still_tried_at_every_size(target):
    (result,) = checked(target, "forward_past_2", forward_only=True).results
    assert result.message.startswith("right up to N = 2, wrong from N = 3; ")


def test_a_large_call_of_one_s_own_is_judged_by_its_ends_and_how_far_the_walk_got_is_said(target):
    found = checked(target, "right", shape="N=3,C=180,H=80,W=100", fix=("scale_factor=1", "kernel_size=1"))
    (result,) = found.results
    assert result.status == "holds"
    assert result.message.startswith("tried as given, its first and last image, alone: all ")
    assert ", in pairs: " in result.message
    assert f"{NAME} in float32: {result.message}" in lines(found, lambda only, dtype: "")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"shape": "N=8,X=3"}, "--shape: unknown size 'X'"),
        ({"shape": "N=8;C=3"}, "--shape N=8;C=3: "),
        ({"shape": "C=6", "fix": ("group_size=4",)}, "--shape C=6: there is no call of these sizes"),
        ({"shape": "kernel_size=4"}, "--shape kernel_size=4: there is no call of these sizes"),
        ({"shape": "N=0"}, "--shape N=0: expected "),
        ({"shape": "N=many"}, "--shape N=many: expected "),
    ],
)
def test_sizes_that_no_call_has_are_wrong_usage(target, asked, said):
    with pytest.raises(OpbenchError, match=re.escape(said)):
        prepare(Request(f"{target}:right", "carafe", **asked))


def test_a_module_is_tried_at_no_given_sizes():
    with pytest.raises(OpbenchError, match=re.escape("--shape: carafe (module) has no relation that is tried")):
        prepare(Request("opbench.operators.carafe:CARAFE", "carafe", shape="N=2"))


# --- the walk ---------------------------------------------------------------------------------------------------


@BOTH
def test_every_rung_is_climbed_alone_and_the_thinned_ones_first(operator):
    sizes = relation(operator).sizes
    thin, whole = (alone(sizes, {}, thin=thin) for thin in (True, False))
    assert whole[: len(thin)] == thin
    for name, rungs in sizes.rungs.items():
        assert set(rungs) <= {step.sizes[name] for step in whole}
    assert {"N", "C", "H", "W"} == {name for name, rungs in sizes.rungs.items() if rungs == LADDER}
    assert {4095, 4096, 65535, 65536} <= {math.prod(step.sizes[axis] for axis in "HW") for step in whole}


@BOTH
def test_what_is_fixed_stays_and_calls_fit_together(operator):
    sizes = relation(operator).sizes
    fixed = {"kernel_size": 5, "C": 6}
    steps = alone(sizes, fixed, thin=False)
    assert len(steps) > 60
    assert all(step.sizes["kernel_size"] == 5 and step.sizes["C"] == 6 for step in steps)
    groups = "group_size" if operator == "carafe" else "group"
    assert {step.sizes[groups] for step in steps} == {1, 2, 3}
    assert completed(sizes, fixed, {"C": 7}) is None


def test_a_walk_ends_when_its_time_is_up_and_says_how_far_it_got():
    done = walked("carafe", shift_add, WalkExtent(paired=True), seconds=0)
    assert done.reached.startswith("tried alone: 1 of ")
    assert re.search(r", in pairs: \d+ of ", done.reached)
    assert done.examples == 1


def test_options_that_a_core_refuses_are_passed_over():
    def core(x, mask, *, kernel_size, **others):
        if kernel_size > 5:
            raise ValueError(f"kernel_size: at most 5, got {kernel_size}")
        return shift_add(x, mask, kernel_size=kernel_size, **others)

    done = walked("carafe", core)
    assert done.finding is None
    assert {refused.options["kernel_size"] for refused in done.refusals} == {7, 9, 11, 13}
