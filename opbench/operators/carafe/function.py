"""`carafe`: the checked entry to every implementation of CARAFE's reassembly."""

from __future__ import annotations

from torch import Tensor

from opbench.operators.carafe.implementations import IMPLEMENTATIONS
from opbench.operators.common.arguments import check_centred, check_tensors, check_whole
from opbench.operators.common.choice import Core


def carafe(
    x: Tensor,
    mask: Tensor,
    *,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
    implementation: str | Core = "auto",
) -> Tensor:
    """Reassembles x (N, C, H, W) under mask (N, group_size*kernel_size**2, s*H, s*W) into (N, C, s*H, s*W).

    s is `scale_factor`. Output pixel (Y, X) is the sum of the kernel_size x kernel_size window of x around its parent
    (Y//s, X//s), weighted by the mask at (Y, X); taps outside the image contribute nothing, whatever the mask holds
    there. Mask channel (group*kernel_size + iy)*kernel_size + ix weights the tap at row iy, column ix for channel
    block `group`. No softmax is applied.

    `implementation` is "auto", a name in `IMPLEMENTATIONS` or a callable with the core's signature. Raises ValueError
    for settings or tensors that don't fit together, TypeError for what is no tensor, RuntimeError for an implementation
    that can't run here.

    >>> import torch
    >>> x = torch.arange(4.0).view(1, 1, 2, 2)
    >>> carafe(x, torch.ones(1, 1, 4, 4), kernel_size=1, group_size=1, scale_factor=2)[0, 0]
    tensor([[0., 0., 1., 1.],
            [0., 0., 1., 1.],
            [2., 2., 3., 3.],
            [2., 2., 3., 3.]])

    Source: equations 1-5 of the paper; channel order of its official package.
    """
    check_settings("carafe", kernel_size=kernel_size, group_size=group_size, scale_factor=scale_factor)
    _check_tensors(x, mask, kernel_size, group_size, scale_factor)
    core = IMPLEMENTATIONS.choose(implementation, x.device.type)
    return core(x, mask, kernel_size=kernel_size, group_size=group_size, scale_factor=scale_factor)


_CENTRED = ("kernel_size", "up_kernel", "k_up", "k_enc")


def check_settings(where: str, **settings: int) -> None:
    """Integers of at least 1; kernels that are centred on a pixel are odd."""
    for name, value in settings.items():
        check = check_centred if name in _CENTRED else check_whole
        check(where, **{name: value})


def _check_tensors(x: Tensor, mask: Tensor, kernel_size: int, group_size: int, scale_factor: int) -> None:
    check_tensors("carafe", x=x, mask=mask)
    if x.dim() != 4 or mask.dim() != 4:
        raise ValueError(
            f"carafe: expected x (N, C, H, W) and mask (N, group_size*kernel_size**2, s*H, s*W), "
            f"got x of shape {tuple(x.shape)} and mask of shape {tuple(mask.shape)}"
        )
    N, C, H, W = x.shape
    if C < 1 or H < 1 or W < 1:
        raise ValueError(f"carafe: expected x (N, C, H, W) with at least one channel and pixel, got {tuple(x.shape)}")
    if C % group_size:
        raise ValueError(
            f"carafe: expected the channels of x to be divisible by group_size, "
            f"got C={C} of x {tuple(x.shape)} and group_size={group_size}"
        )
    expected = (N, group_size * kernel_size**2, scale_factor * H, scale_factor * W)
    if mask.shape != expected:
        raise ValueError(
            f"carafe: expected mask of shape (N, group_size*kernel_size**2, scale_factor*H, scale_factor*W) = "
            f"{expected} for x of shape {tuple(x.shape)}, kernel_size={kernel_size}, group_size={group_size}, "
            f"scale_factor={scale_factor}; got {tuple(mask.shape)}"
        )
    if not x.is_floating_point() or x.dtype != mask.dtype:
        raise ValueError(
            f"carafe: expected x and mask of one floating dtype, got x {x.dtype} and mask {mask.dtype}: "
            f"convert one with .to()"
        )
    if x.device != mask.device:
        raise ValueError(f"carafe: expected x and mask on one device, got x on {x.device} and mask on {mask.device}")
