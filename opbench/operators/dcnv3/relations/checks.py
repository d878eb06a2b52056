"""The checks behind DCNv3's relations, each with its mathematics.

Axes: x (N, H, W, C), offset (N, Ho, Wo, G*P*2), mask (N, Ho, Wo, G*P), output (N, Ho, Wo, C).
Notation: output pixel (v, u), stride s, dilation d, offset scale a, half = d(k - 1) // 2. Point p = i k + j, x outer,
with offset (o_x, o_y) lies at X = us - pad + half + (id - half + o_x) a, and Y likewise with v and j.

Almost all relations are bounded: an implementation may normalise a location, and then even a whole one is rounded. The
bound knows how far (`dcnv3_terms`). Where two sides need offsets computed from each other, both are exact in any dtype.

Longer than 300 lines because the relations share this notation; each is a function of a few lines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from opbench.conformance.comparing import close, run, same
from opbench.conformance.oracle import Oracle, answers, title
from opbench.conformance.strategies import noise_like
from opbench.operators.dcnv2 import cores as dcnv2_cores
from opbench.operators.dcnv3.definition import dcnv3_definition
from opbench.operators.dcnv3.relations.examples import half, locations, pairs, points, steps
from opbench.operators.dcnv3.terms import dcnv3_terms
from opbench.relations import Core, Example
from opbench.schema import Terms


def magnitude(example: Example, grad_output: Tensor | None) -> dict[str, Terms]:
    """The definition's `Terms`. Without gradients the mask is scaled: a huge one's terms overflow where sums do not."""
    x, offset, mask = (example.tensors[name] for name in ("x", "offset", "mask"))
    peak = _peak(mask) if grad_output is None else 1.0
    terms = dcnv3_terms(x, offset, mask / peak, grad_output, **example.options)
    if peak == 1.0:
        return terms
    return {
        name: Terms(of.total * peak, of.count, of.slack, None if of.coordinates is None else of.coordinates * peak)
        for name, of in terms.items()
    }


def _peak(values: Tensor) -> float:
    """The largest absolute value, at least 1."""
    return max(1.0, float(values.abs().max())) if values.numel() else 1.0


_ORACLE = Oracle(dcnv3_definition, magnitude)


def _compare(got: Tensor, expected: Tensor, example: Example, what: str = "output", *, sides: int = 2) -> None:
    close(got.cpu(), expected.cpu(), _ORACLE.terms(example)["output"], example, what, sides=sides)


def is_the_definition(core: Core, example: Example) -> None:
    """|core - definition| <= c eps sum|terms| for the output and every gradient."""
    grad_output = noise_like(_ORACLE.output(example), seed=1).to(example.tensors["x"])
    _ORACLE.close_answers(answers(core, example, grad_output), example, grad_output)


# --- What simple offsets do -------------------------------------------------------------------------------------


def one_hot_is_a_shift(core: Core, example: Example) -> None:
    """o = 0, a = 1, mask 1 at point (i, j), else 0: out(v, u) = x(vs - pad + jd, us - pad + id), zero outside."""
    tensors, options = _exact(example), example.options
    point = int(tensors["mask"][0, 0, 0, : points(options)].argmax())
    i, j = ((step + half(options)) for step in steps(options)[point].long().tolist())
    s, (height, width) = options["stride"], tensors["mask"].shape[1:3]
    padded = _padded(tensors["x"], options["pad"])
    _compare(run(core, example), padded[:, j : j + height * s : s, i : i + width * s : s], example, sides=1)


def uniform_mask_is_average_pooling(core: Core, example: Example) -> None:
    """o = 0, a = 1, d = 1, mask 1/k^2: out = avg_pool(x, k, s, pad), zeros counted (count_include_pad)."""
    tensors, options = _exact(example), example.options
    images = _padded(tensors["x"], options["pad"]).permute(0, 3, 1, 2)
    pooled = F.avg_pool2d(images, options["kernel_size"], options["stride"]).permute(0, 2, 3, 1)
    # In half precision 1/k^2 is rounded.
    weight = tensors["mask"].flatten()[0] * options["kernel_size"] ** 2
    _compare(run(core, example), pooled * weight, example, sides=1)


def constant_mask_is_a_convolution(core: Core, example: Example) -> None:
    """o = 0, a = 1, mask(v, u) = w everywhere: out = depthwise convolution of x with kernel w^T, rows being y."""
    mask = example.tensors["mask"]
    call = example.replace(mask=mask[:1, :1, :1].expand_as(mask).contiguous())
    x, options = _exact(call)["x"], call.options
    k, group = options["kernel_size"], options["group"]
    weight = torch.zeros(group, k, k, dtype=torch.float64)
    at = (steps(options).long() + half(options)) // options["dilation"]
    weight[:, at[:, 1], at[:, 0]] = _exact(call)["mask"][0, 0, 0].view(group, -1)
    weight = weight.repeat_interleave(x.shape[-1] // group, 0).unsqueeze(1)
    geometry: dict[str, Any] = {"stride": options["stride"], "padding": options["pad"], "dilation": options["dilation"]}
    expected = F.conv2d(x.permute(0, 3, 1, 2), weight, groups=x.shape[-1], **geometry).permute(0, 2, 3, 1)
    _compare(run(core, call), expected, call, sides=1)


def kernel_of_one_is_a_product(core: Core, example: Example) -> None:
    """k = 1, s = 1, pad = 0, o = 0: out = x * mask, group by group."""
    tensors = _exact(example)
    _compare(run(core, example), tensors["x"] * _per_channel(tensors["mask"], example), example, sides=1)


def whole_locations_are_pixels(core: Core, example: Example) -> None:
    """X and Y whole: out(v, u) = sum of m x(Y, X) over the points, zero outside."""
    columns, lines = locations(example)
    samples = _read(_exact(example)["x"], lines, columns, example)
    _compare(run(core, example), _weighted(samples, example), example, sides=1)


def half_locations_are_means(core: Core, example: Example) -> None:
    """X and Y halfway between pixels: each sample is the mean of the four around it, zeros among them."""
    columns, lines = locations(example)
    images = _padded(_exact(example)["x"], 1).permute(0, 3, 1, 2)
    means = F.avg_pool2d(images, 2, 1).permute(0, 2, 3, 1)
    samples = _read(means, lines + 0.5, columns + 0.5, example)
    _compare(run(core, example), _weighted(samples, example), example, sides=1)


def constant_image_gives_coverage(core: Core, example: Example) -> None:
    """x = c everywhere: a sample is c min(1, X + 1, W - X) min(1, Y + 1, H - Y), and 0 where that is negative.

    The four bilinear weights sum to one; of those outside the image nothing remains.
    """
    x = example.tensors["x"]
    call = example.replace(x=x[:, :1, :1].expand_as(x).contiguous())
    columns, lines = locations(call)
    covered = torch.ones_like(columns)
    for at, size in ((columns, x.shape[2]), (lines, x.shape[1])):
        covered = covered * torch.minimum(at + 1, size - at).clamp(0, 1)
    weights = (_exact(call)["mask"].view_as(covered) * covered).sum(-1)
    expected = _exact(call)["x"][:, :1, :1] * _per_channel(weights, call)
    _compare(run(core, call), expected, call, sides=1)


def planes_are_reproduced(core: Core, example: Example) -> None:
    """x(r, q) = 4 + 2q + r, inside the image: a sample is 4 + 2X + Y, for bilinear interpolation is exact on planes.

    Points outside get mask 0, and channels are multiples of one plane.
    """
    _, height, width, channels = example.tensors["x"].shape
    columns, lines = locations(example)
    inside = (columns >= 0) & (columns <= width - 1) & (lines >= 0) & (lines <= height - 1)
    mask = example.tensors["mask"].cpu() * inside.flatten(3)
    factor = 1 + torch.arange(channels, dtype=torch.float64) % 3
    rows = torch.arange(height, dtype=torch.float64).view(-1, 1, 1)
    plane = (4 + 2 * torch.arange(width, dtype=torch.float64).view(-1, 1) + rows) / 16 * factor
    x = plane.expand_as(example.tensors["x"]).contiguous()
    call = example.replace(x=x.to(example.tensors["x"]), mask=mask.to(example.tensors["mask"]))
    samples = torch.where(inside, (4 + 2 * columns + lines) / 16, 0)
    weighted = (_exact(call)["mask"].view_as(samples) * samples).sum(-1)
    _compare(run(core, call), _per_channel(weighted, call) * factor, call, sides=1)


# --- One call is another ----------------------------------------------------------------------------------------


def scale_is_a_change_of_offsets(core: Core, example: Example) -> None:
    """(id - half + o) a = id - half + o' for o' = a o + (a - 1)(id - half): the scale moves the base grid too."""
    a, grid = example.options["offset_scale"], steps(example.options)
    moved = a * pairs(example).double().cpu() + (a - 1) * grid
    plain = example.replace({"offset_scale": 1.0}, offset=moved.flatten(3).to(example.tensors["offset"]))
    _compare(run(core, example), run(core, plain), example)


def stride_subsamples(core: Core, example: Example) -> None:
    """Stride s takes every s-th output of stride 1, with every s-th offset and mask."""
    whole = run(core, example)
    terms = _ORACLE.terms(example)["output"]
    for s in (2, 3):
        every = (slice(None), slice(None, None, s), slice(None, None, s))
        parts = {name: example.tensors[name][every].contiguous() for name in ("offset", "mask")}
        strided = example.replace({"stride": s}, **parts)
        close(run(core, strided).cpu(), whole[every].cpu(), _part(terms, every), strided, f"output of stride {s}")


def padding_is_zeros(core: Core, example: Example) -> None:
    """pad pixels of zeros around x, and pad = 0."""
    padded = _padded(example.tensors["x"], example.options["pad"])
    _compare(run(core, example), run(core, example.replace({"pad": 0}, x=padded)), example)


def equals_deformable_convolution_v2(core: Core, example: Example) -> None:
    """a = 1: DCNv2 with groups of offsets G and each channel its own unit weights, on points by rows and pairs (y, x).

    Its place for tap (row j, column i) is (vs - pad + jd + o_y, us - pad + id + o_x).
    """
    tensors, options = _exact(example), example.options
    k, group, channels = options["kernel_size"], options["group"], tensors["x"].shape[-1]
    by_rows = pairs(example).double().cpu().unflatten(4, (k, k)).transpose(4, 5).flip(-1).flatten(3)
    mask = tensors["mask"].unflatten(3, (group, k, k)).transpose(4, 5).flatten(3)
    unit = torch.eye(channels, dtype=torch.float64).view(channels, channels, 1, 1).expand(-1, -1, k, k)
    first = (0, 3, 1, 2)
    x, offset, weights = (value.permute(first).contiguous() for value in (tensors["x"], by_rows, mask))
    geometry = {name: options[name] for name in ("stride", "pad", "dilation", "group")}
    expected = dcnv2_cores.grid_sample(x, offset, weights, unit, **geometry).permute(0, 2, 3, 1)
    _compare(run(core, example), expected, example)


def removed_centre_weighs_nothing(core: Core, example: Example) -> None:
    """remove_center: the full kernel with mask 0 at its middle point, wherever that one's offset points."""
    options = example.options
    middle = points(options) // 2

    def with_middle(values: Tensor, value: float) -> Tensor:
        filler = torch.full_like(values[..., :1, :], value)
        return torch.cat((values[..., :middle, :], filler, values[..., middle:, :]), -2).flatten(3)

    mask = example.tensors["mask"].unflatten(3, (options["group"], -1)).unsqueeze(-1)
    full = example.replace(
        {"remove_center": False}, offset=with_middle(pairs(example), 0.25), mask=with_middle(mask, 0)
    )
    _compare(run(core, example), run(core, full), example)


