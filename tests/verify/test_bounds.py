"""The error bound from both sides: right answers stay within it, shortcuts don't."""

import math

import pytest
import torch

from opbench.schema import Terms
from opbench.verify.bounds import EPS, coefficient, judge

DTYPES = ["float32", "bfloat16", "float16", "float64"]


def dot(dtype, n, seed=0):
    """A sum of n products in float64 from rounded operands, and its terms."""
    generator = torch.Generator().manual_seed(seed)
    kind = getattr(torch, dtype)
    a = torch.randn(400, n, generator=generator, dtype=torch.float64).to(kind)
    b = torch.randn(400, n, generator=generator, dtype=torch.float64).to(kind)
    products = a.double() * b.double()
    return a, b, {"output": products.sum(1)}, {"output": Terms(products.abs().sum(1), n)}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 9, 25, 600])
def test_a_sum_taken_term_by_term_in_its_own_dtype_is_within_the_bound(dtype, n):
    a, b, expected, terms = dot(dtype, n)
    total = torch.zeros(400, dtype=a.dtype)
    for i in range(n):
        total = total + a[:, i] * b[:, i]
    if dtype == "float64":  # the reference itself is rounded to float64
        expected = {"output": torch.tensor([math.fsum(row) for row in (a * b).tolist()], dtype=torch.float64)}
    verdict = judge({"output": total}, expected, terms, dtype)
    assert verdict.correct, verdict.reason
    assert verdict.judged == 400


@pytest.mark.parametrize("n", [1, 9, 25, 600, 2304])
@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16])
def test_a_float32_sum_through_a_narrower_type_is_beyond_the_bound(n, narrow):
    a, b, expected, terms = dot("float32", n)
    shortcut = (a.to(narrow).double() * b.to(narrow).double()).sum(1).float()
    verdict = judge({"output": shortcut}, expected, terms, "float32")
    assert not verdict.correct
    assert "rounding explains" in verdict.reason


def test_the_coefficient_is_two_root_n_plus_two():
    assert coefficient(1) == 4
    assert coefficient(25) == 12


def test_the_worst_element_is_named():
    expected = {"output": torch.ones(2, 3, dtype=torch.float64)}
    terms = {"output": Terms(torch.ones(2, 3, dtype=torch.float64), 1)}
    got = torch.ones(2, 3)
    got[1, 2] = 1.5
    verdict = judge({"output": got}, expected, terms, "float32")
    assert not verdict.correct
    assert verdict.worst.index == (1, 2)
    assert (verdict.worst.expected, verdict.worst.got) == (1.0, 1.5)
    assert verdict.reason.startswith("output[1, 2]: expected 1, got 1.5")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_non_finite_element_is_infinitely_far_out(value):
    expected = {"output": torch.ones(4, dtype=torch.float64)}
    got = torch.ones(4)
    got[2] = value
    verdict = judge({"output": got}, expected, {"output": Terms(expected["output"], 1)}, "float32")
    assert not verdict.correct
    assert verdict.worst_ratio == math.inf
    assert verdict.worst.index == (2,)


def test_slack_is_allowed_on_top():
    expected = {"output": torch.zeros(1, dtype=torch.float64)}
    terms = {"output": Terms(torch.ones(1, dtype=torch.float64), 1, slack=torch.full((1,), 0.5, dtype=torch.float64))}
    assert judge({"output": torch.tensor([0.5])}, expected, terms, "float32").correct
    assert not judge({"output": torch.tensor([0.51])}, expected, terms, "float32").correct


def test_results_below_the_normal_range_may_be_flushed_to_zero():
    tiny = torch.tensor([1.0, 2.0**-140], dtype=torch.float64)
    verdict = judge({"output": torch.tensor([1.0, 0.0])}, {"output": tiny}, {"output": Terms(tiny, 1)}, "float32")
    assert verdict.correct, verdict.reason


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "got None"),
        ((torch.ones(3),), "got tuple"),
        (torch.ones(3, 1), "expected shape (3,), got (3, 1)"),
        (torch.ones(3, dtype=torch.float64), "expected dtype float32, got float64"),
        (torch.zeros(3), "all zero where the definition is not"),
    ],
)
def test_what_is_no_answer_at_all_is_named(value, said):
    expected = {"output": torch.full((3,), 1e-30, dtype=torch.float64)}
    terms = {"output": Terms(torch.ones(3, dtype=torch.float64), 1)}
    verdict = judge({"output": value}, expected, terms, "float32")
    assert not verdict.correct
    assert said in verdict.reason


def test_a_missing_gradient_is_incorrect():
    expected = {"output": torch.ones(1, dtype=torch.float64), "x": torch.ones(1, dtype=torch.float64)}
    terms = {name: Terms(value, 1) for name, value in expected.items()}
    verdict = judge({"output": torch.ones(1)}, expected, terms, "float32")
    assert verdict.reason == "x: expected a tensor of shape (1,), got None"


def test_eps_is_the_spacing_at_one():
    for name, eps in EPS.items():
        assert torch.finfo(getattr(torch, name)).eps == eps
