"""Planted bugs in the gradients of DCNv3's core: its output is right.

Every mutant is also an attribute of this module, to be named on the command line.
"""

from types import SimpleNamespace

import torch
from dcnv3_sampler import RIGHT, Mutant

GRADIENT_MUTANTS: dict[str, Mutant] = {}


class _Altered(torch.autograd.Function):
    """The right output, and gradients that `change` turns into others."""

    @staticmethod
    def forward(ctx, x, offset, mask, settings, change):
        ctx.save_for_backward(x, offset, mask)
        ctx.settings, ctx.change = settings, change
        return RIGHT(x, offset, mask, **settings)

    @staticmethod
    def backward(ctx, grad):
        leaves = [value.detach().requires_grad_() for value in ctx.saved_tensors]
        with torch.enable_grad():
            out = RIGHT(*leaves, **ctx.settings)
        gradients = dict(zip(("x", "offset", "mask"), torch.autograd.grad(out, leaves, grad), strict=True))
        tensors = dict(zip(("x", "offset", "mask"), (leaf.detach() for leaf in leaves), strict=True))
        gradients |= ctx.change(gradients, tensors, grad, SimpleNamespace(**ctx.settings))
        wanted = ctx.needs_input_grad[:3]
        return (*(gradients[name] if ask else None for name, ask in zip(gradients, wanted, strict=True)), None, None)


def wrong_gradient(name, description, change):
    """change(gradients, tensors, grad_output, settings) -> the gradients that come out wrong."""

    def function(x, offset, mask, **settings):
        return _Altered.apply(x, offset, mask, settings, change)

    GRADIENT_MUTANTS[name] = Mutant(name, description, function)


def detached(name):
    def function(x, offset, mask, **settings):
        tensors = {"x": x, "offset": offset, "mask": mask}
        return RIGHT(**{**tensors, name: tensors[name].detach()}, **settings)

    return function


for tensor in ("x", "offset", "mask"):
    GRADIENT_MUTANTS[f"no_gradient_of_{tensor}"] = Mutant(
        f"no_gradient_of_{tensor}", f"{tensor} is detached", detached(tensor)
    )
    wrong_gradient(
        f"zero_gradient_of_{tensor}",
        f"the gradient of {tensor} is zero",
        lambda g, t, grad, s, tensor=tensor: {tensor: torch.zeros_like(g[tensor])},
    )
    wrong_gradient(
        f"scaled_gradient_of_{tensor}",
        f"the gradient of {tensor} is three percent too large",
        lambda g, t, grad, s, tensor=tensor: {tensor: g[tensor] * 1.03},
    )
    wrong_gradient(
        f"unrepeatable_gradient_of_{tensor}",
        f"the gradient of {tensor} differs in its last bits from run to run",
        lambda g, t, grad, s, tensor=tensor: {
            tensor: g[tensor] * (1 + torch.finfo(g[tensor].dtype).eps * (torch.rand_like(g[tensor]) > 0.5))
        },
    )


def _pairs(value):
    return value.unflatten(-1, (-1, 2))


def _near_border(tensors, settings):
    """Which offset components belong to samples left of or above the first pixel."""
    c = SimpleNamespace(**vars(settings), N=tensors["x"].shape[0], Ho=tensors["offset"].shape[1])
    c.Wo, c.G = tensors["offset"].shape[2], settings.group
    at = torch.stack(RIGHT.locations(c, RIGHT.split(c, tensors["offset"].double(), 2)), -1)
    return (((at > -1) & (at < 0)).any(-1, keepdim=True).expand_as(at)).flatten(3)


wrong_gradient(
    "offset_gradient_not_scaled",
    "the gradient of offset lacks the factor offset_scale",
    lambda g, t, grad, s: {"offset": g["offset"] / s.offset_scale},
)
wrong_gradient(
    "offset_gradient_yx",
    "the gradient of offset as (y, x)",
    lambda g, t, grad, s: {"offset": _pairs(g["offset"]).flip(-1).flatten(-2)},
)
wrong_gradient(
    "offset_gradient_negated",
    "the gradient of offset has the wrong sign",
    lambda g, t, grad, s: {"offset": -g["offset"]},
)
wrong_gradient(
    "offset_gradient_unmasked",
    "the gradient of offset lacks the mask",
    lambda g, t, grad, s: {
        "offset": g["offset"]
        / t["mask"].repeat_interleave(2, -1).masked_fill(t["mask"].repeat_interleave(2, -1) == 0, 1)
    },
)
wrong_gradient(
    "offset_gradient_lost_at_border",
    "no gradient of offset for samples between -1 and 0",
    lambda g, t, grad, s: {"offset": g["offset"].masked_fill(_near_border(t, s), 0)},
)
wrong_gradient(
    "x_gradient_lost_at_border",
    "the last column of x gets no gradient",
    lambda g, t, grad, s: {"x": torch.cat((g["x"][:, :, :-1], torch.zeros_like(g["x"][:, :, -1:])), 2)},
)
wrong_gradient(
    "x_gradient_of_last_image",
    "the gradients of x of all images are added to the last one's",
    lambda g, t, grad, s: {"x": torch.cat((g["x"][:-1], g["x"].sum(0, keepdim=True)))[: len(g["x"])]},
)
wrong_gradient(
    "mask_gradient_averaged",
    "the gradient of mask divided by the channels of a group",
    lambda g, t, grad, s: {"mask": g["mask"] / (t["x"].shape[-1] // s.group)},
)
wrong_gradient(
    "mask_gradient_of_softmax",
    "the gradient of mask centred over the points, as if softmax were part of the core",
    lambda g, t, grad, s: {
        "mask": (
            g["mask"].unflatten(-1, (s.group, -1)) - g["mask"].unflatten(-1, (s.group, -1)).mean(-1, keepdim=True)
        ).flatten(-2)
    },
)
wrong_gradient(
    "mask_gradient_of_first_group",
    "every group of the mask gets the first one's gradient",
    lambda g, t, grad, s: {
        "mask": g["mask"].unflatten(-1, (s.group, -1))[..., :1, :].expand(-1, -1, -1, s.group, -1).flatten(-2)
    },
)


def _scaled_in_place(g, t, grad, s):
    grad.mul_(2)
    return {}


wrong_gradient(
    "gradient_written_to",
    "the backward pass scales the incoming gradient in place",
    _scaled_in_place,
)
wrong_gradient(
    "gradients_in_half",
    "gradients rounded to half precision on their way",
    lambda g, t, grad, s: {name: value.half().to(value.dtype) for name, value in g.items()},
)

globals().update({name: mutant.function for name, mutant in GRADIENT_MUTANTS.items()})
