"""Wrong DySample modules, one small change each to a right forward pass, that gate and checker must convict.

Each is also an attribute of this module, a class with the constructor of DySample, so that
`opbench check tests/mutants/dysample_mutants.py:x_and_y_exchanged --operator dysample` names one.
"""

import torch
import torch.nn.functional as F

from opbench.operators.dysample import DySample


def forward(
    predict=lambda layer, x: layer(x),
    scope=None,
    start=lambda m: m.init_pos,
    moved=lambda moves: moves,
    unshuffle=F.pixel_unshuffle,
    shuffle=F.pixel_shuffle,
    size=lambda W, H: (W, H),
    dtype=torch.float32,
    image=lambda images: images,
    border="border",
    mode="bilinear",
    aligned=False,
    half=0.5,
    dealt=False,
    out=lambda y: y,
):
    """The forward pass, but for the steps given."""

    def run(m, x):
        (N, _, H, W), s, g = x.shape, m.scale, m.groups
        wide = torch.promote_types(x.dtype, dtype) if dtype is torch.float32 else dtype
        features = F.pixel_shuffle(x, s) if m.style == "pl" else x
        moves = predict(m.offset, features).to(wide)
        if scope:
            moves = moves * scope(m, features)
        elif m.scope is None:
            moves = moves * 0.25
        else:
            moves = moves * m.scope(features).to(wide).sigmoid() * 0.5
        moves = unshuffle(moves, s) if m.style == "pl" else moves
        moves = moved(moves + start(m)).view(N, 2, -1, H, W)
        like = {"dtype": wide}
        columns, rows = torch.arange(W, **like) + half, (torch.arange(H, **like) + half).view(-1, 1)
        across, down = size(W, H)
        grid = torch.stack((2 * (columns + moves[:, 0]) / across - 1, 2 * (rows + moves[:, 1]) / down - 1), 1)
        grid = shuffle(grid.view(N, -1, H, W), s).view(N, 2, g, s * H, s * W).permute(0, 2, 3, 4, 1).flatten(0, 1)
        images = x.unflatten(1, (-1, g)).transpose(1, 2) if dealt else x.unflatten(1, (g, -1))
        images = image(images).flatten(0, 1).to(grid.dtype)
        y = F.grid_sample(images, grid, mode=mode, padding_mode=border, align_corners=aligned).unflatten(0, (N, g))
        y = y.transpose(1, 2) if dealt else y
        return out(y.flatten(1, 2).to(x.dtype))

    return run


def exchanged(moves):
    return torch.cat(moves.chunk(2, 1)[::-1], 1)


def of_image_0(moves):
    return moves[:1].expand_as(moves)


def crossed(grid, s):
    return F.pixel_shuffle(grid.unflatten(1, (-1, s, s)).transpose(2, 3).flatten(1, 3), s)


def children_first(grid, s):
    return F.pixel_shuffle(grid.unflatten(1, (s * s, -1)).transpose(1, 2).flatten(1, 2), s)


def unshuffled_children_first(moves, s):
    return F.pixel_unshuffle(moves, s).unflatten(1, (-1, s * s)).transpose(1, 2).flatten(1, 2)


def past_64(y):
    return torch.cat((y[:, :64], y[:, 64:] * 0.99), 1)


def unbiased(layer, x):
    return F.conv2d(x, layer.weight)


STATIC, DYNAMIC, PL, WIDE, HALF = {}, {"dyscope": True}, {"style": "pl"}, {"C": 72}, {"dtype": "bfloat16", "W": 40}
# By name: what is wrong, the forward pass, and where it shows.
MUTANTS = {
    "x_and_y_exchanged": ("offsets are (y, x)", forward(moved=exchanged), STATIC),
    "sizes_exchanged": ("columns are normalised by the height", forward(size=lambda W, H: (H, W)), STATIC),
    "half_a_pixel_off": ("pixels' corners for their centres", forward(half=0.0), STATIC),
    "corners_aligned": ("grid_sample aligns corners, the grid doesn't", forward(aligned=True), STATIC),
    "normalised_for_aligned": ("the grid aligns corners", forward(size=lambda W, H: (W - 1, H - 1)), STATIC),
    "zeros_outside": ("zeros outside for the border", forward(border="zeros"), STATIC),
    "reflected": ("reflected borders", forward(border="reflection"), STATIC),
    "nearest": ("the nearest pixel", forward(mode="nearest"), STATIC),
    "without_start": ("all children of a pixel start at its centre", forward(start=lambda m: 0.0), STATIC),
    "start_crossed": ("starts are (y, x)", forward(start=lambda m: exchanged(m.init_pos)), STATIC),
    "start_doubled": ("starts in output pixels", forward(start=lambda m: 2 * m.init_pos), STATIC),
    "scope_of_half": ("0.5 for the static 0.25", forward(scope=lambda m, x: 0.5), STATIC),
    "scope_missing": ("offsets as predicted", forward(scope=lambda m, x: 1.0), STATIC),
    "children_crossed": ("rows and columns of children exchanged", forward(shuffle=crossed), STATIC),
    "children_first": ("children count slower than groups", forward(shuffle=children_first), STATIC),
    "channels_dealt": ("channels dealt to the groups in turn", forward(dealt=True), STATIC),
    "first_group_for_all": ("every group samples the first's channels",
                            forward(image=lambda v: v[:, :1].expand_as(v)), STATIC),
    "first_image_for_all": ("every image samples where the first does", forward(moved=of_image_0), STATIC),
    "first_image_sampled": ("every image samples the first", forward(image=lambda v: v[:1].expand_as(v)), STATIC),
    "bias_missing": ("no bias of offsets", forward(predict=unbiased), STATIC),
    "offsets_detached": ("no gradient for offsets", forward(moved=lambda v: v.detach()), STATIC),
    "x_detached": ("x gets its gradient from the offsets alone", forward(image=lambda v: v.detach()), STATIC),
    "offsets_clamped": ("offsets within half a pixel", forward(moved=lambda v: v.clamp(-0.5, 0.5)), STATIC),
    "dim_past_64": ("a hundredth less from channel 64 on", forward(out=past_64), WIDE),
    "scope_unhalved": ("sigmoid alone", forward(scope=lambda m, x: m.scope(x).sigmoid()), DYNAMIC),
    "scope_linear": ("half the scope without sigmoid", forward(scope=lambda m, x: m.scope(x) * 0.5), DYNAMIC),
    "scope_ignored": ("0.25 whatever the scope", forward(scope=lambda m, x: 0.25), DYNAMIC),
    "pl_children_first": ("unshuffled with children slower than groups",
                          forward(unshuffle=unshuffled_children_first), PL),
    "located_in_half": ("locations in bfloat16, as published", forward(dtype=torch.bfloat16), HALF),
}  # fmt: skip
RIGHT = forward()


def __getattr__(name):
    if name not in MUTANTS:
        raise AttributeError(name)
    description, wrong, _ = MUTANTS[name]
    return type(name, (DySample,), {"__doc__": description, "forward": wrong})
