"""Claims that a computation from the definitions decides, in float64 on small seeded inputs: alike on any machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from opbench import registry
from opbench.analyse.claims.nouns import Claim, Document, Finding, everywhere, times
from opbench.build import Built, build
from opbench.operators.dcnv3.definition import dcnv3_definition
from opbench.schema import Case, Dims

# The four children of the input's central pixel: a rival's reach may differ between them.
CHILDREN = ((0, 0), (0, 1), (1, 0), (1, 1))
GROUPS, CHANNELS, SIZE, POINTS = 4, 16, 12, 9


def reach(claim: Claim, baseline: str, given: Sequence[Document]) -> Finding:
    """How many input pixels the gradient of one output pixel touches."""
    ours, theirs = (_reach(claim.task, name, claim.dims[0]) for name in (claim.subject, baseline))
    words = f"an output pixel of {claim.subject} depends on {ours} input pixels, one of {baseline} on {theirs}"
    return Finding(claim.holds(ours / theirs, ours / theirs), words)


def content(claim: Claim, baseline: str, given: Sequence[Document]) -> Finding:
    """How much the derivative of an output pixel differs between two images, of its size."""
    ours, theirs = (_change(claim.task, name, claim.dims[0]) for name in (claim.subject, baseline))
    words = (
        f"between two images what an output pixel takes of each input pixel (its derivative) changes by "
        f"{100 * ours:.3g} % in {claim.subject}, by {100 * theirs:.3g} % in {baseline}"
    )
    return Finding("confirmed" if ours > 1e-6 and theirs == 0 else "refuted", words)


def modules(claim: Claim, baseline: str, given: Sequence[Document]) -> Finding:
    """The share of the closed form's MACs that lie in convolutions and linear layers that the module calls."""
    found, words = [], []
    for dims in claim.dims:
        built = _built(claim.task, claim.subject, {"H": SIZE, "W": SIZE, **dims})
        seen = seen_by_modules(built.module, built.inputs)
        whole = built.operator.cost(registry.given(built.case)).macs
        found.append(claim.holds(seen / whole, seen / whole))
        words.append(f"{100 * seen / whole:.3g} % at {' '.join(f'{name}={value}' for name, value in dims.items())}")
    return Finding(everywhere(found), f"MACs in convolutions and linear layers: {'; '.join(words)}")


def seen_by_modules(module: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """MACs of the convolutions and linear layers called, by their shapes alone: what a table of rules by class sees."""
    seen = 0

    def count(layer: nn.Module, _: object, out: Tensor) -> None:
        nonlocal seen
        weight = layer.weight
        assert isinstance(weight, Tensor)
        # One output element is the sum of one filter's products, whatever stands before it in the shape.
        seen += out.numel() * (weight.numel() // weight.shape[0])

    layers = [layer for layer in module.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    handles = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        module(*inputs)
    for handle in handles:
        handle.remove()
    return seen


def groups(claim: Claim, baseline: str, given: Sequence[Document]) -> Finding:
    """Which channels change when the points of the first group are moved."""
    many, one = _moved(GROUPS), _moved(1)
    words = (
        f"moving the first group's points changes {many} of {CHANNELS} channels with {GROUPS} groups, "
        f"{one} of {CHANNELS} with one; a further group costs 27(C + 1) parameters and 27C MACs per pixel"
    )
    return Finding("confirmed" if many == CHANNELS // GROUPS and one == CHANNELS else "refuted", words)


def output_range(claim: Claim, baseline: str, given: Sequence[Document]) -> Finding:
    """The largest output in units of the input's largest magnitude, under either normalisation of the same logits."""
    softmax = _largest(lambda logits: logits.softmax(-1))
    sigmoid = _largest(torch.sigmoid)
    words = (
        f"the largest output is {times(softmax)} the input's largest magnitude under softmax, {times(sigmoid)} under "
        f"sigmoid (the {POINTS} weights sum to 1 there, to anything up to {POINTS} here)"
    )
    bounded = softmax <= 1 + 1e-12 < sigmoid
    return Finding("confirmed" if bounded else "refuted", words)


def _reach(task: str, operator: str, dims: Dims) -> int:
    return max(int((row.abs().sum(1) > 0).sum()) for row in _jacobians(task, operator, dims, 0))


def _change(task: str, operator: str, dims: Dims) -> float:
    first, second = (torch.stack(_jacobians(task, operator, dims, seed)) for seed in (0, 1))
    return float((first - second).norm() / first.norm())


def _jacobians(task: str, operator: str, dims: Dims, image: int) -> list[Tensor]:
    """d(output pixel) / dx, (1, C, H, W), for the children of the central pixel; image `image`, parameters fixed."""
    built = _built(task, operator, dims)
    x = torch.randn(built.tensors["x"].shape, generator=torch.Generator().manual_seed(image), dtype=torch.float64)
    x.requires_grad_()
    out = built.operator.definition(registry.given(built.case), {**built.tensors, "x": x}, False)
    row, column = (size // x_size * (x_size // 2) for size, x_size in zip(out.shape[2:], x.shape[2:], strict=True))
    return [
        torch.autograd.grad(out[0, 0, row + down, column + right], x, retain_graph=True)[0] for down, right in CHILDREN
    ]


def _built(task: str, operator: str, dims: Dims) -> Built:
    """The operator with its first implementation, in float64 on the CPU."""
    dims = registry.tasks()[task].given({"N": 1, **dims})
    name = next(iter(registry.operator(task, operator).implementations))
    return build(Case(task, "claims", operator, name, dims, "float64", "cpu", "inference"))


def _moved(group: int) -> int:
    """Channels of the output that change when the offsets of group 0 do."""
    x, offset, logits = _sampling(group)
    other = offset.clone()
    other[..., : 2 * POINTS] += 0.75
    mask = logits.softmax(-1).flatten(-2)
    before, after = (_sample(x, moved, mask, group) for moved in (offset, other))
    return int(((before - after).abs().amax((0, 1, 2)) > 0).sum())


def _largest(normalised: Callable[[Tensor], Tensor]) -> float:
    """Over random images, offsets and logits, and an even image whose logits are all large, which sigmoid passes on."""
    x, offset, logits = _sampling(GROUPS)
    even = (torch.ones_like(x), torch.zeros_like(offset), torch.full_like(logits, 6.0))
    found = 0.0
    for image, moved, raw in ((x, offset, logits), even):
        out = _sample(image, moved, normalised(raw).flatten(-2), GROUPS)
        found = max(found, float(out.abs().max() / image.abs().max()))
    return found


def _sampling(group: int) -> tuple[Tensor, Tensor, Tensor]:
    """x (1, H, W, C), offset (1, H, W, G*P*2), logits (1, H, W, G, P), standard normal, offsets of two pixels."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(1, SIZE, SIZE, *shape, generator=generator, dtype=torch.float64)

    return normal(CHANNELS), 2 * normal(group * POINTS * 2), normal(group, POINTS)


def _sample(x: Tensor, offset: Tensor, mask: Tensor, group: int) -> Tensor:
    return dcnv3_definition(x, offset, mask, kernel_size=3, stride=1, pad=1, dilation=1, group=group)
