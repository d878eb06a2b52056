"""Dynamic snake convolution as layers, channels first: one snake, and the block of three views of the image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from opbench.operators.common.arguments import check_image, check_int
from opbench.operators.common.block import NormedConv
from opbench.operators.common.choice import Core
from opbench.operators.common.clamped.cores import CORES


class DSConv(nn.Module):
    """x (N, in_channels, H, W) -> (N, out_channels, H, W): a snake, that is a line of samples that swings to one side.

    `kernel_size` samples lie in a row, one pixel apart, along x (`morph` 0) or along y (`morph` 1). A 3x3 convolution
    with group norm and tanh predicts by how much each swings off its neighbour nearer the middle, at most by
    `extend_scope` pixels; swings add up from the middle, which stays, to either end. So a kernel follows a thin
    structure and never comes apart. Samples are convolved, normalised (group norm of 4 channels a group) and go through
    ReLU. Places outside the image are clamped to it. `if_offset=False` leaves the line straight.

    Source: Qi et al., ICCV 2023, arXiv 2307.08388, section 3.1, and the newest version in its repository,
    YaoleiQi/DSCNet (`S3_DSConv_pro.py`, DSConv_pro), of which arguments and keys are. Differences, none of which
    changes its function:

    - the convolution of the other direction isn't built: never called, it gets no gradient, which data parallel
      training refuses. Published weights load, and what they hold of it is passed over;
    - places are computed in float32 at least; there is no `device`: tensors are made where the input is.

    Half of what the offsets' convolution predicts (k channels of the other direction) is unused, as there. An image of
    one row or column works; the published one divides by zero.

    Raises ValueError for an even kernel_size or 1, for out_channels that don't split into out_channels // 4 groups, for
    a morph other than 0 and 1, and in `forward` for an x that isn't (N, in_channels, H, W). `implementation` is a name
    from `opbench.operators.snake.CORES`, "auto", or a callable with the core's signature.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 4,
        kernel_size: int = 9,
        extend_scope: float = 1.0,
        morph: int = 0,
        if_offset: bool = True,
        *,
        implementation: str | Core = "auto",
    ) -> None:
        super().__init__()
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels), ("kernel_size", kernel_size)):
            check_int(name, value, 1)
        reason = unfit(out_channels, kernel_size)
        if reason:
            raise ValueError(reason)
        if morph not in (0, 1):
            raise ValueError(f"morph: expected 0 (along x) or 1 (along y), got {morph!r}")
        self.kernel_size = kernel_size
        self.extend_scope = extend_scope
        self.morph = int(morph)
        self.if_offset = if_offset
        self.implementation = implementation
        self.offset_conv = nn.Conv2d(in_channels, 2 * kernel_size, 3, padding=1)
        self.gn_offset = nn.GroupNorm(kernel_size, 2 * kernel_size)
        if self.morph == 0:
            self.dsc_conv_x = nn.Conv2d(in_channels, out_channels, (kernel_size, 1), (kernel_size, 1))
        else:
            self.dsc_conv_y = nn.Conv2d(in_channels, out_channels, (1, kernel_size), (1, kernel_size))
        self.gn = nn.GroupNorm(out_channels // 4, out_channels)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """x (N, in_channels, H, W) -> (N, out_channels, H, W). Raises ValueError for any other x."""
        check_image("DSConv", x, self.offset_conv.in_channels)
        rows, columns = self.places(torch.tanh(self.gn_offset(self.offset_conv(x))))
        convolution: nn.Conv2d = self.dsc_conv_x if self.morph == 0 else self.dsc_conv_y
        core = CORES.choose(self.implementation, x.device.type)
        out = core(x, rows, columns, convolution.weight.flatten(2).to(x.dtype))
        assert convolution.bias is not None
        result: Tensor = self.relu(self.gn(out + convolution.bias.to(out.dtype).view(-1, 1, 1)))
        return result

    def places(self, offset: Tensor) -> tuple[Tensor, Tensor]:
        """offset (N, 2k, H, W), the rows' before the columns' -> rows and columns of the samples, (N, k, H, W) each."""
        k, middle = self.kernel_size, self.kernel_size // 2
        like: dict[str, Any] = {"dtype": torch.promote_types(offset.dtype, torch.float32), "device": offset.device}
        own = (offset[:, :k] if self.morph == 0 else offset[:, k:]).to(like["dtype"])
        if not self.if_offset:
            own = torch.zeros_like(own)
        before = own[:, :middle].flip(1).cumsum(1).flip(1)
        swing = torch.cat((before, torch.zeros_like(own[:, :1]), own[:, middle + 1 :].cumsum(1)), 1)
        swing = swing * self.extend_scope
        height, width = offset.shape[2:]
        rows, columns = torch.arange(height, **like).view(-1, 1), torch.arange(width, **like)
        steps = torch.arange(-middle, middle + 1, **like).view(-1, 1, 1)
        straight = torch.zeros_like(swing)
        if self.morph == 0:
            return swing + rows, straight + (columns + steps)
        return straight + (rows + steps), swing + columns

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        """The published module has a convolution of the other direction, too, that it never calls."""
        for part in ("weight", "bias"):
            state_dict.pop(f"{prefix}dsc_conv_{'yx'[self.morph]}.{part}", None)
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def extra_repr(self) -> str:
        """What its layers don't say."""
        return f"kernel_size={self.kernel_size}, morph={self.morph}, implementation={self.implementation!r}"


class DySnakeConv(nn.Module):
    """x (N, inc, H, W) -> (N, ouc, H, W): a convolution, a snake along x and a snake along y, side by side, then fused.

    Three views of ouc channels each: `conv_0`, k x k with batch norm and SiLU; `conv_x` and `conv_y` (`DSConv`). A 1x1
    convolution with batch norm and SiLU (`conv_1x1`) makes ouc channels of them. The paper's network joins the three in
    the same way, with a 3x3 convolution behind; YOLO forks, whose signature and key prefixes these are, use the 1x1
    one, here or after the module (`fuse=False` returns the 3*ouc channels). Their snake is another one: see the page on
    this operator.

    Raises ValueError as DSConv does. `implementation` is that of both snakes.
    Source: Qi et al., ICCV 2023, arXiv 2307.08388, sections 3.1 and 3.2.
    """

    def __init__(
        self, inc: int, ouc: int, k: int = 3, *, fuse: bool = True, implementation: str | Core = "auto"
    ) -> None:
        super().__init__()
        for name, value in (("inc", inc), ("ouc", ouc), ("k", k)):
            check_int(name, value, 1)
        reason = unfit(ouc, k, "ouc", "k")
        if reason:
            raise ValueError(reason)
        self.conv_0 = NormedConv(inc, ouc, k)
        self.conv_x = DSConv(inc, ouc, k, morph=0, implementation=implementation)
        self.conv_y = DSConv(inc, ouc, k, morph=1, implementation=implementation)
        self.conv_1x1 = NormedConv(3 * ouc, ouc, 1) if fuse else nn.Identity()

    @property
    def implementation(self) -> str | Core:
        """That of both snakes."""
        return self.conv_x.implementation

    @implementation.setter
    def implementation(self, chosen: str | Core) -> None:
        self.conv_x.implementation = self.conv_y.implementation = chosen

    def forward(self, x: Tensor) -> Tensor:
        """x (N, inc, H, W) -> (N, ouc, H, W). Raises ValueError for any other x."""
        check_image("DySnakeConv", x, self.conv_x.offset_conv.in_channels)
        out: Tensor = self.conv_1x1(torch.cat((self.conv_0(x), self.conv_x(x), self.conv_y(x)), 1))
        return out


def unfit(outputs: int, kernel_size: int, channels: str = "out_channels", kernel: str = "kernel_size") -> str:
    """Why there is no snake of so many output channels and samples, in a sentence; "" where there is one."""
    if kernel_size % 2 == 0 or kernel_size < 3:
        return f"{kernel}: expected an odd number of at least 3, got {kernel_size}: a snake has a middle and two ends"
    if outputs < 4 or outputs % (outputs // 4):
        return f"{channels}: expected a multiple of 4, the width of a group of its norm, got {outputs}"
    return ""
