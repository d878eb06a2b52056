"""The checks behind CARAFE's relations, each with its mathematics: x (N, C, H, W), mask (N, g*k*k, s*H, s*W)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from opbench.conformance.comparing import close, run, same
from opbench.conformance.oracle import Oracle, answers, title
from opbench.operators.carafe.definition import reassembly
from opbench.operators.carafe.relations.examples import outside, sizes
from opbench.operators.common.linear_terms import multilinear
from opbench.relations import Core, Example, Violation
from opbench.schema import Dims, Tensors, Terms


def magnitude(example: Example, grad_output: Tensor | None) -> dict[str, Terms]:
    """The definition is linear in x and in mask: its terms are summed by itself, on absolute values."""
    k, g, s = sizes(example.options)
    counts = {"output": k * k, "x": k * k * s * s, "mask": example.tensors["x"].shape[1] // g}
    terms = multilinear(_definition, lambda options: counts)
    return terms(example.options, example.tensors, grad_output)


def _definition(options: Dims, tensors: Tensors, training: bool) -> Tensor:
    return reassembly(tensors["x"], tensors["mask"], **options)


_ORACLE = Oracle(reassembly, magnitude)


# --- What simple masks do ---------------------------------------------------------------------------------------


def one_tap_is_a_shift(core: Core, example: Example) -> None:
    """mask = 1 at tap (i, j), else 0: out(Y, X) = x(Y//s + i - r, X//s + j - r), zero outside; r = k//2.

    The centre tap, i = j = r, is nearest-neighbour upsampling. All other products are zeros, which change no sum.
    """
    k, _, s = sizes(example.options)
    r = k // 2
    x = example.tensors["x"]
    height, width = x.shape[2:]
    extended = F.pad(x, (r, r, r, r))
    for tap in range(k * k):
        i, j = divmod(tap, k)
        mask = torch.zeros_like(example.tensors["mask"])
        mask[:, tap :: k * k] = 1
        got = run(core, example.replace(mask=mask))
        expected = _nearest(extended[..., i : i + height, j : j + width], s)
        same(got, expected, example.replace(mask=mask), f"output for a mask of 1 at tap ({i}, {j})")


def centre_is_nearest(core: Core, example: Example) -> None:
    """mask = 1 at the centre: out(Y, X) = x(Y//s, X//s), and at s = 1 a copy of x, not x."""
    k, _, s = sizes(example.options)
    x, mask = example.tensors["x"], torch.zeros_like(example.tensors["mask"])
    mask[:, k * k // 2 :: k * k] = 1
    call = example.replace(mask=mask)
    got = run(core, call)
    same(got, _nearest(x, s), call)
    if got.untyped_storage().data_ptr() == x.untyped_storage().data_ptr():
        raise Violation("output: expected memory of its own, got a view of x", call)


def tent_is_bilinear(core: Core, example: Example) -> None:
    """k = 3: child a lies t = (2a + 1 - s) / 2s off its parent's centre; taps weigh max(-t, 0), 1 - |t|, max(t, 0).

    Rows times columns; where a neighbour is missing the centre takes its weight, as align_corners=False does.
    """
    _, g, s = sizes(example.options)
    x, mask = example.tensors["x"], example.tensors["mask"]

    def tent(size: int) -> Tensor:
        t = (2 * torch.arange(s * size, dtype=torch.float64).remainder(s) + 1 - s) / (2 * s)
        weights = torch.stack((-t.clamp(max=0), 1 - t.abs(), t.clamp(min=0)))
        for missing, edge in ((0, slice(None, s)), (2, slice(-s, None))):
            weights[1, edge] += weights[missing, edge]
            weights[missing, edge] = 0
        return weights

    rows, columns = tent(x.shape[2]).view(3, 1, -1, 1), tent(x.shape[3]).view(1, 3, 1, -1)
    call = example.replace(mask=(rows * columns).flatten(0, 1).repeat(g, 1, 1).to(mask).expand_as(mask).contiguous())
    expected = F.interpolate(x.double(), scale_factor=s, mode="bilinear", align_corners=False)
    # Two sides: the mask's own rounding is as large as the sum's.
    close(run(core, call), expected, _ORACLE.terms(call)["output"], call)


def one_tap_kernel_is_a_product(core: Core, example: Example) -> None:
    """k = 1: out(c, Y, X) = x(c, Y//s, X//s) * mask(group of c, Y, X), one product, rounded once."""
    _, g, s = sizes(example.options)
    x, mask = example.tensors["x"], example.tensors["mask"]
    same(run(core, example), _nearest(x, s) * mask.repeat_interleave(x.shape[1] // g, 1), example)


def constant_mask_is_a_convolution(core: Core, example: Example) -> None:
    """s = 1, mask(Y, X) = w everywhere: out = depthwise cross-correlation of x with w, zero-padded."""
    k, g, _ = sizes(example.options)
    x, mask = example.tensors["x"], example.tensors["mask"]
    call = example.replace(mask=mask[:1, :, :1, :1].expand_as(mask).contiguous())
    channels = x.shape[1]
    weight = mask[0, :, 0, 0].double().view(g, 1, k, k).repeat_interleave(channels // g, 0)
    expected = F.conv2d(x.double(), weight, padding=k // 2, groups=channels)
    close(run(core, call), expected, _ORACLE.terms(call)["output"], call, sides=1)


def constant_x_is_weighed_inside(core: Core, example: Example) -> None:
    """x(c) = a everywhere: out = a * sum of the mask over the taps inside the image.

    Under a softmax mask that is a in the interior, and less than a along the border: nothing is renormalised.
    """
    _, g, _ = sizes(example.options)
    x, mask = example.tensors["x"], example.tensors["mask"]
    call = example.replace(x=x[..., :1, :1].expand_as(x).contiguous())
    weight = mask.double().masked_fill(outside(call), 0).unflatten(1, (g, -1)).sum(2)
    expected = x[..., :1, :1].double() * weight.repeat_interleave(x.shape[1] // g, 1)
    close(run(core, call), expected, _ORACLE.terms(call)["output"], call, sides=1)


def average_stays_in_range(core: Core, example: Example) -> None:
    """mask >= 0 with sum w over all taps: w min(x, 0) <= out <= w max(x, 0), min and max over the window.

    The zero stands for the taps outside. A softmax mask has w = 1 up to its own rounding.
    """
    k, g, s = sizes(example.options)
    x, mask = example.tensors["x"].double(), example.tensors["mask"].double()
    per_group = x.shape[1] // g
    sums = mask.unflatten(1, (g, -1)).sum(2).repeat_interleave(per_group, 1)
    # Zero padding for both: the pooled windows are max(x, 0) and max(-x, 0) of what is inside.
    highest = _nearest(F.max_pool2d(F.pad(x.clamp(min=0), (k // 2,) * 4), k, stride=1), s)
    lowest = -_nearest(F.max_pool2d(F.pad((-x).clamp(min=0), (k // 2,) * 4), k, stride=1), s)
    got = run(core, example)
    nearest_allowed = got.double().clamp(lowest * sums, highest * sums)
    close(got, nearest_allowed, _ORACLE.terms(example)["output"], example, sides=1)


# --- Parts of a call are calls ----------------------------------------------------------------------------------


def phases_are_calls(core: Core, example: Example) -> None:
    """Children (a, b) of all parents form an image of their own: out[a::s, b::s] = core(x, mask[a::s, b::s], s=1)."""
    s = example.options["scale_factor"]
    out, total = run(core, example), _ORACLE.terms(example)["output"]
    for a in range(s):
        for b in range(s):
            part = (..., slice(a, None, s), slice(b, None, s))
            phase = run(core, example.replace({"scale_factor": 1}, mask=example.tensors["mask"][part].contiguous()))
            close(phase, out[part], Terms(total.total[part], total.count), example, f"output of phase ({a}, {b})")


def equal_children_are_equal(core: Core, example: Example) -> None:
    """One mask for all children of a parent: out = nearest(core(x, that mask, s=1))."""
    s = example.options["scale_factor"]
    parents = example.tensors["mask"][..., ::s, ::s].contiguous()
    call = example.replace(mask=_nearest(parents, s))
    expected = _nearest(run(core, example.replace({"scale_factor": 1}, mask=parents)), s)
    close(run(core, call), expected, _ORACLE.terms(call)["output"], call)


def groups_are_calls(core: Core, example: Example) -> None:
    """core with g groups = the g calls with one group, on C/g channels and k*k taps each, one after the other."""
    g = example.options["group_size"]
    pairs = zip(example.tensors["x"].chunk(g, 1), example.tensors["mask"].chunk(g, 1), strict=True)
    parts = [run(core, example.replace({"group_size": 1}, x=x, mask=mask)) for x, mask in pairs]
    close(run(core, example), torch.cat(parts, 1), _ORACLE.terms(example)["output"], example)


def channels_are_alike(core: Core, example: Example) -> None:
    """Channels of one group may be permuted (here reversed), and groups with their masks, and the output follows."""
    g = example.options["group_size"]
    x, mask = example.tensors["x"].unflatten(1, (g, -1)), example.tensors["mask"].unflatten(1, (g, -1))
    out, total = run(core, example), _ORACLE.terms(example)["output"]

    def reversed_along(axis: int, tensor: Tensor) -> Tensor:
        flipped: Tensor = tensor.unflatten(1, (g, -1)).flip(axis)
        return flipped.flatten(1, 2)

    within = example.replace(x=x.flip(2).flatten(1, 2))
    between = example.replace(x=x.flip(1).flatten(1, 2), mask=mask.flip(1).flatten(1, 2))
    for axis, call, what in ((2, within, "channels of each group"), (1, between, "groups")):
        terms = Terms(reversed_along(axis, total.total), total.count)
        close(run(core, call), reversed_along(axis, out), terms, call, f"output for reversed {what}")


# --- Symmetries of the plane ------------------------------------------------------------------------------------


def shifts_with_its_inputs(core: Core, example: Example) -> None:
    """x moved by 1 and mask by s, down or right: the output moves by s, wherever no window meets the border."""
    k, _, s = sizes(example.options)
    out, total = run(core, example), _ORACLE.terms(example)["output"]
    for axis in (2, 3):
        moved = {"x": example.tensors["x"].roll(1, axis), "mask": example.tensors["mask"].roll(s, axis)}
        got = run(core, example.replace(None, **moved))
        start, length = k // 2 * s, (example.tensors["x"].shape[axis] - k) * s
        terms = Terms(total.total.narrow(axis, start, length), total.count)
        what = f"interior output after a shift along axis {axis}"
        close(got.narrow(axis, start + s, length), out.narrow(axis, start, length), terms, example, what)


def zero_border_changes_nothing(core: Core, example: Example) -> None:
    """A border of zeros around x, whatever the mask there: outside the image is zero, so the inside stays as it is."""
    s = example.options["scale_factor"]
    x, mask = F.pad(example.tensors["x"], (1, 1, 1, 1)), F.pad(example.tensors["mask"], (s, s, s, s), value=2.0)
    inside = run(core, example.replace(x=x, mask=mask))[..., s:-s, s:-s]
    close(inside, run(core, example), _ORACLE.terms(example)["output"], example, "output inside a border of zeros")


def mirrors_with_its_inputs(core: Core, example: Example) -> None:
    """Flip (or transpose) x, the mask's pixels and its taps alike: the output is flipped (or transposed)."""
    k, g, _ = sizes(example.options)
    x, mask = example.tensors["x"], example.tensors["mask"].unflatten(1, (g, k, k))
    out, total = run(core, example), _ORACLE.terms(example)["output"]
    mirrors: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
        "flipped up and down": (lambda image: image.flip(-2), mask.flip(2)),
        "flipped left and right": (lambda image: image.flip(-1), mask.flip(3)),
        "transposed": (lambda image: image.transpose(-1, -2).contiguous(), mask.transpose(2, 3)),
    }
    for what, (mirror, taps) in mirrors.items():
        call = example.replace(x=mirror(x), mask=mirror(taps.flatten(1, 3)))
        close(run(core, call), mirror(out), Terms(mirror(total.total), total.count), call, f"output {what}")


# --- Outside the image ------------------------------------------------------------------------------------------


def nothing_leaks_in(core: Core, example: Example) -> None:
    """A tap outside the image contributes nothing: Inf or NaN there is as good as 0, and its gradient is 0."""
    beyond = outside(example)
    clean = example.replace(mask=example.tensors["mask"].masked_fill(beyond, 0))
    expected, got = answers(core, clean), answers(core, example)
    for name, value in expected.items():
        same(got[name], value, example, title(name))
    gradient = got["mask"]
    same(gradient, gradient.masked_fill(beyond, 0), example, "gradient of mask, zero outside the image")


def _nearest(image: Tensor, s: int) -> Tensor:
    """(..., H, W) -> (..., s*H, s*W)."""
    return image.repeat_interleave(s, -2).repeat_interleave(s, -1)
