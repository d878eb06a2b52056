"""Bugs planted in Haar wavelet downsampling: modules with its constructor; each is an attribute of this module."""

import torch
import torch.nn.functional as F

from opbench.operators.hwd import HWD


def parts(x):
    """The pixels a, b over c, d of every block."""
    return x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]


def bands(a, b, c, d):
    return a + b + c + d, a + b - c - d, a - b + c - d, a - b - c + d


def recipe(
    description, *, image=lambda x: x, pixels=parts, transformed=bands, order=lambda one: one, scale=lambda s: s,
    depth=lambda x: x, padding=None, bias=True, behind=lambda layers: layers, out=lambda y: y,
):  # fmt: skip
    """The forward pass by its steps, but for those given."""

    def forward(self, x):
        x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        found = order(transformed(*pixels(image(x))))
        joined = depth(torch.cat(tuple(found), 1)) * scale(self.wt.scale())
        convolution, *layers = self.conv_bn_relu if self.block else (self.conv,)
        pad = convolution.padding if padding is None else padding
        y = F.conv2d(joined, convolution.weight, convolution.bias if bias else None, padding=pad)
        for layer in behind(layers):
            y = layer(y)
        return out(y)

    return type("Planted", (HWD,), {"forward": forward, "__doc__": description})


def channel_by_channel(joined):
    return joined.unflatten(1, (4, -1)).transpose(1, 2).flatten(1, 2)


def through(dtype):
    return lambda x: x.to(dtype).to(x.dtype)


def first_image(y):
    return torch.cat((y[:1],) * len(y), 0)


def later(x):
    return torch.cat((x[..., 1:], x[..., -1:]), 3)


RIGHT = recipe("a right one")
MUTANTS = {
    "down_and_across_exchanged": recipe("second and third band exchanged", order=lambda f: (f[0], f[2], f[1], f[3])),
    "reversed_bands": recipe("bands from the last to the first", order=lambda f: f[::-1]),
    "channels_before_bands": recipe("all bands of a channel before the next", depth=channel_by_channel),
    "sums_twice": recipe("the sums in the place of the diagonal", order=lambda f: (f[0], f[1], f[2], f[0])),
    "negative_differences": recipe("c + d - a - b", transformed=lambda a, b, c, d: bands(c, d, a, b)),
    "mirrored": recipe("b - a", transformed=lambda a, b, c, d: bands(b, a, d, c)),
    "not_scaled": recipe("sums that aren't halved", scale=lambda s: 2 * s),
    "means": recipe("means for sums", scale=lambda s: s / 2),
    "scaled_once": recipe("scaled along one axis alone", scale=torch.sqrt),
    "absolute_differences": recipe(
        "magnitudes", transformed=lambda a, b, c, d: tuple(band.abs() for band in bands(a, b, c, d))
    ),
    "space_to_depth": recipe("pixels instead of bands", transformed=lambda *pixels: pixels),
    "only_even_pixels": recipe("every second pixel alone", pixels=lambda x: (x[..., ::2, ::2],) * 4),
    "one_pixel_later": recipe("blocks one column further", image=later),
    "rows_alone": recipe("no transform along rows", transformed=lambda a, b, c, d: (a + c, a - c, b + d, b - d)),
    "no_bias": recipe("the bias left out", bias=False),
    "no_norm": recipe("no batch norm", behind=lambda layers: layers[1:]),
    "no_activation": recipe("no activation", behind=lambda layers: layers[:1]),
    "silu_for_relu": recipe("SiLU", behind=lambda layers: [*layers[:1], *([F.silu] if layers else [])]),
    "first_image": recipe("every image is the first", out=first_image),
    "past_16": recipe("too small past 16 channels", out=lambda y: torch.cat((y[:, :16], 0.9 * y[:, 16:]), 1)),
    "in_bfloat16": recipe("the bands in bfloat16", depth=through(torch.bfloat16)),
    "in_float16": recipe("the bands in float16", depth=through(torch.float16)),
    "odd_columns_detached": recipe(
        "no gradient of every second column",
        pixels=lambda x: tuple(one.detach() if place % 2 else one for place, one in enumerate(parts(x))),
    ),
}
for _name, _kind in MUTANTS.items():
    _kind.__name__ = _kind.__qualname__ = _name
    _kind.__module__ = __name__
globals().update(MUTANTS)
