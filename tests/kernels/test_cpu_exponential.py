"""The CPU kernels' exponential."""

import math

import pytest
import torch
import torch.nn.functional as F

from opbench.kernels.cpu import jit
from opbench.kernels.cpu.launch import launch

EPS = {torch.float64: 2.0**-52, torch.float32: 2.0**-23}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_exponential_is_e_to_the_power(dtype):
    """From 0 to where it is 0, subnormal numbers among them, and what is no number."""
    least = -110.0 if dtype == torch.float32 else -760.0
    x = torch.cat(
        [torch.linspace(least, 0, 4001, dtype=torch.float64), torch.tensor([-0.0, -math.inf, math.nan, -1e38])]
    )
    x = F.pad(x, (0, -len(x) % 16)).to(dtype)
    out = torch.empty_like(x)
    name = str(dtype).removeprefix("torch.")
    launch(jit.kernel("emitted", "powers", name), [x.data_ptr(), out.data_ptr()], tasks=1, scratch_bytes=0, work=0)
    expected = x.double().exp()
    assert out.isnan().equal(expected.isnan())
    smallest = torch.finfo(dtype).smallest_normal * EPS[dtype]
    error = (out.double() - expected).nan_to_num().abs()
    assert (error <= 2 * EPS[dtype] * expected.nan_to_num() + 2 * smallest).all()
    assert out[x == 0].equal(torch.ones_like(out[x == 0]))
