"""Error bounds derived from definitions: what rounding does is within them, an error of size is not."""

import math

import pytest
import torch

from opbench.verify.bounds import EPS
from opbench.verify.rounding.arithmetic import Arithmetic, chance_factor
from opbench.verify.rounding.derive import derive
from opbench.verify.rounding.terms import rounding_terms
from opbench.verify.rounding.tracked import Tracked, Unanalysed, analysing

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def answers(function, names):
    """A function of named tensors, and the gradients of the sum of its squares by each of them."""

    def evaluate(given):
        leaves = {name: value.detach().requires_grad_() for name, value in given.items()}
        out = function(**leaves)
        gradients = torch.autograd.grad(out, list(leaves.values()), out.detach())
        return {"output": out.detach(), **dict(zip(names, gradients, strict=True))}

    return evaluate


def perceptron(x, w, v):
    hidden = torch.nn.functional.silu(x @ w)
    return torch.softmax(hidden @ v, -1) * hidden


def convolved(x, w, v):
    hidden = torch.nn.functional.conv2d(x, w, padding=1)
    normed = (hidden - hidden.mean((0, 2, 3), keepdim=True)) * torch.rsqrt(hidden.var((0, 2, 3), keepdim=True) + 1e-5)
    return torch.nn.functional.conv2d(torch.nn.functional.gelu(normed), v, padding=1)


FUNCTIONS = {
    "perceptron": (perceptron, {"x": normal(60, 48), "w": normal(48, 20, seed=1) / 7, "v": normal(20, 20, seed=2) / 4}),
    "convolved": (
        convolved,
        {"x": normal(2, 8, 9, 7), "w": normal(12, 8, 3, 3, seed=1) / 8, "v": normal(6, 12, 3, 3, seed=2) / 10},
    ),
}


def case(name, dtype):
    function, tensors = FUNCTIONS[name]
    rounded = {key: value.to(DTYPES[dtype]) for key, value in tensors.items()}
    evaluate = answers(function, tuple(tensors))
    given = {key: value.double() for key, value in rounded.items()}
    exact = evaluate(given)
    return evaluate, rounded, given, exact


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_a_dtype_commits_is_within_half_the_derived_bound_and_not_far_below(name, dtype):
    evaluate, rounded, given, exact = case(name, dtype)
    allowed = derive(evaluate, given, exact, dtype)
    got = evaluate(rounded)
    margins = {key: float(((got[key].double() - exact[key]).abs() / allowed[key].bound).max()) for key in exact}
    assert max(margins.values()) <= 0.55
    assert max(margins.values()) >= 0.05


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_step_through_bfloat16_is_beyond_a_float32_bound(name):
    evaluate, rounded, given, exact = case(name, "float32")
    allowed = derive(evaluate, given, exact, "float32")
    got = evaluate({**rounded, "w": rounded["w"].bfloat16().float()})
    assert float(((got["output"].double() - exact["output"]).abs() / allowed["output"].bound).max()) > 10


def test_a_sum_is_one_sum_however_it_is_written_down():
    a, b = normal(400, 72), normal(400, 72, seed=1)

    def whole(a, b):
        return (a * b).sum(1)

    def in_parts(a, b):
        out = a.new_zeros(400)
        for start in range(0, 72, 8):
            out = out + (a[:, start : start + 8] * b[:, start : start + 8]).sum(1)
        return out

    found = []
    for function in (whole, in_parts):

        def evaluate(given, function=function):
            return {"output": function(**given)}

        found.append(derive(evaluate, {"a": a, "b": b}, evaluate({"a": a, "b": b}), "float32")["output"].deviation)
    # The parts differ by the partial sums that were seen on the way.
    assert float((found[1] / found[0]).min()) > 0.99
    assert float((found[1] / found[0]).median()) < 1.5


def test_a_chain_of_additions_deviates_as_predicted():
    """One chain per sum, in float32: its root mean square error over sums with terms of random sign."""
    n = 576
    terms = normal(4000, n).float()
    chain = torch.zeros(4000)
    for i in range(n):
        chain = chain + terms[:, i]
    error = chain.double() - terms.double().sum(1)
    spread = Arithmetic.of("float32").summing(n, terms.double().sum(1).square(), terms.double().square().sum(1))
    share = float(error.square().mean() / spread.mean.mean())
    # A rounding is u of the power of two below the value, so its square is 0.54 of the model's on average.
    assert 0.45 < share < 0.65


