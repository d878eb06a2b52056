"""What convicts and what doesn't: tiers, causes, and the verdict that they come to."""

import pytest
import torch
from hypothesis import strategies as st

from opbench.conformance.comparing import close, run
from opbench.conformance.findings import Conformance, Request, Result
from opbench.conformance.judging import prepare
from opbench.conformance.precision import FLOAT32_ONLY
from opbench.conformance.search import search
from opbench.operators.carafe.cores import shift_add
from opbench.operators.carafe.relations import RELATIONS
from opbench.relations import Example, Relation, Space
from opbench.report.conformance import conclusion, lines
from opbench.schema import OpbenchError, Terms

BY_NAME = {relation.name: relation for relation in RELATIONS}


def tried(core, name="definition", dtype="float32", examples=8):
    return search(BY_NAME[name], core, Space(dtype), examples=examples, seed=0, shrink_seconds=0.0)


def in_float32(x, mask, **options):
    return shift_add(x.float(), mask.float(), **options).to(x.dtype)


def in_half(x, mask, **options):
    return shift_add(x.bfloat16(), mask.bfloat16(), **options).to(x.dtype)


def test_float64_to_float32_s_precision_is_fragile_and_float32_to_less_is_wrong():
    done = tried(in_float32, dtype="float64")
    assert done.finding is None
    assert [one.cause for one in done.fragile] == [FLOAT32_ONLY]
    assert tried(in_half, dtype="float32").finding is not None
    assert tried(in_half, dtype="float64").finding is not None


def test_something_wrong_is_found_behind_what_is_fragile():
    def core(x, mask, **options):
        return in_float32(x, mask, **options) * (1.01 if options["scale_factor"] == 3 else 1)

    done = tried(core, dtype="float64", examples=30)
    assert done.finding is not None
    assert done.finding.cause == ""


def test_what_a_rarer_dtype_raises_is_fragile():
    def core(x, mask, **options):
        if x.dtype != torch.float32:
            raise RuntimeError("expected scalar type BFloat16 but found Float")
        return shift_add(x, mask, **options)

    done = tried(core, dtype="bfloat16")
    assert done.finding is None
    assert [one.cause for one in done.fragile] == ["raises on bfloat16 inputs"]
    assert tried(core).finding is None


def test_view_of_strided_memory_is_fragile_and_of_plain_memory_is_not():
    def views(x, mask, **options):
        x.view(len(x), -1)
        mask.view(len(x), -1)
        return shift_add(x, mask, **options)

    done = tried(views, "layouts", examples=20)
    assert done.finding is None
    assert [one.cause for one in done.fragile] == ["raises where memory isn't contiguous"]

    def raises(x, mask, **options):
        raise RuntimeError("view size is not compatible with input tensor's size and stride")

    assert tried(raises).finding is not None


def test_a_failed_assertion_is_a_refusal():
    def core(x, mask, **options):
        assert options["scale_factor"] != 3, "only 1, 2 and 4"
        return shift_add(x, mask, **options)

    done = tried(core, examples=20)
    assert done.finding is None
    assert {refused.options["scale_factor"] for refused in done.refusals} == {3}


def test_the_line_that_wants_another_device_is_named():
    def core(x, mask, **options):
        assert x.is_cuda
        return x

    with pytest.raises(OpbenchError, match=r"not judged: the target needs CUDA.*line \d+: assert x\.is_cuda"):
        tried(core)


@pytest.mark.parametrize(
    ("name", "tier"), [("outside-taps", "fragile"), ("empty-batch", "fragile"), ("groups", "wrong")]
)
def test_relations_of_extraordinary_calls_are_fragile(name, tier):
    assert BY_NAME[name].tier == tier


def test_half_sums_in_half_are_noted():
    def off(x):
        return x * (1 + 3 * 2.0**-7)

    def holds(core, example):
        expected = example.tensors["x"].double()
        close(run(core, example), expected, Terms(expected.clone(), 9), example, sides=1)

    def draws(space):
        return st.just(Example({"x": torch.ones(3, dtype=torch.bfloat16)}, {}))

    relation = Relation("identity", "bounded", "core(x) = x", holds, draws)
    done = search(relation, off, Space("bfloat16"), examples=1, seed=0)
    assert done.finding is None
    assert [one.cause for one in done.fragile] == ["sums bfloat16 inputs in less than float32"]
    assert not search(relation, lambda x: x.clone(), Space("bfloat16"), examples=1, seed=0).fragile


# --- The verdict --------------------------------------------------------------------------------------------------


def outcome(*results, **further):
    return Conformance(Request("my.py:core", "carafe", **further), "carafe (function)", results, (), "", (), 1.0)


