"""Right cores but at some size: bugs of tiles, vectors, grids, tables and index widths, and of their gradients.

Each is an attribute of this module for CARAFE, and with `dcnv3_` before it for DCNv3, unless it is of one of them only:
`opbench check tests/mutants/size_mutants.py:grid_of_65535_blocks --operator carafe --first`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from opbench.operators.carafe.cores import shift_add
from opbench.operators.dcnv3.cores import CORES

RIGHT = {"carafe": shift_add, "dcnv3": CORES["gather"].function}
BOTH = ("carafe", "dcnv3")


@dataclass(frozen=True)
class SizeMutant:
    """`spoil(out, at, call)` gives the output of a call in the place of the right one; `at` has the call's sizes."""

    name: str
    description: str
    spoil: Callable
    operators: tuple[str, ...] = BOTH


SIZE_MUTANTS: dict[str, SizeMutant] = {}


def mutant(description, *operators):
    """Decorator: the function spoils an output."""

    def register(spoil):
        SIZE_MUTANTS[spoil.__name__] = SizeMutant(spoil.__name__, description, spoil, operators or BOTH)
        return spoil

    return register


class Sizes:
    """What a call's sizes are, and its output with channels first."""

    def __init__(self, operator, x, options):
        shape = x.shape if operator == "carafe" else x.permute(0, 3, 1, 2).shape
        self.N, self.C, self.H, self.W = shape
        self.k = options["kernel_size"]
        self.g = options["group_size" if operator == "carafe" else "group"]
        self.s = options.get("scale_factor", 1)
        self.options = options
        self.axes = {"N": 0, "C": 1, "H": 2, "W": 3} if operator == "carafe" else {"N": 0, "H": 1, "W": 2, "C": 3}

    def zeroed(self, out, axis, start, stop=None):
        """The output with some rows, columns, channels or images 0."""
        kept = torch.ones(out.shape[self.axes[axis]], dtype=torch.bool)
        kept[start:stop] = False
        shape = [1] * 4
        shape[self.axes[axis]] = -1
        return torch.where(kept.view(shape), out, torch.zeros_like(out))


class Scaled(torch.autograd.Function):
    """The identity, whose gradient arrives scaled."""

    @staticmethod
    def forward(context, value, factor):
        context.factor = factor
        return value.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * context.factor, None


def function(name):
    """(operator, core) of a name as on the command line."""
    operator = "dcnv3" if name.startswith("dcnv3_") else "carafe"
    spoil, right = SIZE_MUTANTS[name.removeprefix("dcnv3_")].spoil, RIGHT[operator]

    def carafe(x, mask, *, kernel_size, group_size, scale_factor):
        options = {"kernel_size": kernel_size, "group_size": group_size, "scale_factor": scale_factor}
        call = {"x": x, "mask": mask}
        return spoil(lambda **other: right(**{**call, **other}, **options), Sizes("carafe", x, options), call)

    def dcnv3(x, offset, mask, **options):
        call = {"x": x, "offset": offset, "mask": mask}
        return spoil(lambda **other: right(**{**call, **other}, **options), Sizes("dcnv3", x, options), call)

    return operator, {"carafe": carafe, "dcnv3": dcnv3}[operator]


# --- Tiles, vectors, grids ----------------------------------------------------------------------------------------


@mutant("a tile has 48 channels, and one tile is computed")
def one_tile_of_48_channels(core, at, call):
    return at.zeroed(core(), "C", 48)


@mutant("the tail of a vector of 8 channels is left out past the first vector")
def tail_of_8_channels(core, at, call):
    tail = at.C % 8 if at.C > 8 else 0
    return at.zeroed(core(), "C", at.C - tail) if tail else core()


@mutant("a last column behind blocks of 32 is left out")
def last_column_behind_32(core, at, call):
    out = core()
    lone = at.W > 32 and at.W % 32 == 1
    return at.zeroed(out, "W", out.shape[at.axes["W"]] - 1) if lone else out


@mutant("rows past the 256th are the last block's")
def rows_past_256(core, at, call):
    return at.zeroed(core(), "H", 256 * at.s)


@mutant("images past the fourth are left out")
def images_past_4(core, at, call):
    return at.zeroed(core(), "N", 4)


@mutant("a grid has 65,535 blocks, one an image and channel")
def grid_of_65535_blocks(core, at, call):
    out = core()
    return out if at.N * at.C <= 65535 else at.zeroed(out, "N", at.N - 1)


@mutant("pixels are numbered in 16 bits")
def pixels_in_16_bits(core, at, call):
    out = core()
    return out if at.H * at.W <= 65535 else at.zeroed(out, "H", out.shape[at.axes["H"]] - 1)


@mutant("pixels past the 4,096th of an image are another block's")
def pixels_past_4096(core, at, call):
    out = core()
    return out if at.H * at.W <= 4096 else at.zeroed(out, "W", out.shape[at.axes["W"]] - 1)


@mutant("images of one column are read as images of one row where there are several")
def columns_for_rows_in_a_batch(core, at, call):
    out = core()
    return out.flip(at.axes["H"]) if at.W == 1 and at.N > 2 and at.H > 1 else out


# --- Tables and options -------------------------------------------------------------------------------------------


@mutant("the table for k = 11 has a wrong centre")
def table_of_11(core, at, call):
    return core() if at.k != 11 else core(mask=call["mask"] * 1.01)


