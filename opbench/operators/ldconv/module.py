"""LDConv as a layer, channels first, and AKConv, the same under its earlier name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from opbench.operators.common.arguments import check_image, check_int
from opbench.operators.common.choice import Core
from opbench.operators.ldconv.cores import CORES
from opbench.operators.ldconv.definition import initial_shape


class LDConv(nn.Module):
    """x (N, inc, H, W) -> (N, outc, ceil(H/stride), ceil(W/stride)): linear deformable convolution, then norm and SiLU.

    A kernel of any number of samples: `num_param` of them an output pixel, displaced by offsets that a 3x3 convolution
    (`p_conv`) predicts, are convolved as one column (`conv.0`), normalised (`conv.1`) and go through SiLU. Source:
    LDConv, arXiv 2311.11587 (Image and Vision Computing 2024; AKConv before its journal version), and its repository,
    CV-ZhangXin/LDConv, whose newest model.py is the definition. As there, and unlike what a reader may expect:

    - the samples start at the pixel and lie below and to the right of it (the buffer `p_n`): they are not centred;
    - a place outside the image is clamped to it, and the sample counts twice for each axis on which it isn't in
      [0, size - 1): both corners of its cell are then the same pixel, with full weight each;
    - a fresh module's offsets are constant, but not 0: the weights of `p_conv` start at 0, its bias does not;
    - all offsets learn at the full rate: the published hook for a tenth of it changes nothing, and isn't here.

    Places are computed in float32 at least; the published code takes the dtype of x, whose steps from 128 px on are 1/8
    of a pixel in float16 and a whole one in bfloat16. State-dict keys are the published ones; weights that were saved
    before `p_n` was a buffer load, too.

    Raises ValueError for num_param or stride below 1, and in `forward` for an x that isn't (N, inc, H, W).
    `implementation` is a name from `opbench.operators.ldconv.CORES`, "auto", or a callable with the core's signature.
    """

    p_n: Tensor

    def __init__(
        self,
        inc: int,
        outc: int,
        num_param: int,
        stride: int = 1,
        bias: bool | None = None,
        *,
        implementation: str | Core = "auto",
    ) -> None:
        super().__init__()
        for name, value in (("inc", inc), ("outc", outc), ("num_param", num_param), ("stride", stride)):
            check_int(name, value, 1)
        self.num_param = num_param
        self.stride = stride
        self.implementation = implementation
        kernel = (num_param, 1)
        self.conv = nn.Sequential(
            nn.Conv2d(inc, outc, kernel, kernel, bias=bool(bias)), nn.BatchNorm2d(outc), nn.SiLU()
        )
        self.p_conv = nn.Conv2d(inc, 2 * num_param, 3, stride, 1)
        nn.init.zeros_(self.p_conv.weight)
        # Whole numbers, which no change of the module's dtype rounds.
        self.register_buffer("p_n", torch.tensor(initial_shape(num_param)).T.reshape(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """x (N, inc, H, W) -> (N, outc, ceil(H/stride), ceil(W/stride)). Raises ValueError for any other x."""
        convolution: Any = self.conv[0]
        check_image("LDConv", x, convolution.in_channels)
        offset = self.p_conv(x)
        rows, columns = self.places(offset)
        core = CORES.choose(self.implementation, x.device.type)
        out = core(x, rows, columns, convolution.weight.squeeze(3).to(x.dtype), twice=True)
        if convolution.bias is not None:
            out = out + convolution.bias.view(-1, 1, 1)
        result: Tensor = self.conv[2](self.conv[1](out))
        return result

    def places(self, offset: Tensor) -> tuple[Tensor, Tensor]:
        """offset (N, 2P, Ho, Wo) -> rows and columns of the samples in pixels of x, (N, P, Ho, Wo) each."""
        like: dict[str, Any] = {
            "dtype": torch.promote_types(offset.dtype, torch.float32),
            "device": offset.device,
        }
        height, width = offset.shape[2:]
        down = (torch.arange(height, **like) * self.stride).view(-1, 1)
        right = torch.arange(width, **like) * self.stride
        moved = offset.to(like["dtype"]) + self.p_n
        return moved[:, : self.num_param] + down, moved[:, self.num_param :] + right

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        """Weights from before `p_n` was a buffer have the plain shape, which is the one that is here."""
        state_dict.setdefault(f"{prefix}p_n", self.p_n)
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def extra_repr(self) -> str:
        """What its layers don't say."""
        return f"num_param={self.num_param}, stride={self.stride}, implementation={self.implementation!r}"


class AKConv(LDConv):
    """LDConv under the name that it had before (arXiv 2311.11587 version 1): the same function, keys and arguments."""


def shifts(module: LDConv, rows: Tensor, columns: Tensor) -> Tensor:
    """The offsets (N*Ho*Wo, 2P) in pixels that put samples at these places."""
    zero = rows.new_zeros(1, 2 * module.num_param, *rows.shape[2:])
    straight: Mapping[int, Tensor] = dict(enumerate(module.places(zero)))
    return torch.cat((rows - straight[0], columns - straight[1]), 1).movedim(1, -1).flatten(0, 2)
