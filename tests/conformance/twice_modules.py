"""CARAFE modules whose gradients can be differentiated again, and one whose can't; written for the tests."""

import torch
import torch.nn.functional as F
from torch import nn

from opbench.operators.carafe import CARAFE
from opbench.operators.carafe.cores import unfold


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return grad.clone()


class Published(CARAFE):
    pass


class OnceDifferentiable(CARAFE):
    def forward(self, x):
        return _Once.apply(super().forward(x))


class Inside(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.narrow = nn.Conv2d(channels, 8, 1)
        self.taps = nn.Conv2d(8, 36, 3, padding=1)

    def forward(self, x):
        mask = F.pixel_shuffle(self.taps(F.silu(self.narrow(x))), 2).softmax(1)
        return unfold(x, mask, kernel_size=3, group_size=1, scale_factor=2)


class _Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


class WrongGradients(CARAFE):
    def forward(self, x):
        return _Doubled.apply(super().forward(x))
