"""`dysample`: the checked entry to every implementation of DySample's sampling."""

from __future__ import annotations

from torch import Tensor

from opbench.kernels.dysample_shapes import check, located_in
from opbench.operators.common.arguments import check_tensors
from opbench.operators.common.choice import Core
from opbench.operators.dysample.cores import CORES


def dysample(x: Tensor, offset: Tensor, *, scale: int, groups: int, implementation: str | Core = "auto") -> Tensor:
    """Samples x (N, C, H, W) at offset (N, 2*groups*scale**2, H, W), in pixels of x: (N, C, scale*H, scale*W).

    Child (a, b) of pixel (h, w), in channel block `group`, is x at row h + offset y, column w + offset x, bilinearly;
    beyond the image its border continues. Channels of offset are (x before y, group, a, b). Offsets of less than
    float32 are widened.

    `implementation` is "auto", a name in `CORES` or a callable with the core's signature. Raises TypeError or
    ValueError for what doesn't fit together, RuntimeError for an implementation that can't run here.

    >>> import torch
    >>> x = torch.arange(4.0).view(1, 1, 2, 2)
    >>> dysample(x, torch.zeros(1, 8, 2, 2), scale=2, groups=1)[0, 0]
    tensor([[0., 0., 1., 1.],
            [0., 0., 1., 1.],
            [2., 2., 3., 3.],
            [2., 2., 3., 3.]])

    Source: equations 1 to 5 of arXiv 2308.15085; order of channels of tiny-smart/dysample.
    """
    check_tensors("dysample", x=x, offset=offset)
    located = offset.to(located_in(x.dtype))
    check(x, located, scale, groups)
    core = CORES.choose(implementation, x.device.type)
    return core(x, located, scale=scale, groups=groups)
