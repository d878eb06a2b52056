"""ultralytics' block of a convolution, batch norm and activation once its convolution is something else.

`fuse()`, and so `predict()`, `val()` and `export()`, multiplies the batch norm into the weight of every block's
convolution. What was swapped in has no such weight, and is not linear: its batch norm has to stay.
"""

from __future__ import annotations

from torch import Tensor, nn

# Classes of `ultralytics.nn.modules.conv` that `fuse` folds and whose forward is act(bn(conv(x))).
_MODULE = "ultralytics.nn.modules.conv"
_NAMES = ("Conv", "DWConv")


class UnfusedConv(nn.Module):
    """x (N, C, H, W) -> act(bn(conv(x))): ultralytics' `Conv` under the same names, which `fuse` passes over."""

    conv: nn.Module
    bn: nn.Module
    act: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """As before the swap."""
        out: Tensor = self.act(self.bn(self.conv(x)))
        return out


def unfusable(block: nn.Module, child: str, new: nn.Module) -> bool:
    """Whether `fuse` would fail at a block of ultralytics in which `new` took the place of `child`."""
    if child != "conv" or isinstance(new, nn.Conv2d) or not isinstance(getattr(block, "bn", None), nn.Module):
        return False
    kind = type(block)
    return kind.__module__ == _MODULE and kind.__name__ in _NAMES
