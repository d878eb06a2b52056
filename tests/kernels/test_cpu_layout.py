"""Laying an image out by pixels, and back, moves every number to its place and nothing else."""

import itertools

import pytest
import torch

from opbench.kernels.cpu import layout

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
# Rows shorter and longer than a vector and a task, one pixel, channels that no vector divides, groups of one channel.
SHAPES = ((2, 12, 5, 7, 2), (1, 33, 3, 40, 1), (1, 6, 1, 1, 3), (3, 4, 2, 130, 4), (1, 64, 40, 1, 2), (1, 5, 1, 19, 5))


def expected(x, groups, padded, dtype):
    apart = x.to(dtype).unflatten(1, (groups, -1)).permute(0, 1, 3, 4, 2)
    return torch.nn.functional.pad(apart, (0, padded - apart.shape[4]))


def numbers(n, c, h, w, dtype=torch.float32):
    return torch.randn(n, c, h, w, generator=torch.Generator().manual_seed(0)).to(dtype)


def laid(x, how):
    """The same numbers in dense rows: adjoining, apart from each other, or part of a larger image."""
    n, c, h, w = x.shape
    if how == "apart":
        return torch.zeros(n, c, h, w + 3, dtype=x.dtype)[..., :w].copy_(x)
    if how == "a part":
        return torch.zeros(n + 1, c + 2, h + 2, w, dtype=x.dtype)[1:, 1:-1, 2:].copy_(x)
    return x


@pytest.mark.parametrize("how", ["adjoining", "apart", "a part"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_number_goes_to_its_place_and_back(dtype, how):
    for (*shape, groups), wide in itertools.product(SHAPES, (None, torch.float32)):
        if wide is not None and dtype == torch.float64:
            continue
        x = laid(numbers(*shape, dtype), how)
        for padded in (x.shape[1] // groups, -(-x.shape[1] // groups // 16) * 16):
            image = layout.pixels(x, groups=groups, padded=padded, dtype=wide)
            assert torch.equal(image, expected(x, groups, padded, wide or dtype))
            around = torch.full((shape[0], shape[1] + 2, shape[2], shape[3] + 2), 7.0, dtype=dtype)
            layout.planes(image, around[:, 1:-1, :, 1:-1])
            assert torch.equal(around[:, 1:-1, :, 1:-1], x)
            around[:, 1:-1, :, 1:-1] = 7
            assert (around == 7).all()


def test_a_column_may_have_any_stride():
    x = numbers(1, 5, 6, 4)[..., :1]
    assert x.stride() == (120, 24, 4, 1)
    for column in (x, x.transpose(2, 3).contiguous().transpose(2, 3), x.as_strided((1, 5, 6, 1), (120, 24, 4, 99))):
        assert torch.equal(layout.pixels(column), expected(column, 1, 5, torch.float32))


def test_numbers_that_are_not_finite_stay():
    x = numbers(1, 20, 3, 17)
    x[0, 3] = torch.nan
    x[0, 7] = torch.inf
    assert torch.equal(layout.pixels(x).isnan(), expected(x, 1, 20, x.dtype).isnan())
    assert layout.pixels(x)[..., 7].isposinf().all()


def test_nothing_is_laid_out_of_nothing():
    assert layout.pixels(torch.zeros(0, 4, 2, 3)).shape == (0, 1, 2, 3, 4)


def test_any_number_of_threads_does_the_same(threads):
    x = numbers(2, 64, 90, 61)
    for number in (1, 2, 3, 8, 64):
        threads(number)
        image = layout.pixels(x, groups=4)
        assert torch.equal(image, expected(x, 4, 16, x.dtype))
        back = torch.empty_like(x)
        layout.planes(image, back)
        assert torch.equal(back, x)
