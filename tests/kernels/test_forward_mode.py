"""Forward-mode derivatives: right, or refused; torch alone would call them 0 without a word."""

import pytest
import torch
from torch.autograd import forward_ad

from opbench.kernels.cpu.sampling import sample
from opbench.operators.carafe import carafe
from opbench.operators.dcnv3 import dcnv3


def carafe_of(x, implementation):
    mask = torch.full((1, 9, 6, 6), 1 / 9, dtype=x.dtype)
    return carafe(x, mask, kernel_size=3, group_size=1, scale_factor=2, implementation=implementation)


def dcnv3_of(x, implementation):
    rows = x.permute(0, 2, 3, 1)
    offset, mask = torch.zeros(1, 3, 3, 36, dtype=x.dtype), torch.full((1, 3, 3, 18), 1 / 9, dtype=x.dtype)
    return dcnv3(rows, offset, mask, kernel_size=3, pad=1, group=2, implementation=implementation)


def sample_of(x, implementation):
    return sample(x.permute(0, 2, 3, 1), torch.zeros(1, 2, 2, 2))


@pytest.mark.parametrize("operator", [carafe_of, dcnv3_of, sample_of])
def test_the_cpu_kernels_refuse_a_tangent(operator):
    x = torch.randn(1, 4, 3, 3)
    with pytest.raises(NotImplementedError, match="_cpu: forward-mode derivatives are not implemented"):
        torch.func.jvp(lambda value: operator(value, "cpu"), (x,), (torch.ones_like(x),))
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="forward-mode"):
        operator(forward_ad.make_dual(x, torch.ones_like(x)), "cpu")


def sample_of(x, implementation):
    return sample(x.permute(0, 2, 3, 1), torch.zeros(1, 2, 2, 2))


@pytest.mark.parametrize("operator", [carafe_of, dcnv3_of, sample_of])
def test_a_call_beside_somebody_elses_tangent_is_a_call(operator):
    x = torch.randn(1, 4, 3, 3)
    with forward_ad.dual_level():
        assert operator(x, "cpu").isfinite().all()


def test_plain_torch_has_the_right_tangent():
    x, tangent = torch.randn(1, 4, 3, 3, dtype=torch.float64), torch.randn(1, 4, 3, 3, dtype=torch.float64)
    out, moved = torch.func.jvp(lambda value: carafe_of(value, "unfold"), (x,), (tangent,))
    step = 1e-6
    difference = (carafe_of(x + step * tangent, "unfold") - out) / step
    torch.testing.assert_close(moved, difference, rtol=1e-5, atol=1e-7)
