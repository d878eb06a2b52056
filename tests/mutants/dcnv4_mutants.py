"""Wrong DCNv4 modules, one small change each to a right forward pass, that gate and checker must convict.

Each is also an attribute of this module, a class with the constructor of DCNv4, so that
`opbench check tests/mutants/dcnv4_mutants.py:masks_softmaxed --operator dcnv4` names one.
"""

import torch
import torch.nn.functional as F

from opbench.operators.dcnv3.cores import gather
from opbench.operators.dcnv4 import DCNv4


def forward(
    parts=lambda numbers, points: (numbers[..., : 2 * points], numbers[..., 2 * points :]),
    regroup=lambda numbers, group: numbers.unflatten(-1, (group, -1)),
    pairs=lambda pairs: pairs,
    weights=lambda masks: masks,
    source=lambda m, x, value: x,
    predict=lambda layer, features: layer(features),
    image=lambda value: value,
    project=lambda m, x: m.value_proj(x),
    out=lambda m, y: m.output_proj(y),
    changed=None,
):
    """The forward pass, but for the steps given; images channels last, or channels first if the module says so."""

    def run(m, x, shape=None):
        x = x if m.channels_last else x.permute(0, 2, 3, 1)
        value = x if m.without_pointwise else project(m, x)
        features = m.features(source(m, x, value))
        points, group = m.settings.points, m.group
        numbers = predict(m.offset_mask, features)[..., : 3 * group * points]
        offset, mask = parts(regroup(numbers, group), points)
        offset = pairs(offset.unflatten(-1, (-1, 2))).flatten(-3)
        options = {**m.settings.options, **(changed(m) if changed else {})}
        sampled = gather(image(value), offset.contiguous(), weights(mask).flatten(-2).contiguous(), **options)
        if m.center_feature_scale:
            weight, bias = m.center_feature_scale_proj_weight, m.center_feature_scale_proj_bias
            scale = F.linear(sampled, weight, bias).sigmoid().repeat_interleave(m.channels // group, -1)
            sampled = sampled * (1 - scale) + value * scale
        y = sampled if m.without_pointwise else out(m, sampled)
        return y if m.channels_last else y.permute(0, 3, 1, 2)

    return run


def all_offsets_first(numbers, group):
    """As DCNv2 and DCNv3 lay theirs out: the offsets of all groups, then the masks of all."""
    third = numbers.shape[-1] // 3
    both = numbers[..., : 2 * third].unflatten(-1, (group, -1)), numbers[..., 2 * third :].unflatten(-1, (group, -1))
    return torch.cat(both, -1)


def groups_first(numbers, group):
    return numbers.unflatten(-1, (-1, group)).transpose(-1, -2)


def triples(numbers, points):
    """(x, y, mask) point by point."""
    by_point = numbers.unflatten(-1, (points, 3))
    return by_point[..., :2].flatten(-2), by_point[..., 2]


def transposed(pairs):
    """Points counted y first, as DCNv2's."""
    k = round(pairs.shape[-2] ** 0.5)
    return pairs.unflatten(-2, (k, k)).transpose(-2, -3).flatten(-3, -2) if k * k == pairs.shape[-2] else pairs.flip(-2)


def of_image_0(value):
    return value[:1].expand_as(value)


def past_64(m, y):
    return torch.cat((y[..., :64], y[..., 64:] * 0.99), -1) if y.shape[-1] > 64 else y


MUTANTS = {
    "masks_softmaxed": ("masks normalised as DCNv3's", forward(weights=lambda v: v.softmax(-1))),
    "masks_sigmoid": ("masks by sigmoid as DCNv2's", forward(weights=lambda v: v.sigmoid())),
    "masks_doubled": ("twice the sigmoid", forward(weights=lambda v: 2 * v.sigmoid())),
    "masks_ignored": ("every sample counts a Pth", forward(weights=lambda v: torch.full_like(v, 1 / v.shape[-1]))),
    "masks_relu": ("negative masks are 0", forward(weights=lambda v: v.relu())),
    "masks_reversed": ("masks in reverse order of the points", forward(weights=lambda v: v.flip(-1))),
    "masks_detached": ("no gradient for masks", forward(weights=lambda v: v.detach())),
    "masks_before_offsets": ("[P masks | 2P offsets]", forward(parts=lambda v, p: (v[..., p:], v[..., :p]))),
    "triples": ("(x, y, mask) point by point", forward(parts=triples)),
    "all_offsets_first": ("offsets of all groups before all masks", forward(regroup=all_offsets_first)),
    "groups_fastest": ("groups count faster than numbers", forward(regroup=groups_first)),
    "first_group_for_all": ("every group samples where the first does",
                            forward(regroup=lambda v, g: v.unflatten(-1, (g, -1))[..., :1, :].expand(
                                *v.shape[:-1], g, v.shape[-1] // g))),
    "x_and_y_exchanged": ("pairs (y, x)", forward(pairs=lambda v: v.flip(-1))),
    "points_transposed": ("offsets of points by rows", forward(pairs=transposed)),
    "offsets_ignored": ("a rigid window", forward(pairs=lambda v: v * 0)),
    "offsets_negated": ("offsets the other way", forward(pairs=lambda v: -v)),
    "offsets_detached": ("no gradient for offsets", forward(pairs=lambda v: v.detach())),
    "offsets_clamped": ("offsets within a pixel", forward(pairs=lambda v: v.clamp(-1, 1))),
    "half_a_pixel": ("samples half a pixel to the right", forward(pairs=lambda v: v + torch.tensor([0.5, 0]).to(v))),
    "first_image_for_all": ("every image samples the first", forward(image=of_image_0)),
    "unprojected": ("x is sampled, not its projection", forward(project=lambda m, x: x)),
    "predicted_from_values": ("offsets and masks predicted from the projected input",
                              forward(source=lambda m, x, value: value)),
    "bias_missing": ("no bias of offsets and masks", forward(predict=lambda layer, v: F.linear(v, layer.weight))),
    "output_unprojected": ("no output projection", forward(out=lambda m, y: y)),
    "dim_past_64": ("a hundredth less from channel 64 on", forward(out=lambda m, y: past_64(m, m.output_proj(y)))),
}  # fmt: skip
RIGHT = forward()


def __getattr__(name):
    if name not in MUTANTS:
        raise AttributeError(name)
    description, wrong = MUTANTS[name]
    return type(name, (DCNv4,), {"__doc__": description, "forward": wrong})
