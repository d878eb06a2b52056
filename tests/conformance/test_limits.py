"""A limit is no verdict: a target hangs only while a call of it is outstanding, and only what is small convicts it."""

import os

import msgspec
import pytest
import torch
from hypothesis import strategies as st
from said_children import Handed, SaysNoMore

from opbench.commands.check import CheckRequest
from opbench.commands.check import check as command
from opbench.conformance import check as checking
from opbench.conformance.check import check
from opbench.conformance.findings import LARGE, SMALL, Counterexample, Limits, Request, Values
from opbench.conformance.messages import Calling, Planned, Returned, Started, TargetImported, TargetNext
from opbench.conformance.search import search
from opbench.relations import Example, Relation, Space
from opbench.report.conformance import conclusion
from opbench.schema import OpbenchError

SECONDS = 1.0
LIMITS = Limits(
    examples=1, further_examples=1, search_seconds=20.0, shrink_seconds=1.0, call_seconds=SECONDS,
    import_seconds=60.0, faults=9, hang_seconds=SECONDS,
)  # fmt: skip

STAND_INS = f"""
import time
import torch
from hypothesis import strategies as st
from opbench.conformance.oracle import answers
from opbench.relations import Example, Relation

def slow_definition(core, example):
    answers(core, example)
    time.sleep({2.5 * SECONDS})

def _of(name, check):
    draws = lambda space: st.just(
        Example({{"x": torch.ones(1), "mask": torch.ones(1)}}, {{"kernel_size": 1, "how": name}})
    )
    return Relation(name, "exact", f"{{name}}: core(x) = x", check, draws)

PROPERTIES = (_of("slow-definition", slow_definition), _of("backward-hangs", answers))
"""
TARGET = """
import time
import torch

class Slow(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        time.sleep(1000)

def core(x, mask, *, kernel_size, group_size=1, scale_factor=1, how=''):
    return Slow.apply(x) + 0 * mask if how == "backward-hangs" else x * mask
"""


def test_what_the_definition_takes_is_no_hang_but_a_backward_pass_of_the_target_s_may_be(tmp_path, monkeypatch):
    (tmp_path / "target.py").write_text(TARGET)
    (tmp_path / "stand_ins.py").write_text(STAND_INS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))
    target = f"{tmp_path / 'target.py'}:core"
    slow, hangs = check(
        Request(target, "carafe", dtypes=("float32",), properties="stand_ins:PROPERTIES"), LIMITS
    ).results
    assert (slow.property, slow.status) == ("slow-definition", "holds")
    assert (hangs.property, hangs.status) == ("backward-hangs", "hangs")
    assert hangs.message.startswith("hangs: killed after 1 s without a sign of life (the limit")
    assert hangs.message.endswith("had not ended; --timeout sets another limit")


def call_of(elements):
    return Calling(Counterexample({"x": Values((elements,), "float32", (1,))}, {}))


PLANNED = Planned("it", (("one", "float32"),), {"one": "it is"}, {"one": "wrong"}, ())


@pytest.mark.parametrize(
    ("after", "limits", "status", "said"),
    [
        ((call_of(SMALL),), LIMITS, "hangs", "killed after 1 s without a sign of life (the limit): a call, or"),
        ((call_of(SMALL + 1),), LIMITS, "not-run", f"after it, had not ended, of {SMALL + 1:,}"),
        ((call_of(SMALL),), msgspec.structs.replace(LIMITS, hang_seconds=2.0), "not-run", "of 16,384 elements"),
        ((call_of(LARGE + 1),), LIMITS, "not-run", "killed after 180 s"),
        ((call_of(1), Returned()), LIMITS, "not-run", "killed after 180 s without a sign of life (the limit): the"),
        ((), LIMITS, "not-run", "the definition was at work, no call of the target; --timeout sets another limit"),
    ],
    ids=("small", "larger", "a shorter limit than a hang's", "very large", "definition", "no call yet"),
)  # fmt: skip
def test_only_of_a_small_call_that_is_outstanding_is_a_limit_a_hang(tmp_path, monkeypatch, after, limits, status, said):
    (tmp_path / "mine.py").write_text("")
    child = SaysNoMore(TargetNext(), TargetImported(), PLANNED, Started("one", "float32"), *after)
    monkeypatch.setattr(checking, "Child", Handed(child))
    found = check(Request(f"{tmp_path / 'mine.py'}:core", "carafe"), msgspec.structs.replace(limits, faults=1))
    (result,) = found.results
    assert (result.status, said in result.message) == (status, True), result.message
    assert found.verdict == ("wrong" if status == "hangs" else "not judged")
    assert "killed after" in conclusion(found)


@pytest.mark.parametrize("operator", ["carafe", None])
def test_the_option_sets_the_limit_and_the_sentence_says_that_one_was_reached(tmp_path, operator):
    (tmp_path / "mine.py").write_text("import time; time.sleep(1000)")
    said = r"not judged: .*killed after 1 s without a sign of life \(the limit"
    with pytest.raises(OpbenchError, match=said):
        command(CheckRequest(target=f"{tmp_path / 'mine.py'}:core", operator=operator, timeout=1.0))


# --- what is outstanding when ---------------------------------------------------------------------------------------


def events_of(core, use):
    """What is told of one example, in order, beside what the relation and the core themselves note."""
    events = []

    def draws(space):
        return st.just(Example({"x": torch.ones(2, requires_grad=True)}, {}))

    relation = Relation("one", "exact", "", lambda called, example: use(called, example, events), draws)
    search(
        relation, lambda x: core(x, events), Space(), examples=1, seed=0,
        before_call=lambda call: events.append("begins"), after_call=lambda: events.append("ends"),
    )  # fmt: skip
    return events


def doubled(x, events):
    events.append("call")
    return 2 * x


def test_a_call_is_outstanding_until_it_returns_and_again_in_its_backward_pass():
    def use(core, example, events):
        out = core(example.tensors["x"])
        events.append("definition")
        out.sum().backward()
        events.append("definition")

    assert events_of(doubled, use) == ["begins", "call", "ends", "definition", "begins", "ends", "definition"]


def test_nothing_is_left_outstanding_by_a_pass_that_raises():
    class Raises(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            raise ValueError("no")

    def use(core, example, events):
        core(example.tensors["x"]).sum().backward()

    events = events_of(lambda x, events: Raises.apply(x), use)
    assert events[:4] == ["begins", "ends", "begins", "ends"]
    assert events.count("begins") == events.count("ends")
