"""The search: what it convicts of, what it lets pass, and how small it makes the evidence."""

import pytest
import torch
from hypothesis import strategies as st

from opbench.conformance.comparing import run, same
from opbench.conformance.search import search
from opbench.relations import Example, Relation, Space
from opbench.schema import OpbenchError


def draws(space):
    """x of up to 6 ones, and the option times."""

    def example(size, times):
        return Example({"x": torch.ones(size, dtype=getattr(torch, space.dtype))}, {"times": times})

    return st.builds(example, st.integers(1, 6), st.integers(1, 5))


def is_a_product(core, example):
    same(run(core, example), example.tensors["x"] * example.options["times"], example)


PRODUCT = Relation("product", "exact", "core(x, times) = times x", is_a_product, draws)


def attempt(core, **options):
    return search(PRODUCT, core, Space(), **{"examples": 60, "seed": 0, **options})


def right(x, times):
    return x * times


def test_a_right_core_is_acquitted_after_all_examples():
    done = attempt(right)
    assert done.finding is None
    assert 30 <= done.examples <= 60  # all that there are: 6 sizes, 5 factors
    assert len(done.accepted) == 5


def test_a_wrong_core_is_convicted_on_the_smallest_example_that_shows_it():
    done = attempt(lambda x, times: x * (times + (times > 2 and x.numel() > 3)))
    assert done.finding.message == "output[0]: expected 3, got 4"
    assert done.finding.statement == PRODUCT.statement
    assert done.finding.example.options == {"times": 3}
    assert done.finding.example.tensors["x"].shape == (4,)


def test_the_same_seed_gives_the_same_calls():
    def calls(seed):
        seen = []

        def core(x, times):
            seen.append((x.numel(), times))
            return x * times

        attempt(core, seed=seed, examples=10)
        return seen

    assert calls(1) == calls(1)
    assert calls(1) != calls(2)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TypeError("no such thing\nsecond line"), "raised TypeError: no such thing (test_search.py, line"),
        (ValueError("the weather is bad"), "raised ValueError: the weather is bad"),
        (SystemExit(3), "raised SystemExit: 3"),
        (KeyboardInterrupt(), "raised KeyboardInterrupt"),
        (MemoryError(), "floods memory: raised MemoryError"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "floods memory: raised RuntimeError"),
    ],
)
def test_what_a_core_raises_is_a_finding_that_names_it(error, said):
    def core(x, times):
        if x.numel() > 1:
            raise error
        return x * times

    finding = attempt(core).finding
    assert finding.message.startswith(said)
    assert "second line" not in finding.message
    assert finding.example.tensors["x"].shape == (2,)


@pytest.mark.parametrize(
    "error",
    [
        NotImplementedError("not yet"),
        ValueError("times must be odd"),
        RuntimeError("\"mul\" not implemented for 'Half'"),
    ],
)
def test_an_option_that_is_refused_is_put_aside_and_no_fault(error):
    def core(x, times):
        if times % 2 == 0:
            raise error
        return x * times

    done = attempt(core)
    assert done.finding is None
    assert {refusal.options["times"] for refusal in done.refusals} == {2, 4}
    assert {options["times"] for options in done.accepted} == {1, 3, 5}
    assert str(error) in done.refusals[0].message


def test_a_refusal_does_not_hide_a_wrong_answer_elsewhere():
    def core(x, times):
        if times == 2:
            raise NotImplementedError
        return x * times + (times == 4)

    assert attempt(core).finding.example.options == {"times": 4}


def test_a_core_that_refuses_everything_has_answered_nothing():
    def core(x, times):
        raise NotImplementedError("nothing works")

    done = attempt(core)
    assert (done.finding, done.examples) == (None, 0)
    assert done.refusals[0].message == "NotImplementedError: nothing works"


def test_a_core_that_is_wrong_only_at_times_is_convicted_as_such():
    calls = []

    def core(x, times):
        calls.append(0)
        return x * times + (len(calls) == 7)

    assert attempt(core).finding.message.endswith("not every time: the same call, repeated, was right")


@pytest.mark.parametrize("out", [None, (torch.ones(1),), 3.0])
def test_what_is_no_tensor_is_named(out):
    assert attempt(lambda x, times: out).finding.message == f"output: expected a tensor, got {type(out).__name__}"


def test_a_tensor_elsewhere_is_named():
    message = attempt(lambda x, times: (x * times).to("meta")).finding.message
    assert message == "output: expected it on cpu, where the inputs are, got it on meta"


def test_a_core_that_needs_cuda_is_wrong_usage_here():
    def core(x, times):
        raise AssertionError("Torch not compiled with CUDA enabled")

    with pytest.raises(OpbenchError, match="the target needs CUDA"):
        attempt(core)


def test_a_search_ends_when_its_time_is_up_but_tries_one_example():
    done = attempt(right, seconds=0)
    assert done.finding is None
    assert done.examples == 1


def test_shrinking_ends_when_its_time_is_up():
    done = attempt(lambda x, times: x * 0, shrink_seconds=0)
    assert done.finding.message.startswith("output[0]: expected")


def test_nothing_to_draw_is_nothing_found():
    empty = Relation("empty", "exact", "", is_a_product, lambda space: st.nothing())
    done = search(empty, right, Space(), examples=5, seed=0)
    assert (done.finding, done.examples, done.refusals) == (None, 0, ())


def test_every_call_is_announced_before_it_is_made():
    announced = []

    def core(x, times):
        assert len(announced) == core.calls + 1
        core.calls += 1
        return x * times

    core.calls = 0
    attempt(core, before_call=announced.append)
    assert announced[0].options["times"] in range(1, 6)