def test_an_exact_operation_allows_its_own_rounding_alone():
    x = normal(50)
    evaluate = lambda given: {"output": given["x"].flip(0) * 2}  # noqa: E731
    allowed = derive(evaluate, {"x": x}, evaluate({"x": x}), "float32")["output"]
    assert not allowed.deviation.any()
    assert torch.allclose(allowed.bound, 1.25 * EPS["float32"] * evaluate({"x": x})["output"].abs(), rtol=1e-6)


def test_batch_statistics_take_error_away_rather_than_double_it():
    """Thirty normalisations over four elements each: their errors do not grow by a factor a layer."""

    def evaluate(given):
        value = given["x"]
        for _ in range(30):
            value = torch.nn.functional.batch_norm(value, None, None, training=True)
        return {"output": value}

    x = normal(4, 64)
    allowed = derive(evaluate, {"x": x}, evaluate({"x": x}), "float32")["output"]
    assert float(allowed.bound.max()) < 1e-4
    error = (evaluate({"x": x.float()})["output"].double() - evaluate({"x": x.float().double()})["output"]).abs()
    assert float((error / allowed.bound).max()) < 0.5


def test_a_saturated_function_passes_on_what_lies_beyond_its_flat_part():
    """A logit of -80 that may be off by 20 is a sigmoid of up to exp(-60), not of exp(-80) alone."""
    with analysing(Arithmetic.of("float32")):
        logit = Tracked(torch.tensor([-80.0], dtype=torch.float64))
        logit.spread = Arithmetic.of("float32").storing(torch.tensor([(5 / 3.44e-8) ** 2], dtype=torch.float64))
        out = torch.sigmoid(logit)
    assert float(out.spread.whole.sqrt() * 4) > math.exp(-62)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: torch.cumsum(x, 0), "there is no rule for aten.cumsum"),
        (lambda x: torch.softmax(x * 1e30 * 1e30, 0), "overflows the dtype"),
        (lambda x: torch.softmax(torch.where(x > 1, torch.inf, x), 0), "rounding is unbounded"),
        (lambda x: torch.sqrt((x * 0.3 - x * 0.3).abs()), "rounding is unbounded"),
        (
            lambda x: torch.nn.functional.batch_norm((1000 + x * 1e-5).view(10, 4), None, None, training=True),
            "of its size",
        ),
        (lambda x: x * 1e-40 * 1e30, "of its size"),
        (lambda x: (x - x.mean()) * 1e9 - (x - x.mean() + 1e-9) * 1e9, "of its size"),
    ],
)
def test_where_no_bound_can_be_derived_the_reason_and_what_was_used_instead_are_said(function, said):
    x = normal(40)

    def evaluate(given):
        return {"output": function(given["x"])}

    with pytest.raises(Unanalysed, match=said):
        derive(evaluate, {"x": x}, evaluate({"x": x}), "float32")
    _, basis = rounding_terms(evaluate, {"x": x}, evaluate({"x": x}), "float32", {})
    assert said in basis
    assert basis.endswith("held to the measured sensitivity instead")


def test_writing_into_a_part_is_followed():
    def evaluate(given):
        out = given["x"].new_zeros(20, 8)
        out[:, ::2] = given["x"] @ given["w"]
        out[:, 1::2] = 1.0
        return {"output": out}

    tensors = {"x": normal(20, 30), "w": normal(30, 4, seed=1)}
    allowed = derive(evaluate, tensors, evaluate(tensors), "float32")["output"]
    assert (allowed.deviation[:, ::2] > 0).all()
    assert not allowed.deviation[:, 1::2].any()


def test_an_alarm_of_one_in_a_million_needs_more_deviations_the_more_elements_there_are():
    assert chance_factor(1, 1e-6) == pytest.approx(5.39, abs=0.01)
    assert chance_factor(10**6, 1e-6) == pytest.approx(7.53, abs=0.01)
