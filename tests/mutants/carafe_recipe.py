"""A right CARAFE core in index arithmetic, each step of which can be exchanged for a wrong one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch


@dataclass(frozen=True)
class Call:
    """The dimensions of one call."""

    N: int
    C: int
    H: int
    W: int
    k: int
    g: int
    s: int


def place(position, i, call, axis):
    """The row (axis 0) or column (axis 1) of x that tap i of an output row or column reads."""
    return position // call.s + i - call.k // 2


def channel(c, iy, ix, call):
    """The mask channel of tap (iy, ix) for channel c."""
    return (c // (call.C // call.g) * call.k + iy) * call.k + ix


def fetch(x, y, x_):
    """x at rows y and columns x_; what is read outside the image is weighed by nothing."""
    return x[:, :, y.clamp(0, x.shape[2] - 1)][..., x_.clamp(0, x.shape[3] - 1)]


def inside(y, x_, call):
    return ((y >= 0) & (y < call.H)).view(-1, 1) & ((x_ >= 0) & (x_ < call.W))


def term(value, weight, within):
    return value * torch.where(within, weight, 0)


def wide(dtype):
    """The dtype of the sums."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def unchanged(tensor, call):
    return tensor


@dataclass(frozen=True)
class Recipe:
    """out = sum over taps of term(fetch(x), weight, inside); `image`, `weights` and `finish` see x, mask and out."""

    place: Callable = place
    channel: Callable = channel
    fetch: Callable = fetch
    inside: Callable = inside
    term: Callable = term
    sums: Callable = wide
    image: Callable = unchanged
    weights: Callable = unchanged
    finish: Callable = unchanged

    def __call__(self, x, mask, *, kernel_size, group_size, scale_factor):
        call = Call(*x.shape, kernel_size, group_size, scale_factor)
        dtype = self.sums(x.dtype)
        image, weights = self.image(x.to(dtype), call), self.weights(mask.to(dtype), call)
        rows, columns = torch.arange(call.s * call.H), torch.arange(call.s * call.W)
        channels = torch.arange(call.C)
        out = image.new_zeros(call.N, call.C, call.s * call.H, call.s * call.W)
        for iy, ix in product(range(call.k), repeat=2):
            y, x_ = self.place(rows, iy, call, 0), self.place(columns, ix, call, 1)
            weight = weights[:, self.channel(channels, iy, ix, call)]
            out = out + self.term(self.fetch(image, y, x_), weight, self.inside(y, x_, call))
        return self.finish(out, call).to(x.dtype)


RIGHT = Recipe()


def recipe(**steps):
    """The right core but for these steps."""
    return dataclasses.replace(RIGHT, **steps)


# --- Backward ---------------------------------------------------------------------------------------------------


def gradients(grad, x, mask, options, core=RIGHT):
    """The gradients of x and mask, to be differentiated again where that is asked for."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        leaves = [one if again and one.requires_grad else one.detach().requires_grad_() for one in (x, mask)]
        return torch.autograd.grad(core(*leaves, **options), leaves, grad, create_graph=again)


def with_backward(backward):
    """The right core with another backward pass: `backward(grad, x, mask, options, needs)` -> both gradients."""

    class Altered(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, mask, options):
            ctx.save_for_backward(x, mask)
            ctx.options = options
            return RIGHT(x, mask, **options)

        @staticmethod
        def backward(ctx, grad):
            found = backward(grad, *ctx.saved_tensors, ctx.options, ctx.needs_input_grad[:2])
            wanted = (value if need else None for value, need in zip(found, ctx.needs_input_grad, strict=False))
            return (*wanted, None)

    def core(x, mask, **options):
        return Altered.apply(x, mask, options)

    return core


def after_backward(x=None, mask=None):
    """The right core whose gradients are changed once computed: by `x(gradient, call)` and `mask(gradient, call)`."""

    def backward(grad, x_value, mask_value, options, needs):
        call = Call(*x_value.shape, options["kernel_size"], options["group_size"], options["scale_factor"])
        changes = (x or unchanged, mask or unchanged)
        found = gradients(grad, x_value, mask_value, options)
        return [change(value, call) for change, value in zip(changes, found, strict=True)]

    return with_backward(backward)