def groups_are_calls(core: Core, example: Example) -> None:
    """core(G groups) = concatenation of G calls, each on its block of channels, offsets and masks."""
    group = example.options["group"]
    blocks = {name: value.chunk(group, -1) for name, value in example.tensors.items()}
    parts = []
    for g in range(group):
        alone = {name: block[g].contiguous() for name, block in blocks.items()}
        parts.append(run(core, example.replace({"group": 1}, **alone)))
    _compare(run(core, example), torch.cat(parts, -1), example)


def groups_permute(core: Core, example: Example) -> None:
    """Blocks of x, offset and mask in another order give the blocks of the output in that order."""
    group = example.options["group"]

    def rolled(value: Tensor) -> Tensor:
        out: Tensor = value.unflatten(-1, (group, -1)).roll(1, -2).flatten(-2)
        return out

    moved = Example({name: rolled(value) for name, value in example.tensors.items()}, example.options)
    _compare(run(core, moved), rolled(run(core, example)), moved)


def channels_permute(core: Core, example: Example) -> None:
    """Channels of a group are sampled alike: in reverse order they give the output in reverse order."""
    group = example.options["group"]

    def reversed_(value: Tensor) -> Tensor:
        out: Tensor = value.unflatten(-1, (group, -1)).flip(-1).flatten(-2)
        return out

    moved = example.replace(x=reversed_(example.tensors["x"]))
    _compare(run(core, moved), reversed_(run(core, example)), moved)