def result(name, status="holds", dtype="float32", **further):
    return Result(name, f"what {name} states", dtype, status, **{"examples": 3, **further})


def test_verdicts():
    good, bad = result("definition"), result("groups", "fails", message="output[0]: expected 1, got 2")
    odd = result("outside-taps", "fails", message="output[0]: expected 0, got nan", tier="fragile")
    left = result("mirrors", "not-run", message="no time")
    assert outcome(good).verdict == "right"
    assert outcome(good, odd).verdict == "fragile"
    assert outcome(good, odd, bad).verdict == "wrong"
    assert outcome(left).verdict == "not judged"
    assert outcome(good, left).verdict == "not judged"
    assert outcome().verdict == "not judged"
    assert (outcome(good, odd).conformant, outcome(good, bad).conformant) == (True, False)
    assert conclusion(outcome(good, odd)) == "right, but fragile: core computes carafe; it breaks outside-taps"


def test_one_cause_is_told_once_and_what_is_wrong_first():
    names = ("definition", "groups", "mirrors")
    precise = [result(n, "fails", "float64", message="output[0]: expected 1, got 1", cause=FLOAT32_ONLY, tier="fragile")
               for n in names]  # fmt: skip
    wrong = [result(n, "fails", message=f"output[{i}]: expected 1, got 2") for i, n in enumerate(names)]
    told = lines(outcome(*precise, *wrong), lambda only, dtypes: f"{only} {dtypes}")
    assert told[0] == "wrong: core does not compute carafe: output[0]: expected 1, got 2"
    assert [line for line in told if line.startswith(("FAILS", "FRAGILE"))] == [
        "FAILS  definition, in float32",
        "FRAGILE  definition, in float64",
    ]
    assert told.count("  the same of: groups, mirrors") == 2


def test_a_later_dtype_is_reproduced_with_the_dtype_before_it():
    later = result("groups", "fails", "bfloat16", message="output[0]: expected 1, got 2")
    told = lines(outcome(result("groups"), later), lambda only, dtypes: f"{only} {dtypes}")
    assert "  reproduce: groups ('float32', 'bfloat16')" in told


def test_examples_that_the_time_cut_are_said():
    told = lines(outcome(result("groups", cut=9)), lambda only, dtypes: "")
    assert "fewer examples than planned, as the time was over: groups in float32 (3 of 12)" in told


# --- Modules that live on -----------------------------------------------------------------------------------------

MODULES = """
from opbench.operators.carafe import YoloCARAFE


class Fine(YoloCARAFE):
    def __init__(self, in_planes, out_planes, kernel_enc=3, kernel_up=5, mid_channels=64, up_factor=2):
        super().__init__(in_planes, kernel_enc, kernel_up, mid_channels, up_factor)

    def forward(self, x):
        return super().forward(x), "a tuple's first tensor is judged"


class Remembers(Fine):
    def forward(self, x):
        self.kept = getattr(self, "kept", {})
        return self.kept.setdefault(tuple(x.shape), super().forward(x)[0])


class Unpickled(Fine):
    def __init__(self, in_planes, out_planes):
        super().__init__(in_planes, out_planes)
        self.gate = lambda x: x


class Other(Fine):
    def __init__(self, in_planes, out_planes, flavour):
        super().__init__(in_planes, out_planes)
"""


@pytest.fixture(scope="module")
def living(tmp_path_factory):
    path = tmp_path_factory.mktemp("living") / "living_modules.py"
    path.write_text(MODULES)
    return path


@pytest.mark.parametrize(
    ("name", "broken"), [("Fine", set()), ("Remembers", {"calls-in-a-row"}), ("Unpickled", {"copies"})]
)
def test_an_instance_is_called_again_copied_and_pickled(living, name, broken):
    judged = prepare(Request(f"{living}:{name}", "carafe"))
    names = {"calls-in-a-row", "gradient-modes", "copies"}
    done = {
        one.name: search(one, judged.core, Space(fixed=judged.fixed), examples=3, seed=0, shrink_seconds=0.0)
        for one in judged.properties
        if one.name in names
    }
    assert {one for one, searched in done.items() if searched.finding is not None} == broken
    assert set(done) == names


def test_constructor_arguments_are_matched_by_meaning_and_what_can_t_be_is_asked_for(living):
    judged = prepare(Request(f"{living}:Fine", "carafe"))
    assert judged.judged_as == "yolo-carafe (module)"
    assert judged.core.names["k_up"] == "kernel_up"
    assert judged.core.names["scale"] == "up_factor"
    assert judged.core.tied == {"out_planes": "c"}
    with pytest.raises(OpbenchError, match="needs flavour: add --arg flavour=VALUE"):
        prepare(Request(f"{living}:Other", "carafe"))