@mutant("taps and groups together are numbered in 8 bits")
def taps_and_groups_in_8_bits(core, at, call):
    out = core()
    return out if at.k * at.k * at.g <= 256 else at.zeroed(out, "C", at.C - 1)


@mutant("shared memory holds 16 groups")
def groups_past_16(core, at, call):
    return core() if at.g <= 16 else at.zeroed(core(), "C", 16 * (at.C // at.g))


@mutant("three groups are a special case that forgot one")
def three_groups(core, at, call):
    return core() if at.g != 3 else at.zeroed(core(), "C", at.C - 1)


@mutant("a scale of 5 or more writes the first 4 rows of a parent", "carafe")
def scales_past_4(core, at, call):
    out = core()
    return out if at.s <= 4 else torch.where((torch.arange(out.shape[2]) % at.s < 4).view(-1, 1), out, 0 * out)


@mutant("a window that is wider than the image is cut once too often", "carafe")
def window_past_the_image(core, at, call):
    out = core()
    return out * 0.5 if at.k > 9 and at.k <= at.W else out


@mutant("a dilation of 4 is taken for 3 where groups are more than one", "dcnv3")
def dilation_of_4_in_groups(core, at, call):
    out = core()
    return out * 0.9 if at.options["dilation"] == 4 and at.g > 1 else out


@mutant("a stride of 4 starts one pixel late", "dcnv3")
def stride_of_4(core, at, call):
    out = core()
    return out.roll(1, 2) * 0.9 if at.options["stride"] == 4 else out


@mutant("a pad past the window's reach is cut", "dcnv3")
def pad_past_the_window(core, at, call):
    return core() if at.options["pad"] <= at.k else core() * 0.5


@mutant("offsets are kept as whole pixels in 8 bits beside their fraction", "dcnv3")
def offsets_in_8_bits(core, at, call):
    whole = call["offset"].floor()
    wrapped = (whole + 128).remainder(256) - 128
    return core(offset=call["offset"] - whole + wrapped)


@mutant("offsets past 2^15 pixels wrap round", "dcnv3")
def offsets_in_16_bits(core, at, call):
    whole = call["offset"].floor()
    wrapped = (whole + 2**15).remainder(2**16) - 2**15
    return core(offset=call["offset"] - whole + wrapped)


@mutant("a window of 13 has a table for one group alone")
def window_of_13_in_groups(core, at, call):
    return core() * 0.9 if at.k == 13 and at.g > 1 else core()


@mutant("32 groups of a second image are the first one's")
def groups_of_32_in_a_batch(core, at, call):
    return at.zeroed(core(), "N", 1) if at.g == 32 else core()


@mutant("a scale of 8 is computed with the window of 3 where it is larger", "carafe")
def scale_of_8_with_a_window_of_5(core, at, call):
    return core() * 0.9 if at.s == 8 and at.k >= 5 else core()


@mutant("a stride of 4 starts one pixel late where groups are more than one", "dcnv3")
def stride_of_4_in_groups(core, at, call):
    return core().roll(1, 1) * 0.9 if at.options["stride"] == 4 and at.g > 1 else core()


@mutant("a window of 11 is not dilated", "dcnv3")
def dilated_window_of_11(core, at, call):
    return core() * 0.9 if at.k == 11 and at.options["dilation"] > 1 else core()


@mutant("offsets along y are kept in 9 bits", "dcnv3")
def offsets_along_y_in_9_bits(core, at, call):
    whole = call["offset"].floor()
    wrapped = (whole + 256).remainder(512) - 256
    along_y = torch.arange(whole.shape[-1]) % 2 == 1
    return core(offset=call["offset"] + torch.where(along_y, wrapped - whole, 0))


# --- Gradients ----------------------------------------------------------------------------------------------------


@mutant("the gradient of x is halved past 96 columns")
def gradient_past_96_columns(core, at, call):
    return core(x=Scaled.apply(call["x"], 0.5)) if at.W > 96 else core()


@mutant("the gradient of the mask is scaled from the ninth image on")
def mask_gradient_of_9_images(core, at, call):
    return core(mask=Scaled.apply(call["mask"], 1.1)) if at.N > 8 else core()


@mutant("the gradient of the mask loses the last of more than 128 channels")
def mask_gradient_past_128_channels(core, at, call):
    return core(mask=Scaled.apply(call["mask"], 127 / 128)) if at.C > 128 else core()


@mutant("the gradient of x is computed with the table of the next smaller window for k = 7")
def gradient_of_7(core, at, call):
    return core(x=Scaled.apply(call["x"], 25 / 49)) if at.k == 7 else core()


@mutant("the gradient of the offsets is off where groups and channels fill a block", "dcnv3")
def offset_gradient_of_a_full_block(core, at, call):
    full = at.C >= 64 and at.g >= 2
    return core(offset=Scaled.apply(call["offset"], 0.5)) if full else core()


@mutant("the gradient of the mask is halved past 128 rows where groups are more than one")
def mask_gradient_past_128_rows_in_groups(core, at, call):
    return core(mask=Scaled.apply(call["mask"], 0.5)) if at.H > 128 and at.g > 1 else core()


for _name, _one in SIZE_MUTANTS.items():
    if "carafe" in _one.operators:
        globals()[_name] = function(_name)[1]
    if "dcnv3" in _one.operators:
        globals()[f"dcnv3_{_name}"] = function(f"dcnv3_{_name}")[1]
