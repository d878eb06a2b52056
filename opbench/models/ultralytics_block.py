"""ultralytics' blocks of convolution, batch norm and activation once the convolution in them is something else.

`fuse()`, and so `predict()`, `val()` and `export()`, multiplies the batch norm into the weight of every block's
convolution, and adds up the parallel convolutions of a `RepConv`. What was swapped in has no such weight, and is not
linear: its batch norm has to stay, and the branches beside it.
"""

from __future__ import annotations

from torch import Tensor, nn

_MODULE = "ultralytics.nn.modules.conv"


class UnfusedConv(nn.Module):
    """x (N, C, H, W) -> act(bn(conv(x))): ultralytics' `Conv` under the same names, which `fuse` passes over."""

    conv: nn.Module
    bn: nn.Module
    act: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """As before the swap."""
        out: Tensor = self.act(self.bn(self.conv(x)))
        return out


class UnfusedTransposed(nn.Module):
    """x (N, C, H, W) -> act(bn(conv_transpose(x))): ultralytics' `ConvTranspose`, which `fuse` passes over."""

    conv_transpose: nn.Module
    bn: nn.Module
    act: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """As before the swap."""
        out: Tensor = self.act(self.bn(self.conv_transpose(x)))
        return out


class UnfusedRepConv(nn.Module):
    """x (N, C, H, W) -> act(conv1(x) + conv2(x) + bn(x)): ultralytics' `RepConv`, which `fuse` passes over."""

    conv1: nn.Module
    conv2: nn.Module
    bn: nn.Module | None
    act: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """As before the swap; there may be no `bn`."""
        branches = self.conv1(x) + self.conv2(x)
        out: Tensor = self.act(branches if self.bn is None else branches + self.bn(x))
        return out


# What a block whose forward is as above becomes, and the part that `fuse` would read the weight of; "": of any inside.
_UNFUSED: dict[str, tuple[type[nn.Module], str]] = {
    "Conv": (UnfusedConv, "conv"),
    "DWConv": (UnfusedConv, "conv"),
    "ConvTranspose": (UnfusedTransposed, "conv_transpose"),
    "RepConv": (UnfusedRepConv, ""),
}


def unfused(block: nn.Module, part: str, new: nn.Module) -> type[nn.Module] | None:
    """What a block becomes in which `new` took the place of `part` ("conv", "conv1.conv"), or None where `fuse` works.

    A block without its batch norm has been fused already.
    """
    kind = type(block)
    if kind.__module__ != _MODULE or kind.__name__ not in _UNFUSED or isinstance(new, nn.Conv2d | nn.ConvTranspose2d):
        return None
    becomes, read = _UNFUSED[kind.__name__]
    if read:
        return becomes if part == read and isinstance(getattr(block, "bn", None), nn.Module) else None
    return becomes if hasattr(block, "conv1") else None
