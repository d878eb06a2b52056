"""Bugs planted in the convolution of clamped samples: cores that compute something near it."""

import torch

from opbench.operators.common.clamped.cores import gather, grid_sample


def axes_exchanged(x, rows, columns, weight, **settings):
    """Rows and columns are exchanged."""
    return gather(x, columns, rows, weight, **settings)


def half_a_pixel(x, rows, columns, weight, **settings):
    """Samples lie half a pixel too far up and left."""
    return gather(x, rows - 0.5, columns - 0.5, weight, **settings)


def rounded_down(x, rows, columns, weight, **settings):
    """Places are rounded down: no interpolation."""
    return gather(x, rows.floor(), columns.floor(), weight, **settings)


def samples_reversed(x, rows, columns, weight, **settings):
    """The last sample gets the first one's weights."""
    return gather(x, rows, columns, weight.flip(2), **settings)


def samples_shifted(x, rows, columns, weight, **settings):
    """Each sample gets the next one's weights."""
    return gather(x, rows, columns, weight.roll(1, 2), **settings)


def image_0_for_all(x, rows, columns, weight, **settings):
    """Every image samples image 0."""
    return gather(x[:1].expand_as(x), rows, columns, weight, **settings)


def places_of_image_0(x, rows, columns, weight, **settings):
    """Every image samples where image 0 does."""
    return gather(x, rows[:1].expand_as(rows), columns[:1].expand_as(columns), weight, **settings)


def zeros_outside(x, rows, columns, weight, **settings):
    """Samples outside the image are zero instead of clamped: the image is framed by a row and column of zeros."""
    framed = torch.nn.functional.pad(x, (2, 2, 2, 2))
    return gather(framed, rows + 2, columns + 2, weight)


def wrapped_width(x, rows, columns, weight, **settings):
    """A sample right of the image is that of the next row: rows are as wide as columns are high."""
    turned = x.transpose(2, 3).reshape(x.shape)
    return gather(turned, rows, columns, weight, **settings)


def last_row_lost(x, rows, columns, weight, **settings):
    """The last row is never read."""
    return gather(x, rows.clamp(max=x.shape[2] - 2.5), columns, weight, **settings)


def wrong_past_64_channels(x, rows, columns, weight, **settings):
    """Channels from the 65th on are those before them."""
    return gather(torch.cat((x[:, :64], x[:, 64:].roll(1, 1)), 1), rows, columns, weight, **settings)


def bfloat16_places(x, rows, columns, weight, **settings):
    """Places are rounded to bfloat16."""
    return gather(x, rows.bfloat16().to(rows.dtype), columns.bfloat16().to(rows.dtype), weight, **settings)


def float16_sums(x, rows, columns, weight, **settings):
    """Samples and weights are rounded to float16."""
    return gather(x.half().to(x.dtype), rows, columns, weight.half().to(x.dtype), **settings)


def bfloat16_inside(x, rows, columns, weight, **settings):
    """All of it in bfloat16."""
    return gather(x.bfloat16(), rows, columns, weight.bfloat16(), **settings).to(x.dtype)


def corners_aligned(x, rows, columns, weight, **settings):
    """Places are normalised for aligned corners, and corners aren't."""
    height, width = x.shape[2:]
    return grid_sample(x, rows * height / (height - 1) - 0.5, columns * width / (width - 1) - 0.5, weight, **settings)


def places_detached(x, rows, columns, weight, **settings):
    """Places get no gradient."""
    return gather(x, rows.detach(), columns.detach(), weight, **settings)


def rows_detached(x, rows, columns, weight, **settings):
    """Rows get no gradient."""
    return gather(x, rows.detach(), columns, weight, **settings)


def gradient_at_a_tenth(x, rows, columns, weight, **settings):
    """Places learn at a tenth of the rate, as the published hook was meant to do."""
    slow = [0.1 * at + 0.9 * at.detach() for at in (rows, columns)]
    return gather(x, *slow, weight, **settings)


def image_detached(x, rows, columns, weight, **settings):
    """The samples send no gradient to the image."""
    return gather(x.detach(), rows, columns, weight, **settings)


CORE_MUTANTS = (
    axes_exchanged, half_a_pixel, rounded_down, samples_reversed, samples_shifted, image_0_for_all, places_of_image_0,
    zeros_outside, wrapped_width, last_row_lost, wrong_past_64_channels, bfloat16_places, float16_sums,
    bfloat16_inside, corners_aligned,
)  # fmt: skip
GRADIENT_MUTANTS = (places_detached, rows_detached, gradient_at_a_tenth, image_detached)
