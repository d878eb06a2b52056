"""An operator in one file: Wander (Liu et al. 2023, arXiv 2308.15085), static scope, as a user would add it.

    opbench run --suite smoke --task upsample2x --with tests/an_operator.py

It is deformable in a slot that isn't, has a setting of its own and a constant buffer, and computes in two ways, one
of them with a backward pass by hand. Nothing else in opbench knows its name.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from opbench import Cost, Drawing, Implementation, Operator, Relation, Violation, register_operator

SCALE = 2


def start() -> Tensor:
    """(2, s*s): where the children of a pixel sit around its centre, x then y, in input pixels."""
    step = (torch.arange(SCALE, dtype=torch.float64) + 0.5) / SCALE - 0.5
    rows, columns = torch.meshgrid(step, step, indexing="ij")
    return torch.stack([columns.flatten(), rows.flatten()])


class Wander(nn.Module):
    """x (N, C, H, W) -> (N, C, 2H, 2W): every output pixel samples the input where a 1x1 convolution points."""

    def __init__(self, channels, groups=4, implementation=None):
        super().__init__()
        self.groups = groups
        self.implementation = implementation or grid_sample
        self.offset = nn.Conv2d(channels, 2 * groups * SCALE * SCALE, 1)
        self.register_buffer("start", start().float())

    def forward(self, x):
        N, _, H, W = x.shape
        offset = 0.25 * self.offset(x).view(N, 2, self.groups, SCALE**2, H, W) + self.start.view(1, 2, 1, -1, 1, 1)
        offset = F.pixel_shuffle(offset.flatten(1, 3), SCALE).view(N, 2, self.groups, SCALE * H, SCALE * W)
        return self.implementation(x, offset)


def centres(offset, H, W):
    """px, py (N, G, 2H, 2W): sampling locations in input pixels."""
    rows = torch.arange(H, dtype=offset.dtype, device=offset.device).repeat_interleave(SCALE).view(-1, 1)
    columns = torch.arange(W, dtype=offset.dtype, device=offset.device).repeat_interleave(SCALE)
    return columns + offset[:, 0], rows + offset[:, 1]


def grid_sample(x, offset):
    """x (N, C, H, W), offset (N, 2, G, 2H, 2W) in input pixels -> (N, C, 2H, 2W)."""
    N, C, H, W = x.shape
    G = offset.shape[2]
    px, py = centres(offset.to(torch.promote_types(x.dtype, torch.float32)), H, W)
    grid = torch.stack([(2 * px + 1) / W - 1, (2 * py + 1) / H - 1], -1).flatten(0, 1)
    grouped = x.reshape(N * G, C // G, H, W).to(grid.dtype)
    sampled = F.grid_sample(grouped, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled.view(N, C, SCALE * H, SCALE * W).to(x.dtype)


class Gathered(torch.autograd.Function):
    """The four corners gathered, and their gradients scattered by hand."""

    @staticmethod
    def corners(x, px, py):
        N, C, H, W = x.shape
        G = px.shape[1]
        inside_x, inside_y = (px > 0) & (px < W - 1), (py > 0) & (py < H - 1)
        px, py = px.clamp(0, W - 1), py.clamp(0, H - 1)
        left, top = torch.floor(px), torch.floor(py)
        pixels = x.reshape(N, G, C // G, H * W)
        for dy in (0, 1):
            for dx in (0, 1):
                at = (top + dy).clamp(0, H - 1) * W + (left + dx).clamp(0, W - 1)
                index = at.long().flatten(2).unsqueeze(2).expand(-1, -1, C // G, -1)
                weight_x = (px - left) if dx else 1 - (px - left)
                weight_y = (py - top) if dy else 1 - (py - top)
                yield (
                    pixels.gather(3, index),
                    index,
                    weight_x,
                    weight_y,
                    (2 * dx - 1) * inside_x,
                    (2 * dy - 1) * inside_y,
                )

    @staticmethod
    def forward(ctx, x, px, py):
        ctx.save_for_backward(x, px, py)
        total = 0
        for values, _, weight_x, weight_y, *_ in Gathered.corners(x, px, py):
            total = total + values * (weight_x * weight_y).flatten(2).unsqueeze(2)
        N, C, H, W = x.shape
        return total.reshape(N, C, SCALE * H, SCALE * W)

    @staticmethod
    def backward(ctx, grad):
        x, px, py = ctx.saved_tensors
        N, C, H, W = x.shape
        G = px.shape[1]
        grad = grad.reshape(N, G, C // G, -1)
        grad_x, grad_px, grad_py = grad.new_zeros(N, G, C // G, H * W), 0, 0
        for values, index, weight_x, weight_y, sign_x, sign_y in Gathered.corners(x, px, py):
            grad_x.scatter_add_(3, index, grad * (weight_x * weight_y).flatten(2).unsqueeze(2))
            along = (grad * values).sum(2).view_as(px)
            grad_px, grad_py = grad_px + along * weight_y * sign_x, grad_py + along * weight_x * sign_y
        return grad_x.view_as(x), grad_px, grad_py


def gather(x, offset):
    """The same, by `Gathered`."""
    wide = torch.promote_types(x.dtype, torch.float32)
    px, py = centres(offset.to(wide), *x.shape[2:])
    return Gathered.apply(x.to(wide), px, py).to(x.dtype)


def definition(dims, tensors, training):
    """Bilinear samples of the image, continued at its border, where the offsets point."""
    x, G = tensors["x"], dims["groups"]
    N, C, H, W = x.shape
    raw = (x.movedim(1, -1) @ tensors["offset.weight"].flatten(1).T + tensors["offset.bias"]).movedim(-1, 1)
    offset = 0.25 * raw.reshape(N, 2, G, SCALE**2, H, W) + tensors["start"].view(1, 2, 1, -1, 1, 1)
    offset = F.pixel_shuffle(offset.flatten(1, 3), SCALE).view(N, 2, G, SCALE * H, SCALE * W)
    px, py = centres(offset, H, W)
    px, py = px.clamp(0, W - 1), py.clamp(0, H - 1)
    left, top = torch.floor(px), torch.floor(py)
    pixels = x.reshape(N, G, C // G, H * W)
    total = x.new_zeros(N, G, C // G, SCALE * H * SCALE * W)
    for dy in (0, 1):
        for dx in (0, 1):
            weight = ((py - top) if dy else 1 - (py - top)) * ((px - left) if dx else 1 - (px - left))
            cell = (top + dy).clamp(0, H - 1) * W + (left + dx).clamp(0, W - 1)
            index = cell.long().flatten(2).unsqueeze(2).expand_as(total)
            total = total + pixels.gather(3, index) * weight.flatten(2).unsqueeze(2)
    return total.view(N, C, SCALE * H, SCALE * W)


def cost(dims):
    """A 1x1 convolution, and four products for each sampled value; backward twice as many."""
    pixels, C = dims["N"] * dims["H"] * dims["W"], dims["C"]
    wide = 2 * dims["groups"] * SCALE**2
    params, sampled = wide * C + wide, SCALE**2 * C
    return Cost(
        params=params,
        macs=pixels * (wide * C + 4 * sampled),
        macs_backward=pixels * (2 * wide * C + 8 * sampled),
        elements=pixels * (C + sampled) + params,
    )


def prepare(module, dims, spread, generator, x):
    """Offsets that deviate by `spread` pixels on x."""
    with torch.no_grad():
        module.offset.weight.normal_(generator=generator)
        module.offset.bias.zero_()
        module.offset.weight *= spread / (0.25 * module.offset(x)).std()


def shown(shot, image):
    """A picture of where the samples start."""
    dots = (f'<circle cx="{50 + 80 * x}" cy="{50 + 80 * y}" r="3"/>' for x, y in start().T.tolist())
    return Drawing("Wander", "where the samples of a pixel start", 100, 100, tuple(dots))


def a_constant_image_stays(core, example):
    """x = 1: every sample, wherever it lies, is 1, up to the rounding of its weights."""
    out = core(**{**example.tensors, "x": torch.ones_like(example.tensors["x"])}, **example.options)
    off = float((out - 1).abs().max())
    if off > 8 * torch.finfo(out.dtype).eps:
        raise Violation(f"output: expected 1 everywhere, got one that is {off:.3g} off", example)


@torch.library.custom_op("an_operator::sampled", mutates_args=())
def sampled(x: Tensor, offset: Tensor) -> Tensor:
    """As one operation that counts, and computes nothing."""
    N, C, H, W = x.shape
    return x.new_zeros(N, C, SCALE * H, SCALE * W)


@torch.library.custom_op("an_operator::sampled_backward", mutates_args=())
def sampled_backward(grad: Tensor, x: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """Both gradients."""
    return torch.zeros_like(x), torch.zeros_like(offset)


@sampled.register_fake
def _(x, offset):
    N, C, H, W = x.shape
    return x.new_empty(N, C, SCALE * H, SCALE * W)


@sampled_backward.register_fake
def _(grad, x, offset):
    return torch.empty_like(x), torch.empty_like(offset)


sampled.register_autograd(
    lambda ctx, grad: sampled_backward(grad, *ctx.saved_tensors),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)


def _forward(arguments):
    N, C, H, W = arguments[0]
    return 4 * N * C * SCALE**2 * H * W


register_operator(
    Operator(
        name="wander",
        task="upsample2x",
        title="Wander (static scope)",
        source="Liu et al. 2023, arXiv 2308.15085",
        module=lambda dims, implementation: Wander(dims["C"], dims["groups"], implementation.function),
        definition=definition,
        cost=cost,
        settings={"groups": 4},
        draws={"groups": (4, 1, 2)},
        deformable=True,
        prepare=prepare,
        requires=lambda dims: (
            f"C={dims['C']} is no multiple of groups={dims['groups']}" if dims["C"] % dims["groups"] else None
        ),
        implementations={
            "grid-sample": Implementation("grid-sample", grid_sample),
            "gather": Implementation("gather", gather),
        },
        preferred=("gather",),
        classes=(Wander,),
        counting=Implementation("counting", lambda x, offset: sampled(x, offset)),
        formulas={"an_operator::sampled": _forward, "an_operator::sampled_backward": lambda a: 2 * _forward(a[1:])},
        relations=lambda: (Relation("constant-image", "bounded", "x = 1: out = 1", a_constant_image_stays),),
        show=shown,
    )
)
