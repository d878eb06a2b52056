"""Functions in the place of DySample's and the GSConv's cores, some of them wrong."""

from opbench.operators.dysample.cores import grid_sample
from opbench.operators.gsconv.cores import placed


def right(x, offset, *, scale, groups):
    return grid_sample(x, offset, scale=scale, groups=groups)


def of_other_names(feature, off, s=2, g=4):
    return grid_sample(feature, off, scale=s, groups=g)


def of_one_scale(x, offset, groups):
    return grid_sample(x, offset, scale=2, groups=groups)


def axes_exchanged(x, offset, *, scale, groups):
    return grid_sample(x, offset.unflatten(1, (2, -1)).flip(1).flatten(1, 2), scale=scale, groups=groups)


def without_gradient(x, offset, *, scale, groups):
    return grid_sample(x, offset.detach(), scale=scale, groups=groups)


def halves(first, second, *, shuffle):
    return placed(first, second, shuffle=shuffle)


def one_shuffle(first, second, *, shuffle):
    return placed(first, second, shuffle="halves")