# --- Symmetries -------------------------------------------------------------------------------------------------


def translates(core: Core, example: Example) -> None:
    """x one pixel further right and down, zero where it came from, and every offset 1/a more: the same output."""
    a, x = example.options["offset_scale"], example.tensors["x"].clone()
    x[:, -1], x[:, :, -1] = 0, 0
    start = example.replace(x=x)
    moved = example.replace(x=x.roll((1, 1), (1, 2)), offset=example.tensors["offset"] + 1 / a)
    _compare(run(core, moved), run(core, start), moved)


def mirrors(core: Core, example: Example) -> None:
    """s = 1: x mirrored, points i -> k - 1 - i, o -> (1/a - 1) r - o with r = d(k - 1) mod 2: the output mirrored.

    For W - 1 - X(u) is the location X(Wo - 1 - u) of the mirrored point; r is there since half rounds down.
    """
    options = example.options
    k, a = options["kernel_size"], options["offset_scale"]
    r = options["dilation"] * (k - 1) % 2
    plain = run(core, example)
    for axis, name in ((2, "horizontally"), (1, "vertically")):
        component = 2 - axis
        order = _reordered(options, _flip_of(k, component))
        moved = pairs(example).flip(axis)[..., order, :].clone()
        moved[..., component] = (1 / a - 1) * r - moved[..., component]
        mask = example.tensors["mask"].unflatten(3, (options["group"], -1)).flip(axis)[..., order]
        call = example.replace(x=example.tensors["x"].flip(axis), offset=moved.flatten(3), mask=mask.flatten(3))
        _compare(run(core, call), plain.flip(axis), call, f"output of what is mirrored {name}")


