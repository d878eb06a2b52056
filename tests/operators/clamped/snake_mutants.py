"""Bugs planted in dynamic snake convolution's modules: classes with its constructor and parameters."""

import torch
from clamped_mutants import CORE_MUTANTS, GRADIENT_MUTANTS
from torch import nn

from opbench.operators.snake import DSConv, DySnakeConv


def with_core(core):
    """The block around a planted core."""

    class Planted(DySnakeConv):
        def __init__(self, inc, ouc, k=3):
            super().__init__(inc, ouc, k, implementation=core)

    # Found under this name in this file, it can be pickled: that it couldn't would convict it of something else.
    Planted.__name__ = Planted.__qualname__ = core.__name__
    Planted.__doc__ = core.__doc__
    return Planted


def with_snake(snake):
    """The block around planted snakes."""

    class Planted(DySnakeConv):
        def __init__(self, inc, ouc, k=3):
            super().__init__(inc, ouc, k)
            self.conv_x = snake(inc, ouc, k, morph=0)
            self.conv_y = snake(inc, ouc, k, morph=1)

    Planted.__name__ = Planted.__qualname__ = f"With{snake.__name__}"
    Planted.__doc__ = snake.__doc__
    return Planted


class NotAddedUp(DSConv):
    """Each sample swings off the straight line by its own offset alone."""

    def places(self, offset):
        k, middle = self.kernel_size, self.kernel_size // 2
        at = list(super().places(offset * 0))
        own = offset[:, :k] if self.morph == 0 else offset[:, k:]
        at[self.morph] = at[self.morph] + own * (torch.arange(k) != middle).to(own).view(k, 1, 1)
        return tuple(at)


class FromOneEnd(DSConv):
    """Swings add up from the first sample to the last."""

    def places(self, offset):
        k = self.kernel_size
        at = list(super().places(offset * 0))
        at[self.morph] = at[self.morph] + (offset[:, :k] if self.morph == 0 else offset[:, k:]).cumsum(1)
        return tuple(at)


class MiddleSwings(DSConv):
    """The middle swings, too."""

    def places(self, offset):
        k, middle = self.kernel_size, self.kernel_size // 2
        at = list(super().places(offset))
        own = offset[:, :k] if self.morph == 0 else offset[:, k:]
        at[self.morph] = at[self.morph] + own[:, middle : middle + 1]
        return tuple(at)


class EndsStayStraight(DSConv):
    """The last swing of either end is left out, as pasted."""

    def places(self, offset):
        k = self.kernel_size
        kept = torch.ones(2 * k, 1, 1)
        kept[[0, k - 1, k, 2 * k - 1]] = 0
        return super().places(offset * kept.to(offset))


class OtherDirectionsOffsets(DSConv):
    """Rows take the columns' offsets."""

    def places(self, offset):
        return super().places(offset.roll(self.kernel_size, 1))


class Mirrored(DSConv):
    """The other end of the snake gets a sample's swing."""

    def places(self, offset):
        k = self.kernel_size
        return super().places(torch.cat((offset[:, :k].flip(1), offset[:, k:].flip(1)), 1))


class Unbounded(DSConv):
    """Swings aren't bounded by tanh."""

    def places(self, offset):
        return super().places(torch.atanh(offset.clamp(-0.999, 0.999)))


class SwingsDetached(DSConv):
    """Swings are copies without a gradient."""

    def places(self, offset):
        return super().places(offset.detach())


class OtherActivation(DSConv):
    """SiLU for ReLU, as pasted."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.relu = nn.SiLU()


class OneGroup(DSConv):
    """All channels are normalised together."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.gn.num_groups = 1


class OffsetsOfOneGroup(DSConv):
    """All offsets are normalised together."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.gn_offset.num_groups = 1


class ViewsExchanged(DySnakeConv):
    """The snakes stand before the convolution."""

    def __init__(self, inc, ouc, k=3):
        super().__init__(inc, ouc, k)

    def forward(self, x):
        return self.conv_1x1(torch.cat((self.conv_x(x), self.conv_y(x), self.conv_0(x)), 1))


SNAKES = (
    NotAddedUp, FromOneEnd, MiddleSwings, EndsStayStraight, OtherDirectionsOffsets, Mirrored, Unbounded,
    OtherActivation, OneGroup, OffsetsOfOneGroup,
)  # fmt: skip
MODULES = {**{f"With{snake.__name__}": with_snake(snake) for snake in SNAKES}, "ViewsExchanged": ViewsExchanged}
# Of 3 samples each end has one swing, which is added to nothing.
NEEDS_FIVE = ("WithNotAddedUp",)
TRAINED = {"WithSwingsDetached": with_snake(SwingsDetached)}
# Those of places that are counted twice outside, or not, are LDConv's.
CORES = {core.__name__: with_core(core) for core in (*CORE_MUTANTS, *GRADIENT_MUTANTS)}
MUTANTS = {**CORES, **MODULES, **TRAINED}
globals().update(MUTANTS)
