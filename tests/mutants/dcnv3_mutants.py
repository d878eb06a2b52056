"""Planted bugs in DCNv3's core, each one small change to a right one (`dcnv3_sampler`).

Every mutant is also an attribute of this module, to be named on the command line.
"""

import torch
from dcnv3_sampler import RIGHT, Mutant, Sampler

MUTANTS: dict[str, Mutant] = {}


def plant(name, description, function):
    MUTANTS[name] = Mutant(name, description, function)


def planted(name, description):
    """Registers a core: a Sampler class with a step changed, or a function with the core's signature."""

    def register(core):
        plant(name, description, core() if isinstance(core, type) else core)
        return core

    return register


def override(name, description, **methods):
    plant(name, description, type("Wrong", (Sampler,), methods)())


# --- Where the samples lie ---------------------------------------------------------------------------------------

override("pairs_are_yx", "the offset pair read as (y, x)", offsets=lambda self, c, pairs: pairs.flip(-1))
override(
    "components_apart",
    "all x offsets of a group before all y offsets",
    split=lambda self, c, values, parts: values.reshape(c.N, c.Ho, c.Wo, c.G, parts, -1).transpose(-1, -2),
)
override(
    "row_major_points",
    "points numbered with y outside and x inside",
    points=lambda self, c: [(i, j) for j in range(c.kernel_size) for i in range(c.kernel_size)],
)
override(
    "reversed_points",
    "points numbered from the lower right, as in a true convolution",
    points=lambda self, c: Sampler.points(self, c)[::-1],
)
override(
    "base_grid_not_scaled",
    "offset_scale scales the learned offset only",
    scaled=lambda self, c, grid, offset: grid + offset * c.offset_scale,
)
override(
    "offset_not_scaled",
    "offset_scale scales the base grid only",
    scaled=lambda self, c, grid, offset: grid * c.offset_scale + offset,
)
override("scale_ignored", "offset_scale ignored", scaled=lambda self, c, grid, offset: grid + offset)
override("offsets_negated", "offsets subtracted", scaled=lambda self, c, grid, offset: (grid - offset) * c.offset_scale)
override(
    "offsets_dilated",
    "offsets counted in units of the dilation",
    scaled=lambda self, c, grid, offset: (grid + offset * c.dilation) * c.offset_scale,
)
override(
    "half_rounded_up",
    "the window's centre rounded up for even kernels",
    half=lambda self, c: (c.dilation * (c.kernel_size - 1) + 1) >> 1,
)
override(
    "half_before_dilation",
    "the window's centre as dilation * ((k - 1) // 2)",
    half=lambda self, c: c.dilation * ((c.kernel_size - 1) // 2),
)
override("half_is_half_kernel", "the window's centre as k // 2", half=lambda self, c: c.kernel_size // 2)
override("stride_ignored", "stride taken as 1", strides=lambda self, c: (1, 1))
override("stride_in_x_only", "stride applied in x only", strides=lambda self, c: (c.stride, 1))
override("dilation_ignored", "dilation taken as 1", steps=lambda self, c: (1, 1))
override("dilation_in_y_only", "dilation applied in y only", steps=lambda self, c: (1, c.dilation))
override("pad_ignored", "pad taken as 0", pads=lambda self, c: (0, 0))
override("pad_one_more", "one pixel of padding more in y", pads=lambda self, c: (c.pad, c.pad + 1))
override("pad_as_half_kernel", "pad taken as k // 2", pads=lambda self, c: (c.kernel_size // 2,) * 2)
override(
    "window_off_by_one",
    "the window one pixel further right",
    scaled=lambda self, c, grid, offset: (grid + offset) * c.offset_scale + torch.tensor([1.0, 0.0]),
)
override(
    "pixel_centres",
    "locations half a pixel further, as if pixels had their centres at one half",
    scaled=lambda self, c, grid, offset: (grid + offset) * c.offset_scale + 0.5,
)
override("first_point_removed", "remove_center drops the first point", middle=lambda self, c: 0)
override(
    "next_point_removed",
    "remove_center drops the point after the middle",
    middle=lambda self, c: c.kernel_size**2 // 2 + 1,
)
override(
    "offsets_of_one_group",
    "every group takes the first group's offsets",
    offsets=lambda self, c, pairs: pairs[..., :1, :, :].expand_as(pairs),
)
override(
    "offsets_before_group",
    "offset channels ordered (P, G, 2)",
    split=lambda self, c, values, parts: (
        values.reshape(c.N, c.Ho, c.Wo, -1, c.G, 2).transpose(3, 4) if parts == 2 else Sampler.split(self, c, values, 1)
    ),
)


@planted("align_corners", "the grid stretched as align_corners=True")
class AlignCorners(Sampler):
    def locations(self, c, offset):
        x, y = super().locations(c, offset)
        width, height = c.W + 2 * c.pad, c.H + 2 * c.pad
        return (
            (x + c.pad + 0.5) / width * (width - 1) - c.pad,
            (y + c.pad + 0.5) / height * (height - 1) - c.pad,
        )


@planted("sizes_swapped", "width and height swapped where the grid is normalised, harmless in square images")
class SizesSwapped(Sampler):
    def locations(self, c, offset):
        x, y = super().locations(c, offset)
        return x * c.W / c.H, y * c.H / c.W


@planted("half_locations", "locations computed in half precision")
class HalfLocations(Sampler):
    def locations(self, c, offset):
        lower = torch.float32 if offset.dtype == torch.float64 else torch.float16
        x, y = super().locations(c, offset.to(lower))
        return x.to(offset.dtype), y.to(offset.dtype)


@planted("fixed_point_locations", "locations held with 8 fixed-point bits after the point")
class FixedPointLocations(Sampler):
    def locations(self, c, offset):
        return tuple(at + ((at * 256).round() / 256 - at).detach() for at in super().locations(c, offset))


@planted("wrapping_locations", "huge locations wrap around, as an int32 does")
class WrappingLocations(Sampler):
    def locations(self, c, offset):
        return tuple(
            torch.where(at.abs() > 2.0**31, at.detach().remainder(4), at) for at in super().locations(c, offset)
        )


# --- How an image is sampled -------------------------------------------------------------------------------------

override(
    "border_dropped",
    "samples between -1 and 0 dropped",
    counts=lambda self, c, x, y: (x >= 0) & (x < c.W) & (y >= 0) & (y < c.H),
)
override(
    "far_border_dropped",
    "samples beyond the last row or column dropped",
    counts=lambda self, c, x, y: (x > -1) & (x <= c.W - 1) & (y > -1) & (y <= c.H - 1),
)
override("truncated", "locations truncated towards zero, not floored", first=lambda self, at: at.detach().trunc())
override(
    "nearest",
    "nearest pixel instead of bilinear",
    corner=lambda self, c, f, second: ((f >= 0.5) == bool(second)) + 0 * f,
)
override(
    "corners_swapped", "the two weights of a line swapped", corner=lambda self, c, f, second: 1 - f if second else f
)
override(
    "smoothed",
    "a smooth step in place of linear weights",
    corner=lambda self, c, f, second: Sampler.corner(self, c, f * f * (3 - 2 * f), second),
)
override(
    "last_column_dropped",
    "odd images lose their last column",
    inside=lambda self, c, line, column: Sampler.inside(self, c, line, column) & (column < c.W - c.W % 2),
)
override(
    "first_line_dropped",
    "the first line reads as zero",
    inside=lambda self, c, line, column: Sampler.inside(self, c, line, column) & (line > 0),
)


@planted("clamped", "pixels outside take the border's value, as clamp padding")
class Clamped(Sampler):
    def read(self, c, images, line, column, inside):
        everywhere = torch.ones_like(inside)
        return super().read(c, images, line.clamp(0, c.H - 1), column.clamp(0, c.W - 1), everywhere)

    def counts(self, c, x, y):
        return torch.isfinite(x) & torch.isfinite(y)


@planted("wrapped_lines", "a corner beyond a line's end is read from the next line")
class WrappedLines(Sampler):
    def read(self, c, images, line, column, inside):
        flat = images.reshape(c.N, 1, c.H * c.W, c.G, c.D)
        number = line * c.W + column
        within = inside & (number >= 0) & (number < c.H * c.W)
        return super().read(c, flat, torch.zeros_like(line), number, within)

    def inside(self, c, line, column):
        return (line >= 0) & (line < c.H)


@planted("batch_straddled", "a corner below the image is read from the next image of the batch")
class BatchStraddled(Sampler):
    def read(self, c, images, line, column, inside):
        flat = images.reshape(1, c.N * c.H, c.W, c.G, c.D).expand(c.N, -1, -1, -1, -1)
        row = torch.arange(c.N).view(-1, 1, 1, 1, 1) * c.H + line
        return super().read(c, flat, row, column, inside & (row < c.N * c.H))

    def inside(self, c, line, column):
        return super().inside(c, line.clamp(max=c.H - 1), column)


@planted("nan_leaks", "NaN offsets multiply zeros: NaN outputs")
class NanLeaks(Sampler):
    def samples(self, c, images, x, y):
        leak = torch.where(x.isnan() | y.isnan(), torch.nan, 0)
        return super().samples(c, images, x, y) + leak.detach().unsqueeze(-1)


@planted("infinity_leaks", "infinite offsets multiply zeros: NaN outputs")
class InfinityLeaks(Sampler):
    def samples(self, c, images, x, y):
        leak = torch.where(x.isinf() | y.isinf(), torch.nan, 0)
        return super().samples(c, images, x, y) + leak.detach().unsqueeze(-1)


# --- What is summed ----------------------------------------------------------------------------------------------

override(
    "mask_ignored", "points averaged, whatever the mask", weights=lambda self, c, mask: mask * 0 + 1 / mask.shape[-1]
)
override("mask_softmaxed", "the core applies softmax to the mask again", weights=lambda self, c, mask: mask.softmax(-1))
override(
    "mask_renormalised",
    "the mask divided by its sum",
    weights=lambda self, c, mask: mask / (mask.sum(-1, keepdim=True) + 1e-12),
)
override("mask_sigmoid", "the mask through a sigmoid, as in DCNv2", weights=lambda self, c, mask: mask.sigmoid())
override("mask_positive", "negative masks dropped", weights=lambda self, c, mask: mask.clamp(min=0))
override(
    "mask_of_one_group",
    "every group takes the first group's mask",
    weights=lambda self, c, mask: mask[..., :1, :].expand_as(mask),
)
override(
    "mask_row_major",
    "masks numbered by rows, offsets by columns",
    weights=lambda self, c, mask: (
        mask if c.remove_center else mask.unflatten(-1, (c.kernel_size, -1)).transpose(-1, -2).flatten(-2)
    ),
)
override(
    "groups_interleaved",
    "channel c belongs to group c % G",
    images=lambda self, c, x: x.reshape(c.N, c.H, c.W, c.D, c.G).transpose(3, 4),
    joined=lambda self, c, out: out.transpose(3, 4).reshape(c.N, c.Ho, c.Wo, c.C),
)
override(
    "last_point_dropped",
    "the last point of a window left out",
    summed=lambda self, c, samples, weights: (
        Sampler.summed(self, c, samples[..., :-1, :], weights[..., :-1])
        if weights.shape[-1] > 1
        else Sampler.summed(self, c, samples, weights)
    ),
)
override(
    "averaged",
    "divided by the number of points",
    summed=lambda self, c, samples, weights: Sampler.summed(self, c, samples, weights) / weights.shape[-1],
)
override(
    "low_precision_samples",
    "samples rounded to a narrower type",
    summed=lambda self, c, samples, weights: Sampler.summed(
        self,
        c,
        samples.to(torch.float32 if samples.dtype == torch.float64 else torch.float16).to(samples.dtype),
        weights,
    ),
)
override("computed_in_half", "half-precision inputs summed in their own type", precision=lambda self, dtype: dtype)
override(
    "computed_in_bfloat16",
    "float32 computed in bfloat16",
    precision=lambda self, dtype: torch.float64 if dtype == torch.float64 else torch.bfloat16,
)
override("computed_in_float32", "float64 computed in float32", precision=lambda self, dtype: torch.float32)


# --- One call and another ----------------------------------------------------------------------------------------


@planted("cached", "the first result of every shape is returned ever after")
class Cached(Sampler):
    def __init__(self):
        self.results = {}

    def __call__(self, x, offset, mask, **settings):
        kind = (x.shape, offset.shape, x.dtype, tuple(settings.values()))
        if kind not in self.results:
            self.results[kind] = super().__call__(x, offset, mask, **settings)
        return self.results[kind]


@planted("shared_buffer", "one buffer holds every output of a shape")
class SharedBuffer(Sampler):
    def __init__(self):
        self.buffers = {}

    def __call__(self, x, offset, mask, **settings):
        out = super().__call__(x, offset, mask, **settings)
        if out.requires_grad:
            return out
        return self.buffers.setdefault((out.shape, out.dtype), torch.empty_like(out)).copy_(out)


@planted("offset_mended_in_place", "NaN offsets are replaced in the caller's own tensor")
class OffsetMendedInPlace(Sampler):
    def __call__(self, x, offset, mask, **settings):
        offset.detach().nan_to_num_(nan=1e4)
        return super().__call__(x, offset, mask, **settings)


@planted("mask_in_place", "the mask is scaled in place and not scaled back")
class MaskInPlace(Sampler):
    def __call__(self, x, offset, mask, **settings):
        out = super().__call__(x, offset, mask, **settings)
        mask.detach().mul_(2)
        return out


@planted("contiguous_read", "x read as if it were contiguous")
class ContiguousRead(Sampler):
    def __call__(self, x, offset, mask, **settings):
        if not x.is_contiguous():
            dense = torch.empty_like(x, memory_format=torch.contiguous_format)
            x = x.as_strided(dense.shape, dense.stride())
        return super().__call__(x, offset, mask, **settings)


@planted("offset_read_contiguous", "the offset's strides are ignored")
class OffsetReadContiguous(Sampler):
    def __call__(self, x, offset, mask, **settings):
        if not offset.is_contiguous() and 0 not in offset.stride():
            dense = torch.empty_like(offset, memory_format=torch.contiguous_format)
            offset = offset.as_strided(dense.shape, dense.stride())
        return super().__call__(x, offset, mask, **settings)


@planted("uninitialised", "output pixels whose mask is all zero are never written")
class Uninitialised(Sampler):
    def __call__(self, x, offset, mask, **settings):
        out = super().__call__(x, offset, mask, **settings)
        silent = (mask.detach() == 0).all(-1, keepdim=True) | (out.detach() == 0).all(-1, keepdim=True)
        return torch.where(silent, torch.empty_like(out), out)


@planted("empty_refused", "a batch of none is refused")
def empty_refused(x, offset, mask, **settings):
    assert x.shape[0] > 0, "empty batch"
    return RIGHT(x, offset, mask, **settings)


@planted("always_float32", "the result is float32, whatever the inputs are")
def always_float32(x, offset, mask, **settings):
    return RIGHT(x, offset, mask, **settings).float()


@planted("first_image_offsets", "every image but the first takes the first one's offsets")
def first_image_offsets(x, offset, mask, **settings):
    return RIGHT(x, offset[:1].expand_as(offset), mask, **settings)


@planted("random_results", "points dropped at random, as dropout left on")
def random_results(x, offset, mask, **settings):
    return RIGHT(x, offset, mask * (torch.rand_like(mask) > 0.1), **settings)


# --- Right in common cases only ----------------------------------------------------------------------------------


def wrong_where(name, description, condition, wrong):
    """A core that is `wrong` where the condition on (x, settings) holds and right elsewhere."""

    def function(x, offset, mask, **settings):
        core = wrong if condition(x, settings) else RIGHT
        return core(x, offset, mask, **settings)

    plant(name, description, function)


TRANSPOSED = MUTANTS["pairs_are_yx"].function
BY_ROWS = MUTANTS["row_major_points"].function
UNWEIGHTED = MUTANTS["mask_ignored"].function
wrong_where("wrong_when_oblong", "x and y swapped where H != W", lambda x, s: x.shape[1] != x.shape[2], TRANSPOSED)
wrong_where("wrong_in_batches", "x and y swapped for N > 1 only", lambda x, s: x.shape[0] > 1, TRANSPOSED)
wrong_where("wrong_for_one_group", "x and y swapped for G = 1 only", lambda x, s: s["group"] == 1, TRANSPOSED)
wrong_where("wrong_for_three_groups", "x and y swapped for G = 3 only", lambda x, s: s["group"] == 3, TRANSPOSED)
wrong_where("wrong_for_kernel_of_one", "mask ignored for k = 1", lambda x, s: s["kernel_size"] == 1, UNWEIGHTED)
wrong_where("wrong_for_kernel_of_five", "points by rows for k = 5", lambda x, s: s["kernel_size"] == 5, BY_ROWS)
wrong_where("wrong_without_center", "points by rows with remove_center", lambda x, s: s["remove_center"], BY_ROWS)
wrong_where("wrong_for_one_column", "x and y swapped in images of one column", lambda x, s: x.shape[2] == 1, TRANSPOSED)
override("wrong_for_stride_three", "stride 3 taken as 2 in x", strides=lambda self, c: (min(c.stride, 2), c.stride))


@planted("last_odd_channel_dropped", "the last of an odd number of channels a group is zero")
class LastOddChannelDropped(Sampler):
    def summed(self, c, samples, weights):
        kept = torch.ones(c.D, dtype=samples.dtype)
        kept[c.D - c.D % 2 :] = 0
        return super().summed(c, samples, weights) * kept


globals().update({name: mutant.function for name, mutant in MUTANTS.items()})
