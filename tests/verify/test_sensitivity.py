"""The perturbed definition as an error bound: what a correct module commits fits in, what a wrong one does not."""

import pytest
import torch

from opbench.schema import Terms
from opbench.verify.bounds import judge
from opbench.verify.sensitivity import sensitivity


def attention(x, w):
    """A function with a sum, a softmax and cancellation: no plain sum of terms."""
    scores = torch.softmax(x @ w, dim=-1)
    return (scores - 1 / scores.shape[-1]) @ w.T


def evaluate_attention(tensors):
    return {"output": attention(tensors["x"], tensors["w"])}


def terms_of(dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    kind = getattr(torch, dtype)
    x = torch.randn(50, 40, generator=generator, dtype=torch.float64).to(kind)
    w = torch.randn(40, 30, generator=generator, dtype=torch.float64).div(6).to(kind)

    tensors = {"x": x.double(), "w": w.double()}
    exact = evaluate_attention(tensors)
    return x, w, exact, sensitivity(evaluate_attention, tensors, exact, dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("seed", range(5))
def test_the_function_in_its_own_dtype_is_within_the_bound(dtype, seed):
    x, w, exact, terms = terms_of(dtype, seed)
    assert judge({"output": attention(x, w)}, exact, terms, dtype).correct


@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16])
def test_a_narrower_type_inside_is_beyond_the_bound(narrow):
    x, w, exact, terms = terms_of("float32")
    shortcut = attention(x.to(narrow), w.to(narrow)).float()
    assert not judge({"output": shortcut}, exact, terms, "float32").correct


def test_a_scale_error_of_one_in_a_thousand_is_beyond_the_bound():
    x, w, exact, terms = terms_of("float32")
    assert not judge({"output": attention(x, w) * 1.001}, exact, terms, "float32").correct


def test_a_plain_sum_gets_about_the_root_of_its_squared_terms():
    values = torch.rand(2000, 16, generator=torch.Generator().manual_seed(100), dtype=torch.float64)

    def evaluate(tensors):
        return {"output": tensors["values"].sum(1)}

    tensors = {"values": values}
    terms = sensitivity(evaluate, tensors, evaluate(tensors), "bfloat16")["output"]
    assert isinstance(terms, Terms)
    # Every operand moves by eps * u, u uniform in [-1, 1], of standard deviation 1/sqrt(3).
    predicted = (values.square().sum(1) / 3).sqrt()
    measured = terms.total.square().mean().sqrt() / predicted.square().mean().sqrt()
    assert 1.3 < measured < 1.55  # sqrt(2): the element's own estimate pooled with the tensor's


def interpolate(tensors):
    """Linear interpolation of a row at x, and its derivative in x, which jumps at whole x."""
    x, row = tensors["x"], torch.tensor([0.0, 1.0, 5.0, 2.0], dtype=tensors["x"].dtype)
    left = torch.floor(x.detach())
    index = left.long().clamp(0, 2)
    slope = row[index + 1] - row[index]
    return {"output": row[index] + (x - left) * slope, "x": slope}


def test_at_a_kink_either_one_sided_derivative_is_right():
    tensors = {"x": torch.tensor([1.0, 1.5, 2.0 - 1e-7, 2.0 - 1e-3, 0.5, 2.5], dtype=torch.float64)}
    exact = interpolate(tensors)
    terms = sensitivity(interpolate, tensors, exact, "float32")
    # Slopes 1, 4 and -3 meet at 1 and at 2; twice the jump is allowed.
    assert terms["x"].slack.tolist() == [6.0, 0.0, 14.0, 0.0, 0.0, 0.0]
    assert terms["output"].slack.max() < 1e-4  # the value itself is continuous


def test_a_definition_without_kinks_has_no_slack():
    *_, terms = terms_of("float32")
    assert terms["output"].slack is None


def test_a_coordinate_may_be_rounded_by_the_size_of_the_image():
    # Coordinate 0.5 in an image that reaches to 2.5: rounded by a share of 2.5, times the slope of 1.
    tensors = {"x": torch.tensor([0.5, 2.5] * 200, dtype=torch.float64)}
    terms = sensitivity(interpolate, tensors, interpolate(tensors), "float32")["output"]
    assert terms.total[0] > 0.5 * 2.5 * 0.4
