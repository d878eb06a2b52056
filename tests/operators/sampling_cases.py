"""Drawn calls of DCNv3's core, and what an implementation answers to them."""

from dataclasses import dataclass

import torch
from hypothesis import assume, settings
from hypothesis import strategies as st

# A fifth of the profile's examples: each evaluates the definition and its gradients many times over.
FEW = settings(max_examples=settings.default.max_examples // 5)
FAR = 50.0


@dataclass(frozen=True)
class Call:
    """Shapes, settings and a seed: everything a call of the core is made of."""

    batch: int
    height: int
    width: int
    depth: int
    settings: dict
    spread: float
    seed: int

    @property
    def output_size(self):
        s = self.settings
        window = s["dilation"] * (s["kernel_size"] - 1) + 1
        return tuple((size + 2 * s["pad"] - window) // s["stride"] + 1 for size in (self.height, self.width))

    def tensors(self, dtype=torch.float64):
        """x, offset, mask and the output's gradient. Locations keep 2e-3 pixels away from whole numbers."""
        generator = torch.Generator().manual_seed(self.seed)
        group, scale = self.settings["group"], self.settings["offset_scale"]
        points = self.settings["kernel_size"] ** 2 - self.settings["remove_center"]
        lead = (self.batch, *self.output_size)
        x = torch.randn(self.batch, self.height, self.width, self.depth * group, generator=generator)
        moved = torch.randn(*lead, group, points, 2, generator=generator, dtype=torch.float64) * self.spread
        # The location is a whole number plus (step + offset) * scale; step * scale may end in one half.
        whole = (moved * 2).floor()
        moved = whole / 2 + (moved - whole / 2).clamp(2e-3, 0.5 - 2e-3) if self.spread else moved
        offset = (moved / scale).flatten(3)
        mask = torch.randn(*lead, group * points, generator=generator)
        grad = torch.randn(*lead, self.depth * group, generator=generator)
        return tuple(value.to(dtype) for value in (x, offset, mask, grad))


@st.composite
def calls(draw, largest_kernel=5, largest=7):
    kernel_size = draw(st.integers(1, largest_kernel))
    group = draw(st.integers(1, 3))
    call = Call(
        batch=draw(st.integers(1, 2)),
        height=draw(st.integers(1, largest)),
        width=draw(st.integers(1, largest)),
        depth=draw(st.integers(1, 3)),
        settings={
            "kernel_size": kernel_size,
            "stride": draw(st.integers(1, 2)),
            "pad": draw(st.integers(0, 3)),
            "dilation": draw(st.integers(1, 2)),
            "group": group,
            "offset_scale": draw(st.sampled_from((0.5, 1.0, 2.0))),
            "remove_center": kernel_size in (3, 5) and draw(st.booleans()),
        },
        spread=draw(st.sampled_from((0.5, 2.0, FAR))),
        seed=draw(st.integers(0, 2**16)),
    )
    assume(min(call.output_size) >= 1)
    return call


def answers(core, x, offset, mask, grad, **settings):
    """The output, and the gradients of x, offset and mask, by name."""
    leaves = {"x": x, "offset": offset, "mask": mask}
    leaves = {name: value.detach().clone().requires_grad_() for name, value in leaves.items()}
    output = core(*leaves.values(), **settings)
    gradients = torch.autograd.grad(output, list(leaves.values()), grad)
    return {"output": output.detach(), **dict(zip(leaves, gradients, strict=True))}


def one_hot_mask(x, point, points, group=1):
    """Every output pixel takes point `point` of each group alone, at the size of x."""
    mask = torch.zeros(*x.shape[:3], group, points, dtype=x.dtype)
    mask[..., point] = 1
    return mask.flatten(3)
