"""Bugs planted in LDConv's module: classes with its constructor and parameters."""

import torch
from clamped_mutants import CORE_MUTANTS, GRADIENT_MUTANTS
from torch import nn

from opbench.operators.common.clamped.cores import gather
from opbench.operators.ldconv import LDConv


def with_core(core):
    """LDConv around a planted core."""

    class Planted(LDConv):
        def __init__(self, inc, outc, num_param, stride=1, bias=None):
            super().__init__(inc, outc, num_param, stride, bias, implementation=core)

    # Found under this name in this file, it can be pickled: that it couldn't would convict it of something else.
    Planted.__name__ = Planted.__qualname__ = core.__name__
    Planted.__doc__ = core.__doc__
    return Planted


class Centred(LDConv):
    """The samples lie round the pixel, not from it on."""

    def places(self, offset):
        rows, columns = super().places(offset)
        return rows - 1, columns - 1


class WithoutStride(LDConv):
    """Output pixels sample as if the stride were 1."""

    def places(self, offset):
        stride, self.stride = self.stride, 1
        found = super().places(offset)
        self.stride = stride
        return found


class ShapeTransposed(LDConv):
    """The samples go down before they go right."""

    def places(self, offset):
        rows, columns = self.p_n.clone().chunk(2, 1)
        kept, self.p_n = self.p_n, torch.cat((columns, rows), 1)
        found = super().places(offset)
        self.p_n = kept
        return found


class Interleaved(LDConv):
    """Offsets are read as pairs, not as all rows and then all columns."""

    def places(self, offset):
        return super().places(torch.cat((offset[:, ::2], offset[:, 1::2]), 1))


class Subtracted(LDConv):
    """Offsets are subtracted."""

    def places(self, offset):
        return super().places(-offset)


class WithoutOffsets(LDConv):
    """Offsets are left out."""

    def places(self, offset):
        return super().places(offset * 0)


class RoundedPlaces(LDConv):
    """Places are formed in the dtype of x."""

    def places(self, offset):
        low = offset.bfloat16()
        return tuple(at.bfloat16().to(at.dtype) for at in super().places(low.to(offset.dtype)))


class ClampedOnce(LDConv):
    """A clamped sample counts once, as one would expect."""

    def forward(self, x):
        rows, columns = self.places(self.p_conv(x))
        return self.conv[2](self.conv[1](gather(x, rows, columns, self.conv[0].weight.squeeze(3))))


class OtherActivation(LDConv):
    """ReLU for SiLU."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.conv[2] = nn.ReLU()


class BiasForgotten(LDConv):
    """The convolution's bias is left out."""

    def __init__(self, inc, outc, num_param, stride=1, bias=True):
        super().__init__(inc, outc, num_param, stride, bias)

    def forward(self, x):
        kept = self.conv[0]._parameters["bias"]
        self.conv[0]._parameters["bias"] = None
        out = super().forward(x)
        self.conv[0]._parameters["bias"] = kept
        return out


AT_STRIDE_1 = (
    Centred, ShapeTransposed, Interleaved, Subtracted, WithoutOffsets, RoundedPlaces, ClampedOnce, OtherActivation,
)  # fmt: skip
CORES = {core.__name__: with_core(core) for core in (*CORE_MUTANTS, *GRADIENT_MUTANTS)}
globals().update(CORES)
# By the name that the command line has for them.
MUTANTS = {**CORES, **{kind.__name__: kind for kind in (*AT_STRIDE_1, WithoutStride, BiasForgotten)}}
