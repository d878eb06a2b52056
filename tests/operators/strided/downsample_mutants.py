"""Wrong modules of the slot downsample2x, one small change each to a right forward pass.

Each is also an attribute of this module, a class with the published constructor, so that
`opbench check tests/operators/strided/downsample_mutants.py:unshuffled --operator spdconv` names one.
"""

import torch
import torch.nn.functional as F
from torch import nn

from opbench.operators.adown import ADown
from opbench.operators.spdconv import SPDConv

ORDER = ((0, 0), (1, 0), (0, 1), (1, 1))


def block(conv, x, padding=None, flip=False, act=True, norm=True):
    """Convolution, norm and activation; SPDConv without its block is a convolution alone."""
    plain = isinstance(conv, nn.Conv2d)
    layer = conv if plain else conv.conv
    weight = layer.weight.flip(2, 3) if flip else layer.weight
    out = F.conv2d(x, weight, stride=layer.stride, padding=layer.padding if padding is None else padding)
    out = conv.bn(out) if norm and not plain else out
    return conv.act(out) if act and not plain else out


def spd(order=ORDER, image=lambda x: x, depth=lambda d: d, out=lambda y: y, **options):
    """SPDConv's forward pass, but for the steps given."""

    def run(m, x):
        x = image(x)
        joined = torch.cat([x[..., row::2, column::2] for row, column in order], 1)
        return out(block(m.conv, depth(joined), **options))

    return run


def averaging(x, padding=0, size=2):
    return F.avg_pool2d(x, size, 1, padding)


def largest(x):
    return F.max_pool2d(x, 3, 2, 1)


def adown(average=averaging, pool=largest, parts=lambda x: x.chunk(2, 1), join=lambda a, b: (a, b), **options):
    """ADown's forward pass, but for the steps given."""

    def run(m, x):
        first, second = parts(average(x))
        return torch.cat(join(block(m.cv1, first, **options), block(m.cv2, pool(second))), 1)

    return run


def of_first_image(y):
    return torch.cat((y[:1], y[:1].expand(len(y) - 1, -1, -1, -1)), 0)


def dim_past(channels):
    return lambda y: torch.cat((y[:, :channels], 0.9 * y[:, channels:]), 1)


def one_pixel_later(x):
    return torch.cat((x[..., 1:], x[..., -1:]), 3)


class Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.bfloat16().to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        return grad


def channel_by_channel(depth):
    """Channels in the order of torch.nn.PixelUnshuffle."""
    return depth.unflatten(1, (2, 2, -1)).permute(0, 3, 2, 1, 4, 5).flatten(1, 3)


def quarters(x):
    """What was every second column is a half of the image."""
    return x.unflatten(3, (2, -1)).transpose(3, 4).flatten(3)


def replicated(depth):
    return F.pad(depth, (1, 1, 1, 1), "replicate")


def odd_columns_detached(x):
    return torch.stack((x[..., ::2], x[..., 1::2].detach()), 4).flatten(3)


def largest_or_zero(x):
    return F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2)


RIGHT = {"spdconv": spd(), "adown": adown()}
SPD = {
    "unshuffled": ("the slices' channels as torch.nn.PixelUnshuffle orders them", spd(depth=channel_by_channel)),
    "rows_last": ("slices row by row: (0, 0), (0, 1), (1, 0), (1, 1)", spd(order=((0, 0), (0, 1), (1, 0), (1, 1)))),
    "last_two_exchanged": ("the last two slices exchanged", spd(order=((0, 0), (1, 0), (1, 1), (0, 1)))),
    "a_slice_twice": ("one slice taken twice", spd(order=((0, 0), (1, 0), (0, 1), (0, 1)))),
    "only_even_pixels": ("every slice the even pixels", spd(order=((0, 0),) * 4)),
    "one_pixel_later": ("the image moved by one column", spd(image=one_pixel_later)),
    "quarters": ("quarters of the image instead of every second pixel", spd(image=quarters)),
    "not_padded": ("the border padded by its own pixels", spd(depth=replicated, padding=0)),
    "flipped": ("the window flipped, as a mathematical convolution", spd(flip=True)),
    "no_norm": ("no batch norm", spd(norm=False)),
    "no_activation": ("no activation", spd(act=False)),
    "first_image": ("every image is the first", spd(out=of_first_image)),
    "dim_past_16": ("too small past 16 channels", spd(out=dim_past(16))),
    "in_bfloat16": ("the rearranged image in bfloat16", spd(depth=Rounded.apply)),
    "without_gradient": ("the odd columns carry no gradient", spd(image=odd_columns_detached)),
}  # fmt: skip
ADOWN = {
    "padded_average": ("the average padded to the image's size", adown(average=lambda x: averaging(x, 1)[..., 1:, 1:])),
    "average_of_three": ("a 3 x 3 average, as some copies have", adown(average=lambda x: averaging(x, 1, 3))),
    "no_average": ("no average", adown(average=lambda x: x[..., 1:, 1:])),
    "halves_exchanged": ("the halves of the channels exchanged", adown(parts=lambda x: x.chunk(2, 1)[::-1])),
    "interleaved": ("every second channel for a half", adown(parts=lambda x: (x[:, ::2], x[:, 1::2]))),
    "joined_backwards": ("the outputs joined in the other order", adown(join=lambda a, b: (b, a))),
    "averaged_twice": ("a mean in the place of the maximum", adown(pool=lambda x: F.avg_pool2d(x, 3, 2, 1))),
    "pool_of_two": ("a 2 x 2 maximum", adown(pool=lambda x: F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-1e4), 2, 2))),
    "pool_of_absolute": ("the largest magnitude", adown(pool=lambda x: largest(x.abs()))),
    "smallest": ("the smallest pixel", adown(pool=lambda x: -largest(-x))),
    "zeros_in_the_pool": ("zeros outside the image take part in the maximum", adown(pool=largest_or_zero)),
    "flipped_window": ("the window flipped", adown(flip=True)),
    "linear": ("the strided half without activation", adown(act=False)),
    "unnormed": ("the strided half without norm", adown(norm=False)),
    "pool_in_bfloat16": ("the pooled half in bfloat16", adown(pool=lambda x: largest(Rounded.apply(x)))),
    "pool_without_gradient": ("the pooled half carries no gradient", adown(pool=lambda x: largest(x.detach()))),
}  # fmt: skip
MUTANTS = {name: ("spdconv", *mutant) for name, mutant in SPD.items()}
MUTANTS |= {name: ("adown", *mutant) for name, mutant in ADOWN.items()}
for _name, (_operator, _said, _forward) in MUTANTS.items():
    _base = {"spdconv": SPDConv, "adown": ADown}[_operator]
    globals()[_name] = type(_name, (_base,), {"forward": _forward, "__doc__": _said, "__module__": __name__})
