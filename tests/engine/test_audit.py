"""Contenders that are right only when watched are found out between their timed blocks."""

import itertools
import random

import pytest
import torch

from opbench.engine.audit import FIRST, SHARE, Audit, Caught, disowned
from opbench.schema import Terms
from opbench.verify.bounds import judge as judged


class Clock:
    """Time passes only where a contender says so."""

    def __init__(self):
        self.time = 0.0

    def __call__(self):
        return self.time


def audit(work, clock=None, x=None):
    x = torch.arange(4096.0).reshape(64, 64) if x is None else x
    expected = {"output": 2 * x.double()}
    terms = {"output": Terms(2 * x.double().abs(), 4)}

    def judge(results):
        return judged({"output": results[0]}, expected, terms, "float32")

    return Audit(lambda: (work(x),), judge, [x], random.Random(0), clock or Clock())


def blocks(held, clock=None, count=12, calls=8, seconds=0.001):
    for _ in range(count):
        held.begin()
        for _ in range(calls):
            held.call()
            if clock is not None:
                clock.time += seconds
        held.end()


def test_an_honest_contender_passes():
    blocks(audit(lambda x: 2 * x))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_what_the_rounds_were_too_few_for_is_made_up_for(count):
    held = audit(lambda x: 2 * x)
    blocks(held, count=count)
    assert not held.complete
    tries = 0
    while not held.complete:
        held.begin()
        held.repeat()
        held.end()
        tries += 1
    assert tries <= 2 * FIRST


def test_garbage_between_the_checked_calls_is_found():
    calls = [0]

    def sometimes(x):
        calls[0] += 1
        return 2 * x if calls[0] % 8 == 0 else 3 * x

    with pytest.raises(Caught, match="in a timed call: output"):
        blocks(audit(sometimes))


def test_the_last_call_of_a_block_is_no_safer_to_be_right_in():
    held = audit(lambda x: 2 * x)
    picks = set()
    for _ in range(200):
        held.begin()
        picks.add(held._pick)
        for _ in range(4):
            held.call()
        held._done.clear()
        held.end()
    assert picks == {-1, 0, 1, 2, 3}  # in the first block nothing is known of how many calls it has


BY_VALUE = {
    "identity and version": lambda x: (id(x), x._version),
    "some of its values": lambda x: (x.data_ptr(), float(x.flatten()[7]), float(x.flatten()[11])),
    "all of its values": lambda x: tuple(x.flatten().tolist()),
}


@pytest.mark.parametrize("key", BY_VALUE.values(), ids=BY_VALUE)
def test_answers_from_memory_are_found_by_their_time(key):
    clock, memory = Clock(), {}

    def remembers(x):
        if key(x) not in memory:
            clock.time += 0.01
            memory[key(x)] = 2 * x
        return memory[key(x)].clone()

    with pytest.raises(Caught, match=r"answers from memory: a call takes .* on inputs that it has seen, 0.01 s on"):
        blocks(audit(remembers, clock), clock, seconds=1e-4)


def test_answers_that_ignore_the_values_are_found_by_being_the_same():
    memory = {}

    def remembers(x):
        if id(x) not in memory:
            memory[id(x)] = 2 * x
        return memory[id(x)].clone()

    with pytest.raises(Caught, match="other values in its inputs get the very same output"):
        blocks(audit(remembers))


def test_the_inputs_are_as_they_were():
    x = torch.arange(12.0).reshape(3, 4)
    held = audit(lambda x: 2 * x, x=x)
    blocks(held)
    assert torch.equal(x, torch.arange(12.0).reshape(3, 4))
    assert held._unseen


def test_a_block_that_is_not_timed_asks_with_other_values_in_its_midst():
    own, moved, asked = torch.arange(4096.0).reshape(64, 64), [], []

    def honest(x):
        asked.append(not torch.equal(x, own))
        moved.append(held.moved)
        return 2 * x

    held = audit(honest, x=own.clone())
    held._block = 50
    held._ask_in_a_block()
    assert len(asked) == 51, "the block, and the call right after it"
    assert asked == sorted(asked)
    assert asked[-1]
    assert all(moved), "no answer of such a block is one to the case's own values"
    assert torch.equal(held.inputs[0], own)


@pytest.mark.parametrize("seed", range(5))
def test_memory_that_holds_an_earlier_answer_is_no_answer(seed):
    """As where an output is left to be computed later, or never, in memory that a call before it has given back."""
    held = audit(lambda x: torch.arange(4096.0).reshape(64, 64) * 2 if busy[0] else 2 * x)
    busy = [True]
    held.draw, held._block = random.Random(seed), 8

    def block(calls):
        for _ in range(calls):
            held.call()
        busy[0] = False

    held.sample = block
    with pytest.raises(Caught, match="in a timed call: another answer than right after it"):
        held._ask_in_a_block()


class Promise(torch.Tensor):
    pass


def test_a_promise_is_no_output():
    with pytest.raises(Caught, match=r"the output is a Promise, expected a plain torch\.Tensor"):
        blocks(audit(lambda x: (2 * x).as_subclass(Promise)))


def test_a_buffer_that_is_used_again_is_no_output():
    buffer = torch.empty(64, 64)
    with pytest.raises(Caught, match="in the memory of an earlier call's output"):
        blocks(audit(lambda x: torch.mul(x, 2, out=buffer)))


@pytest.mark.parametrize("size", [2, 3])
def test_buffers_that_take_turns_are_no_outputs_either(size):
    buffers, clock = itertools.cycle([torch.empty(64, 64) for _ in range(size)]), Clock()
    with pytest.raises(Caught, match="in the memory of an earlier call's output"):
        blocks(audit(lambda x: torch.mul(x, 2, out=next(buffers)), clock), clock, count=200)


def test_a_view_of_an_input_is_no_output():
    x = torch.zeros(3, 4)
    assert disowned(x[1:], [x]) == "the output is a view of an input"
    assert disowned(x + 1, [x]) == ""


def test_audits_take_a_twentieth_of_the_time():
    clock = Clock()

    def slow(x):
        clock.time += 0.01
        return 2 * x

    held = audit(slow, clock)
    blocks(held, count=400)
    assert held._spent <= SHARE * held._timed + 0.05
    assert held._done.count("picked") > FIRST
    assert held._done.count("unseen") > FIRST
