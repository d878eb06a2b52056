"""What every DySample kernel is held to: calls drawn for it, and the definition within the rounding of its sums."""

import torch

from opbench.operators.dysample.definition import sampling

EPS = {torch.float64: 2.0**-52, torch.float32: 2.0**-23, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}
FORMATS = (torch.contiguous_format, torch.channels_last)


def tensors(n=1, c=8, h=5, w=6, scale=2, groups=2, *, dtype=torch.float32, spread=2.0, seed=0):
    """x, offset and the output's gradient; offsets a thirty-second off sixteenths, exact everywhere."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, c, h, w, generator=generator)
    offset = spread * torch.randn(n, 2 * groups * scale**2, h, w, generator=generator)
    grad = torch.randn(n, c, scale * h, scale * w, generator=generator)
    return (
        x.to(dtype),
        ((offset * 16).round() / 16 + 1 / 32).to(torch.promote_types(dtype, torch.float32)),
        grad.to(dtype),
    )


def results(function, x, offset, grad, **options):
    """The output, and the gradients of x and offset."""
    inputs = [t.detach().requires_grad_() for t in (x, offset)]
    out = function(*inputs, **options)
    return out.detach(), *torch.autograd.grad(out, inputs, grad)


def assert_within_rounding(function, x, offset, grad, **options):
    """Within a few roundings of the terms that a result sums, and of itself, of the definition."""
    got = results(function, x, offset, grad, **options)
    expected = results(sampling, x.double(), offset.double(), grad.double(), **options)
    totals = list(results(sampling, x.double().abs(), offset.double(), grad.double().abs(), **options))
    totals[2] = torch.full_like(expected[2], float(4 * x.abs().amax() * grad.abs().sum(1).amax()))
    wide = EPS[torch.float64 if x.dtype == torch.float64 else torch.float32]
    for name, a, b, total in zip(("out", "grad x", "grad offset"), got, expected, totals, strict=True):
        kept = offset.dtype if name == "grad offset" else x.dtype
        assert (a.dtype, a.shape) == (kept, b.shape)
        bound = 32 * max(x.shape[2:]) * wide * total + EPS[kept] * b.abs() + torch.finfo(kept).tiny
        worst = ((a.double() - b).abs() / bound).max().item() if a.numel() else 0.0
        assert worst <= 1, f"{name} is off by {worst:.3g} times its bound for x {tuple(x.shape)}, {options}"
    return got
