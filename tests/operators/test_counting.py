"""The operation that stands for a core where MACs are counted: its shapes, and nothing but zeros."""

import pytest
import torch

from opbench.operators.common.counting import formulas, of_all, of_each, of_x_and_others, zero_core

CALL = "zero_core_of_a_test(Tensor x, Tensor moves, int scale)"
count = zero_core(CALL, lambda x, moves, scale: x.new_empty(x.shape[0], scale * x.shape[1]))


def test_outputs_and_gradients_are_zeros_of_the_core_s_shapes():
    x, moves = torch.ones(2, 3, requires_grad=True), torch.ones(4, requires_grad=True)
    out = count(x, moves, scale=2)
    assert torch.equal(out, torch.zeros(2, 6))
    for gradient, of in zip(torch.autograd.grad(out.sum(), (x, moves)), (x, moves), strict=True):
        assert torch.equal(gradient, torch.zeros_like(of))


def test_it_is_one_operation_that_tells_which_gradients_are_wanted():
    called = []

    class Listening(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func.namespace == "opbench":
                called.append((func._schema.name, args[-1]))
            return func(*args, **(kwargs or {}))

    x, moves = torch.ones(2, 3, requires_grad=True), torch.ones(4)
    with Listening():
        count(x, moves, scale=2).sum().backward()
    assert called == [
        ("opbench::zero_core_of_a_test", 2),
        ("opbench::zero_core_of_a_test_backward", [True, False]),
    ]


def test_shapes_are_known_without_values_and_what_changes_none_is_passed_over():
    x, moves = torch.ones(2, 3, device="meta"), torch.ones(4, device="meta")
    assert count(x, moves, scale=3, implementation="auto").shape == (2, 9)
    rules = ("test_schema", "test_autograd_registration", "test_faketensor")
    given = (torch.ones(2, 3, requires_grad=True), torch.ones(4), 2)
    torch.library.opcheck(torch.ops.opbench.zero_core_of_a_test.default, given, test_utils=rules)


@pytest.mark.parametrize(
    ("backward", "expected"),
    [(of_all, (20, 20, 20, 20)), (of_each, (10, 20, 30, 0)), (of_x_and_others, (10, 10, 20, 0))],
)
def test_backward_counts_the_gradients_that_are_wanted_as_its_formula_says(backward, expected):
    count = formulas(lambda arguments: arguments[0] * arguments[1], lambda arguments: 0, "one", "two")
    assert sorted(count) == [f"opbench::{name}" for name in ("one", "one_backward", "two", "two_backward")]
    found = backward(count["opbench::two"])
    wanted = ((True, False, False), (False, True, True), (True, True, True), (False, False, False))
    assert tuple(found(["the output's gradient", 2, 5, one]) for one in wanted) == expected
