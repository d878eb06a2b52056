"""Wrong CARAFE cores, one small change each, that the properties must convict.

Each is also an attribute of this module, so that `opbench check tests/mutants/carafe_mutants.py:taps_column_major
--operator carafe` names one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parent))  # checked by path, from anywhere

from carafe_recipe import RIGHT, Call, after_backward, channel, fetch, gradients, inside, place, recipe, with_backward


@dataclass(frozen=True)
class Mutant:
    """A wrong core, with the core's signature."""

    name: str
    description: str
    function: Callable


MUTANTS: dict[str, Mutant] = {}


def add(name, description, function):
    assert name not in MUTANTS, name
    MUTANTS[name] = Mutant(name, description, function)


def mutant(description):
    """Decorator: the function is a wrong core."""

    def register(function):
        add(function.__name__, description, function)
        return function

    return register


def __getattr__(name):
    if name in MUTANTS:
        return MUTANTS[name].function
    raise AttributeError(name)


def call_of(x, options):
    return Call(*x.shape, options["kernel_size"], options["group_size"], options["scale_factor"])


# --- Where the window lies --------------------------------------------------------------------------------------

for name, description, step in (
    ("window_one_late", "the window starts one pixel late", lambda p, i, c, a: place(p, i, c, a) + 1),
    ("window_one_early", "the window starts one pixel early", lambda p, i, c, a: place(p, i, c, a) - 1),
    ("window_one_row_down", "rows only: one too low", lambda p, i, c, a: place(p, i, c, a) + (a == 0)),
    ("window_at_corner", "the window starts at the parent instead of around it", lambda p, i, c, a: p // c.s + i),
    ("parent_rounded_up", "parent (Y+1)//s", lambda p, i, c, a: (p + 1) // c.s + i - c.k // 2),
    ("parent_rounded", "parent round(Y/s)", lambda p, i, c, a: (p + c.s // 2) // c.s + i - c.k // 2),
    ("window_in_output_pixels", "the window is laid over output pixels", lambda p, i, c, a: (p + i - c.k // 2) // c.s),
    ("window_dilated", "taps lie s pixels apart", lambda p, i, c, a: p // c.s + (i - c.k // 2) * c.s),
    ("scale_ignored_in_x", "columns are not upsampled", lambda p, i, c, a: (p if a else p // c.s) + i - c.k // 2),
    ("scale_as_power_of_two", "Y//s by a shift", lambda p, i, c, a: (p >> (c.s.bit_length() - 1)) + i - c.k // 2),
    ("wrong_at_scale_1", "off by one where s = 1", lambda p, i, c, a: place(p, i, c, a) + (c.s == 1)),
    ("wrong_at_scale_4", "off by one where s = 4", lambda p, i, c, a: place(p, i, c, a) + (c.s == 4)),
    ("wrong_at_kernel_7", "off by one where k = 7", lambda p, i, c, a: place(p, i, c, a) + (c.k == 7)),
):
    add(name, description, recipe(place=step))

# --- What lies outside ------------------------------------------------------------------------------------------


def everything(value, weight, within):
    return value * weight


def reflected(index, size):
    if size == 1:
        return torch.zeros_like(index)
    index = index.abs() % (2 * size - 2)
    return torch.minimum(index, 2 * size - 2 - index)


def flat(x, index):
    """x (N, C, ...) flattened from its third axis on, read at index (rows, columns), which may run over."""
    return x.flatten(2)[:, :, index.clamp(0, x.shape[2] * x.shape[3] - 1).flatten()].unflatten(2, index.shape)


def next_row(x, y, x_):
    return flat(x, y.view(-1, 1) * x.shape[3] + x_)


def below(axis):
    """Rows below the image are the first ones of the next image (axis 0) or channel (axis 1)."""

    def fetch_below(x, y, x_):
        return fetch(torch.cat([x, x.roll(-1, axis)], 2), y, x_)

    return fetch_below


def inside_or_below(y, x_, call):
    return ((y >= 0) & (y < 2 * call.H)).view(-1, 1) & ((x_ >= 0) & (x_ < call.W))


def inside_rows(y, x_, call):
    return ((y >= 0) & (y < call.H)).view(-1, 1) & (x_ > -call.W)


add("clamp_padding", "the border pixel is read outside the image", recipe(term=everything))
add(
    "reflect_padding",
    "the image is mirrored outside",
    recipe(
        term=everything,
        fetch=lambda x, y, x_: x[:, :, reflected(y, x.shape[2])][..., reflected(x_, x.shape[3])],
    ),
)
add(
    "circular_padding",
    "the image is repeated outside",
    recipe(term=everything, fetch=lambda x, y, x_: x[:, :, y % x.shape[2]][..., x_ % x.shape[3]]),
)
add("row_straddling", "columns beyond a row are read from the next row", recipe(fetch=next_row, inside=inside_rows))
add(
    "batch_straddling",
    "rows below the image are read from the next image",
    recipe(fetch=below(0), inside=inside_or_below),
)
add(
    "channel_straddling",
    "rows below the image are read from the next channel",
    recipe(fetch=below(1), inside=inside_or_below),
)
add(
    "outside_leaks",
    "zero padding is multiplied by the mask: Inf and NaN leak in",
    recipe(term=lambda value, weight, within: (value * within) * weight),
)
add(
    "last_row_is_outside",
    "the last row counts as outside",
    recipe(inside=lambda y, x_, c: inside(y, x_, c) & (y < max(1, c.H - 1)).view(-1, 1)),
)
add(
    "no_halo_between_tiles",
    "windows end at tiles of 4 columns",
    recipe(
        inside=lambda y, x_, c: (
            inside(y, x_, c) & (x_.div(4, rounding_mode="floor") == torch.arange(len(x_)) // c.s // 4)
        )
    ),
)

# --- Which weight -----------------------------------------------------------------------------------------------


def phases(mask, call):
    """(N, channels, H, s, W, s)"""
    return mask.unflatten(3, (-1, call.s)).unflatten(2, (-1, call.s))


def pixels(split):
    return split.flatten(4, 5).flatten(2, 3)


def per_group(mask, call):
    return mask.unflatten(1, (call.g, -1))


add("taps_column_major", "taps are counted column by column", recipe(channel=lambda c, y, x, d: channel(c, x, y, d)))
add(
    "taps_reversed",
    "taps are counted from the last: a true convolution",
    recipe(channel=lambda c, y, x, d: channel(c, d.k - 1 - y, d.k - 1 - x, d)),
)
add(
    "groups_interleaved",
    "channel c uses group c % g",
    recipe(channel=lambda c, y, x, d: (c % d.g * d.k + y) * d.k + x),
)
add(
    "groups_reversed",
    "the last group's mask comes first",
    recipe(channel=lambda c, y, x, d: channel(d.C - 1 - c, y, x, d)),
)
add(
    "first_group_for_all",
    "every channel uses the first group",
    recipe(channel=lambda c, y, x, d: channel(0 * c, y, x, d)),
)
add(
    "taps_before_groups",
    "mask channels are tap by tap, groups inside",
    recipe(channel=lambda c, y, x, d: (y * d.k + x) * d.g + c // (d.C // d.g)),
)
add(
    "phases_swapped",
    "child (a, b) uses the mask of (b, a)",
    recipe(weights=lambda m, c: pixels(phases(m, c).transpose(3, 5))),
)
add("phases_reversed", "children are counted from the last", recipe(weights=lambda m, c: pixels(phases(m, c).flip(3))))
add(
    "first_child_for_all",
    "all children use the first one's mask",
    recipe(weights=lambda m, c: pixels(phases(m, c)[:, :, :, :1, :, :1].expand_as(phases(m, c)))),
)
add("mask_shifted", "the mask is one output pixel off", recipe(weights=lambda m, c: m.roll(1, 3)))
add("mask_of_image_0", "all images use the first one's mask", recipe(weights=lambda m, c: m[:1].expand_as(m)))
add("image_0_for_all", "all outputs are of the first image", recipe(image=lambda x, c: x[:1].expand_as(x)))
add(
    "softmax_inside",
    "the core applies a softmax",
    recipe(weights=lambda m, c: per_group(m, c).softmax(2).flatten(1, 2)),
)
add(
    "mask_normalised",
    "the mask is divided by its sum",
    recipe(weights=lambda m, c: (per_group(m, c) / per_group(m, c).sum(2, keepdim=True)).flatten(1, 2)),
)
add("mask_clamped_at_0", "negative weights count as 0", recipe(weights=lambda m, c: m.relu()))
add("mask_clamped_at_1", "weights above 1 count as 1", recipe(weights=lambda m, c: m.clamp(max=1)))
add(
    "taps_beyond_32",
    "a fixed table of 32 taps: the rest is dropped",
    recipe(
        weights=lambda m, c: per_group(m, c).masked_fill((torch.arange(c.k**2) >= 32).view(-1, 1, 1), 0).flatten(1, 2)
    ),
)
add(
    "kernel_1_without_mask",
    "k = 1 is taken for nearest",
    recipe(weights=lambda m, c: torch.ones_like(m) if c.k == 1 else m),
)


@mutant("the mask's sum inside the image is made 1 along the border")
def border_renormalised(x, mask, *, kernel_size, group_size, scale_factor):
    options = {"kernel_size": kernel_size, "group_size": group_size, "scale_factor": scale_factor}
    whole = per_group(mask, call_of(x, options)).sum(2).repeat_interleave(x.shape[1] // group_size, 1)
    within = RIGHT(torch.ones_like(x), mask, **options)
    return RIGHT(x, mask, **options) * torch.where(within == 0, 1, whole / within)


# --- Only some sizes --------------------------------------------------------------------------------------------


def cleared(out, *index):
    out = out.clone()
    out[index] = 0
    return out


def without_rows(out, call, first):
    return cleared(out, ..., slice(first * call.s, None), slice(None))


add("odd_last_row_dropped", "an odd H is rounded down", recipe(finish=lambda o, c: without_rows(o, c, c.H // 2 * 2)))
add(
    "odd_last_column_dropped",
    "an odd W is rounded down",
    recipe(finish=lambda o, c: cleared(o, ..., slice(c.W // 2 * 2 * c.s, None))),
)
add(
    "tile_remainder_dropped",
    "rows after the last whole tile of 4",
    recipe(finish=lambda o, c: without_rows(o, c, max(4, c.H // 4 * 4))),
)
add(
    "vector_remainder_dropped",
    "channels after the last 4",
    recipe(finish=lambda o, c: cleared(o, slice(None), slice(c.C // 4 * 4, None)) if c.C > 4 else o),
)
add("one_row_is_empty", "H = 1 gives zeros", recipe(finish=lambda o, c: o * (c.H > 1)))
add("one_column_is_empty", "W = 1 gives zeros", recipe(finish=lambda o, c: o * (c.W > 1)))
add(
    "height_and_width_swapped",
    "the output is transposed where it can be",
    recipe(finish=lambda o, c: o.mT if c.H == c.W else o),
)
add("only_image_0", "later images are zero", recipe(finish=lambda o, c: cleared(o, slice(1, None))))
add(
    "only_group_0",
    "later groups are zero",
    recipe(finish=lambda o, c: cleared(o, slice(None), slice(c.C // c.g, None))),
)


@mutant("offsets into x wrap at 128 elements, as 32-bit offsets wrap at 2^31")
def index_overflow(x, mask, **options):
    index = torch.arange(x.numel())
    return RIGHT(x.flatten()[index % 128].view(x.shape), mask, **options)


@mutant("an empty batch gives one image")
def empty_batch_of_one(x, mask, **options):
    out = RIGHT(x, mask, **options)
    return F.pad(out, (0, 0) * 3 + (0, 1)) if x.shape[0] == 0 else out


# --- Precision --------------------------------------------------------------------------------------------------

add("sums_in_bfloat16", "sums are kept in bfloat16", recipe(sums=lambda dtype: torch.bfloat16))
add("sums_in_float16", "sums are kept in float16", recipe(sums=lambda dtype: torch.float16))
add("sums_in_float32", "float64 is summed in float32", recipe(sums=lambda dtype: torch.float32))
add("mask_in_bfloat16", "weights are rounded to bfloat16", recipe(weights=lambda m, c: m.bfloat16().to(m.dtype)))
add(
    "products_in_tf32",
    "factors are rounded to 11 bits",
    recipe(image=lambda x, c: x.mul(2**13 + 1) - (x.mul(2**13 + 1) - x) if x.dtype == torch.float32 else x),
)
add("epsilon_added", "1e-6 is added to every weight", recipe(weights=lambda m, c: m + 1e-6))
add("large_values_clamped", "x is clamped to 1e4", recipe(image=lambda x, c: x.clamp(-1e4, 1e4)))
add(
    "small_values_flushed",
    "what is below 1e-12 becomes 0",
    recipe(image=lambda x, c: torch.where(x.abs() < 1e-12, 0, x)),
)


@mutant("bfloat16 comes back as float32")
def result_widened(x, mask, **options):
    return RIGHT(x.float(), mask.float(), **options) if x.dtype == torch.bfloat16 else RIGHT(x, mask, **options)


# --- Memory and state -------------------------------------------------------------------------------------------


def as_if_contiguous(tensor):
    """The tensor's memory read with the strides it would have if it were contiguous."""
    strides = torch.empty(tensor.shape, device="meta").stride()
    room = tensor.untyped_storage().nbytes() // tensor.element_size() - tensor.storage_offset()
    return tensor.as_strided(tensor.shape, strides) if tensor.numel() <= room else tensor


@mutant("x is read as if it were contiguous")
def x_taken_for_contiguous(x, mask, **options):
    return RIGHT(as_if_contiguous(x), mask, **options)


@mutant("the mask is read as if it were contiguous")
def mask_taken_for_contiguous(x, mask, **options):
    return RIGHT(x, as_if_contiguous(mask), **options)


@mutant("channels-last x gives an output whose memory is misread")
def channels_last_misread(x, mask, **options):
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    out = RIGHT(x, mask, **options)
    return out.permute(0, 2, 3, 1).reshape(out.shape) if last else out


@mutant("the last column is never written")
def column_uninitialised(x, mask, **options):
    right = RIGHT(x, mask, **options)
    out = torch.empty_like(right)
    out[..., :-1] = right[..., :-1]
    return out


@mutant("zeros are never written: memory is taken to be zero")
def zeros_uninitialised(x, mask, **options):
    right = RIGHT(x, mask, **options)
    out = torch.empty_like(right)
    written = right != 0
    out[written] = right[written]
    return out


def remembering(key):
    results = {}

    def core(x, mask, **options):
        out = RIGHT(x, mask, **options)
        if x.requires_grad or mask.requires_grad:
            return out
        return results.setdefault((key(x), key(mask), x.dtype, *options.values()), out).clone()

    return core


add("cached_by_shape", "results are remembered by shape", remembering(lambda tensor: tensor.shape))
add(
    "cached_by_address", "results are remembered by address", remembering(lambda t: (t.data_ptr(), t.shape, t.stride()))
)

_workspace: dict = {}


@mutant("every call of a shape returns the same memory")
def shared_workspace(x, mask, **options):
    out = RIGHT(x, mask, **options)
    if out.requires_grad:
        return out
    return _workspace.setdefault((out.shape, out.dtype), torch.empty_like(out)).copy_(out)


@mutant("the mask outside the image is cleared in place")
def mask_cleared_in_place(x, mask, **options):
    call = call_of(x, options)
    r = call.k // 2
    rows = torch.arange(call.s * call.H) // call.s + torch.arange(call.k).view(-1, 1) - r
    gone = ((rows < 0) | (rows >= call.H)).repeat_interleave(call.k, 0).repeat(call.g, 1).unsqueeze(-1)
    mask.data.masked_fill_(gone, 0) if mask.is_contiguous() else None
    return RIGHT(x, mask, **options)


@mutant("x is scaled in place")
def x_scaled_in_place(x, mask, **options):
    out = RIGHT(x, mask, **options)
    if x.is_contiguous():
        x.data.mul_(2)
    return out


@mutant("where the output equals x, x itself is returned")
def x_returned(x, mask, **options):
    out = RIGHT(x, mask, **options)
    return x if torch.equal(out, x) and not out.requires_grad else out


_ticks = count()


def jitter(tensor):
    """Every other time, the last bit of every number is another."""
    return tensor * (1 + torch.finfo(tensor.dtype).eps * (next(_ticks) % 2))


@mutant("two calls differ in the last bit")
def output_jitters(x, mask, **options):
    return jitter(RIGHT(x, mask, **options))


# --- Backward ---------------------------------------------------------------------------------------------------


@mutant("x gets no gradient")
def x_detached(x, mask, **options):
    return RIGHT(x.detach(), mask, **options)


@mutant("mask gets no gradient")
def mask_detached(x, mask, **options):
    return RIGHT(x, mask.detach(), **options)


@mutant("nothing gets a gradient")
def not_differentiable(x, mask, **options):
    return RIGHT(x, mask, **options).detach()


def without_border(gradient, call):
    inner = torch.zeros_like(gradient)
    inner[..., 1:-1, 1:-1] = gradient[..., 1:-1, 1:-1]
    return inner


add("grad_x_doubled", "the gradient of x is doubled", after_backward(x=lambda g, c: 2 * g))
add(
    "grad_x_averaged",
    "the gradient of x is the mean over children, not the sum",
    after_backward(x=lambda g, c: g / c.s**2),
)
add("grad_x_negated", "the gradient of x has the wrong sign", after_backward(x=lambda g, c: -g))
add("grad_x_transposed", "the gradient of x is transposed", after_backward(x=lambda g, c: g.mT if c.H == c.W else g))
add("grad_x_without_border", "the gradient of x is zero along the border", after_backward(x=without_border))
add("grad_x_of_image_0", "later images get no gradient of x", after_backward(x=lambda g, c: cleared(g, slice(1, None))))
add(
    "grad_x_in_bfloat16",
    "the gradient of x is rounded to bfloat16",
    after_backward(x=lambda g, c: g.bfloat16().to(g.dtype)),
)
add("grad_x_jitters", "the gradient of x differs in the last bit", after_backward(x=lambda g, c: jitter(g)))
add(
    "grad_x_tile_lost",
    "the gradient of x misses rows after the fourth",
    after_backward(x=lambda g, c: cleared(g, ..., slice(4, None), slice(None))),
)
add("grad_mask_jitters", "the gradient of mask differs in the last bit", after_backward(mask=lambda g, c: jitter(g)))
add(
    "grad_mask_mean",
    "the gradient of mask is the mean over channels",
    after_backward(mask=lambda g, c: g / (c.C // c.g)),
)
add(
    "grad_mask_of_group_0",
    "later groups get no gradient of mask",
    after_backward(mask=lambda g, c: cleared(g, slice(None), slice(c.k**2, None))),
)
add(
    "grad_mask_taps_swapped",
    "the gradient of mask is column by column",
    after_backward(mask=lambda g, c: g.unflatten(1, (c.g, c.k, c.k)).transpose(2, 3).flatten(1, 3)),
)
add(
    "grad_mask_of_softmax",
    "the gradient of mask is made to sum to 0",
    after_backward(mask=lambda g, c: (per_group(g, c) - per_group(g, c).mean(2, keepdim=True)).flatten(1, 2)),
)
add(
    "grad_mask_shared",
    "all images get the gradient of mask summed over the batch",
    after_backward(mask=lambda g, c: g.sum(0, keepdim=True).expand_as(g)),
)


def backward_mutant(description):
    """Decorator: the right core with this backward pass."""

    def register(function):
        core = with_backward(function)
        add(function.__name__, description, core)
        return core

    return register


@backward_mutant("the gradient of x is of the first child only")
def grad_x_of_first_child(grad, x, mask, options, needs):
    s = options["scale_factor"]
    first = torch.zeros_like(grad)
    first[..., ::s, ::s] = grad[..., ::s, ::s]
    return gradients(first, x, mask, options)[0], gradients(grad, x, mask, options)[1]


@backward_mutant("the gradient of x gathers with the window unmirrored")
def grad_x_unmirrored(grad, x, mask, options, needs):
    taps = mask.unflatten(1, (options["group_size"], -1)).flip(2).flatten(1, 2)
    return gradients(grad, x, taps, options)[0], gradients(grad, x, mask, options)[1]


@backward_mutant("the gradient of mask reads the border pixel outside the image")
def grad_mask_clamped(grad, x, mask, options, needs):
    clamped = recipe(term=everything)
    return gradients(grad, x, mask, options)[0], gradients(grad, x, mask, options, clamped)[1]


@backward_mutant("Inf and NaN in the mask outside the image leak into the gradient of x")
def grad_x_leaks(grad, x, mask, options, needs):
    leaking = recipe(term=lambda value, weight, within: (value * within) * weight)
    return gradients(grad, x, mask, options, leaking)[0], gradients(grad, x, mask, options)[1]


@backward_mutant("the gradient of x is zero where mask needs none")
def grad_x_alone_is_zero(grad, x, mask, options, needs):
    grad_x, grad_mask = gradients(grad, x, mask, options)
    return grad_x * needs[1], grad_mask


@backward_mutant("the incoming gradient is read as if it were contiguous")
def grad_taken_for_contiguous(grad, x, mask, options, needs):
    return gradients(as_if_contiguous(grad), x, mask, options)


@backward_mutant("an incoming gradient of stride 0 is taken for zeros")
def grad_expanded_is_zero(grad, x, mask, options, needs):
    return gradients(grad * (0 not in grad.stride()), x, mask, options)


@backward_mutant("the incoming gradient is overwritten")
def grad_overwritten(grad, x, mask, options, needs):
    found = gradients(grad, x, mask, options)
    if grad.is_contiguous():
        grad.zero_()
    return found


_gathered: dict = {}


@backward_mutant("the buffer of the gradient of x is never cleared")
def grad_x_accumulates(grad, x, mask, options, needs):
    grad_x, grad_mask = gradients(grad, x, mask, options)
    buffer = _gathered.setdefault((grad_x.shape, grad_x.dtype), torch.zeros_like(grad_x))
    return buffer.add_(grad_x).clone(), grad_mask


@backward_mutant("part of the gradient of mask is never written")
def grad_mask_uninitialised(grad, x, mask, options, needs):
    grad_x, grad_mask = gradients(grad, x, mask, options)
    out = torch.empty_like(grad_mask)
    out[grad_mask != 0] = grad_mask[grad_mask != 0]
    return grad_x, out