def transposes(core: Core, example: Example) -> None:
    """Rows for columns in x, offset and mask, (o_y, o_x) for (o_x, o_y) and point (j, i) for (i, j): transposed."""
    order = _reordered(example.options, lambda i, j: (j, i))
    offset = pairs(example).transpose(1, 2)[..., order, :].flip(-1).flatten(3)
    mask = example.tensors["mask"].unflatten(3, (example.options["group"], -1)).transpose(1, 2)[..., order].flatten(3)
    call = example.replace(x=example.tensors["x"].transpose(1, 2).contiguous(), offset=offset, mask=mask)
    _compare(run(core, call), run(core, example).transpose(1, 2), call)


# --- Edges ------------------------------------------------------------------------------------------------------


def outside_is_nothing(core: Core, example: Example) -> None:
    """X or Y far outside for every sample: the output is 0, and so are all gradients."""
    for name, value in answers(core, example).items():
        same(value, torch.zeros_like(value), example, f"{title(name)} where all samples are outside")


def is_continuous(core: Core, example: Example) -> None:
    """|core(o + h) - core(o)| <= sum |m| a (|h_x| + |h_y|) 2 max|x|, across whole locations and borders alike.

    Bilinear interpolation is continuous, and no steeper than its largest step between neighbours.
    """
    x, offset = example.tensors["x"], example.tensors["offset"]
    steepest = 2 * float(x.double().abs().max()) * abs(example.options["offset_scale"])
    here = run(core, example)
    step = max(2.0**-10, 8 * torch.finfo(offset.dtype).eps)
    for h in (step, -step):
        near = example.replace(offset=offset + h)
        moved = (pairs(near).double() - pairs(example).double()).abs().sum(-1).cpu()
        rise = (_exact(example)["mask"].view_as(moved).abs() * moved).sum(-1) * steepest
        terms = _ORACLE.terms(near)["output"]
        allowing = Terms(terms.total, terms.count, _per_channel(rise, example), terms.coordinates)
        close(run(core, near).cpu(), here.cpu(), allowing, near, f"output for offsets moved by {h:g}")


