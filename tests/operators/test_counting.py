"""The operation that stands for a core where MACs are counted: its shapes, and nothing but zeros."""

import torch

from opbench.operators.common.counting import zero_core

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
