"""Roundings drawn at random: they deviate as a dtype does, where the variances of `derive` can't say."""

import pytest
import torch

from opbench.verify.rounding.arithmetic import Arithmetic
from opbench.verify.rounding.simulate import simulate
from opbench.verify.rounding.sums import settled
from opbench.verify.rounding.tracked import Tracked, Unanalysed, analysing

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def drawn(function, x, dtype="float32", seed=0):
    with analysing(Arithmetic.of(dtype), torch.Generator().manual_seed(seed)):
        out = function(Tracked(x))
        return settled(out)[0] - function(x)


def of_layers(normed):
    """Six convolutions, each normalised over its pixels: a small network and the gradients of its weights."""
    weights = {f"w{place}": normal(12, 12, 3, 3, seed=place + 1) / 10 for place in range(6)}

    def evaluate(given):
        leaves = {name: value.detach().requires_grad_() for name, value in given.items()}
        out = leaves["x"]
        for name in weights:
            out = torch.nn.functional.conv2d(out, leaves[name], padding=1)
            out = torch.nn.functional.silu(normed(out))
        gradients = torch.autograd.grad(out, list(leaves.values()), out.detach())
        return {"output": out.detach(), **dict(zip(leaves, gradients, strict=True))}

    return evaluate, {"x": normal(1, 12, 6, 6), **weights}


def batch_norm(value):
    return torch.nn.functional.batch_norm(value, None, None, training=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_right_network_is_within_half_its_bound_and_not_far_below(dtype):
    evaluate, tensors = of_layers(batch_norm)
    rounded = {name: value.to(DTYPES[dtype]) for name, value in tensors.items()}
    given = {name: value.double() for name, value in rounded.items()}
    exact = evaluate(given)
    allowed = simulate(evaluate, given, exact, dtype, 6)
    got = evaluate(rounded)
    margins = {name: float(((got[name].double() - exact[name]).abs() / allowed[name].bound).max()) for name in exact}
    assert max(margins.values()) <= 0.5, margins
    assert max(margins.values()) >= 0.04, margins


def test_a_weight_through_bfloat16_is_beyond_a_float32_bound():
    evaluate, tensors = of_layers(batch_norm)
    given = {name: value.float().double() for name, value in tensors.items()}
    exact = evaluate(given)
    allowed = simulate(evaluate, given, exact, "float32", 6)
    got = evaluate({**given, "w3": given["w3"].bfloat16().double()})
    assert float(((got["output"] - exact["output"]).abs() / allowed["output"].bound).max()) > 10


def test_a_sum_deviates_as_its_spread_says():
    """Many sums of 400 products: the drawn errors' mean square is that of running error analysis."""
    x, w = normal(300, 400), normal(400, 300, seed=1)
    found = drawn(lambda x: x @ w.float().double(), x)
    with analysing(Arithmetic.of("float32")):
        stated = settled(Tracked(x) @ w.float().double())[1].mean
    assert float(found.square().mean()) == pytest.approx(float(stated.mean()), rel=0.05)


def test_a_copied_element_has_one_error():
    moved = drawn(lambda x: torch.exp(x).expand(50, -1) * 1.0, normal(7).unsqueeze(0))
    spread = drawn(lambda x: torch.exp(x).unsqueeze(0).expand(50, 1, 7)[:, 0] * 2.0, normal(7))
    assert moved.shape == spread.shape
    assert float(spread.std(0).max()) == 0.0
    assert float(spread.abs().max()) > 0


def test_a_cell_is_drawn_whole():
    """A cell's number, and one more, are integers: rounded ones would truncate into another cell."""

    def cells(x):
        right = torch.floor(x) + 1
        inside = (right >= 0) & (right < 2000)
        return torch.where(inside, right.long(), -1).double() + 0 * x

    x = normal(5000) * 300
    found = drawn(cells, x)
    assert float((found.abs() > 1e-3).double().mean()) < 0.01


def test_the_weights_of_a_cell_add_up_to_one_where_its_coordinate_was_rounded_across():
    x, image = torch.arange(1.0, 400.0, dtype=torch.float64), normal(500)

    def sampled(x):
        left = torch.floor(x)
        right = x - left
        return (1 - right) * image[left.long()] + right * image[(left + 1).long()]

    # A jump across the cell's edge would be of size 1.
    assert 0 < float(drawn(sampled, x).abs().max()) < 1e-3


def test_a_coordinate_is_as_uncertain_as_adding_it_up_makes_it():
    def located(x):
        torch.floor(x)
        return x

    found = drawn(located, normal(5000) * 300)
    assert 1e-6 < float(found.square().mean().sqrt()) < 1e-3


@pytest.mark.parametrize(("factor", "said"), [(1.9, True), (1.5, False)])
def test_overflow_is_said_a_factor_of_two_before_it_happens(factor, said):
    """Another order of a sum, or a scale kept apart, may overflow where the definition just doesn't: at 65,504."""
    x = torch.tensor([2e4], dtype=torch.float64)
    arguments = (lambda given: {"output": given["x"] * factor}, {"x": x}, {"output": x * factor}, "float16", 2)
    if said:
        with pytest.raises(Unanalysed, match="overflows the dtype"):
            simulate(*arguments)
    else:
        assert float(simulate(*arguments)["output"].bound) < 1e3