def leaves_odd_offsets_alone(core: Core, example: Example) -> None:
    """NaN and infinite offsets count for nothing, but they are the caller's: no call replaces them."""
    offset = example.tensors["offset"].clone()
    run(core, example.replace(offset=offset))
    same(offset, example.tensors["offset"], example, "offset after the call")


def has_repeatable_offset_gradients(core: Core, example: Example) -> None:
    """Each offset and each mask has one output pixel, so their gradients need no atomics: the same bits every time."""
    first = answers(core, example)
    second = answers(core, example)
    for name in ("offset", "mask"):
        same(second[name], first[name], example, f"{title(name)}, the second time")


# --- Parts of the checks ----------------------------------------------------------------------------------------


def _exact(call: Example) -> dict[str, Tensor]:
    return {name: value.detach().double().cpu() for name, value in call.tensors.items()}


def _padded(x: Tensor, pad: int) -> Tensor:
    return F.pad(x, (0, 0, pad, pad, pad, pad))


def _per_channel(values: Tensor, call: Example) -> Tensor:
    """(N, Ho, Wo, G) -> (N, Ho, Wo, C): each group's value for each of its channels."""
    return values.repeat_interleave(call.tensors["x"].shape[-1] // call.options["group"], -1)


def _read(images: Tensor, lines: Tensor, columns: Tensor, call: Example) -> Tensor:
    """images (N, H, W, C) at whole lines and columns (N, Ho, Wo, G, P) -> (N, Ho, Wo, G, P, C/G), zero outside."""
    batch, height, width, _ = images.shape
    inside = (lines >= 0) & (lines < height) & (columns >= 0) & (columns < width)
    n = torch.arange(batch).view(-1, 1, 1, 1, 1)
    g = torch.arange(call.options["group"]).view(-1, 1)
    line, column = torch.where(inside, lines, 0).long(), torch.where(inside, columns, 0).long()
    samples: Tensor = images.unflatten(-1, (call.options["group"], -1))[n, line, column, g]
    return samples * inside.unsqueeze(-1)


def _weighted(samples: Tensor, call: Example) -> Tensor:
    """(N, Ho, Wo, G, P, C/G) -> (N, Ho, Wo, C): the sum over points, weighted by the mask."""
    mask = _exact(call)["mask"].view(samples.shape[:-1])
    out: Tensor = (samples * mask.unsqueeze(-1)).sum(-2).flatten(3)
    return out


def _flip_of(k: int, component: int) -> Callable[[int, int], tuple[int, int]]:
    """(i, j) -> the point mirrored in x (component 0) or in y."""
    return (lambda i, j: (k - 1 - i, j)) if component == 0 else (lambda i, j: (i, k - 1 - j))


def _reordered(options: Any, other: Callable[[int, int], tuple[int, int]]) -> list[int]:
    """For every point (i, j) in order, the number of the point other(i, j)."""
    at = ((steps(options).long() + half(options)) // options["dilation"]).tolist()
    return [at.index(list(other(i, j))) for i, j in at]


def _part(terms: Terms, index: tuple[slice, ...]) -> Terms:
    coordinates = None if terms.coordinates is None else terms.coordinates[index]
    return Terms(terms.total[index], terms.count, None, coordinates)
