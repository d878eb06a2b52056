"""Ways to compute the reassembly at a stride: core(x, mask, *, kernel_size, group_size, stride).

x (N, C, H, W), mask (N, g*k*k, Ho, Wo) -> (N, C, Ho, Wo), Ho = ceil(H / stride). All keep the rule that a tap outside
the image contributes nothing, whatever the mask holds there.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from opbench.kernels.twice import asked_again, first_derivative
from opbench.operators.common.choice import CoreTable
from opbench.operators.common.exporting import recording
from opbench.schema import Implementation

_SUMS = {torch.float16: torch.float32, torch.bfloat16: torch.float32}


def unfold(x: Tensor, mask: Tensor, *, kernel_size: int, group_size: int, stride: int) -> Tensor:
    """As pasted modules compute it: every window is written to memory, k*k*C elements an output pixel.

    Their zero padding times an infinite mask would be NaN, hence the step they lack: the mask of taps outside is
    cleared.
    """
    N, C, _, _ = x.shape
    k, g = kernel_size, group_size
    rows, columns = mask.shape[2:]
    windows = F.unfold(x, k, padding=k // 2, stride=stride).view(N, g, C // g, k * k, rows, columns)
    weights = _cleared(x, mask, k, g, stride)
    return torch.einsum("ngkhw,ngckhw->ngchw", weights, windows).reshape(N, C, rows, columns)


def shift_add(x: Tensor, mask: Tensor, *, kernel_size: int, group_size: int, stride: int) -> Tensor:
    """One multiply-accumulate over the output for each tap; nothing is unfolded.

    x is copied once, with its border, into stride x stride phases, in each of which a tap's pixels lie side by side.
    float16 and bfloat16 accumulate in float32. Saves x and mask for backward, and nothing else. While a call is
    recorded for another runtime, strided slices of x take the phases' place.
    """
    if recording():
        return _sliced(x, mask, kernel_size, group_size, stride)
    out: Tensor = _PhaseShiftAdd.apply(x, mask, kernel_size, group_size, stride)  # type: ignore[no-untyped-call]
    return out


def _cleared(x: Tensor, mask: Tensor, k: int, g: int, s: int) -> Tensor:
    """mask as (N, g, k*k, Ho, Wo), 0 where a tap is outside the image."""
    H, W = x.shape[2:]
    rows, columns = mask.shape[2:]

    def outside(size: int, count: int) -> Tensor:
        at = torch.arange(count, device=x.device) * s + torch.arange(k, device=x.device).unsqueeze(1) - k // 2
        return (at < 0) | (at >= size)

    lost = outside(H, rows).view(k, 1, rows, 1) | outside(W, columns).view(1, k, 1, columns)
    cleared: Tensor = mask.unflatten(1, (g, k * k)).masked_fill(lost.flatten(0, 1), 0)
    return cleared


def _sliced(x: Tensor, mask: Tensor, k: int, g: int, s: int) -> Tensor:
    """Plain operations whose sizes all come of the inputs: what is outside is known by an image of ones."""
    r = k // 2
    dtype = _SUMS.get(x.dtype, x.dtype)
    border, (height, width) = (r, r, r, r), x.shape[2:]
    wide, ones = F.pad(x.to(dtype), border), F.pad(torch.ones_like(x[:1, :1], dtype=dtype), border)
    weights = mask.to(dtype)

    def taken(image: Tensor, iy: int, ix: int) -> Tensor:
        return image[:, :, iy : iy + height : s, ix : ix + width : s]

    blocks = zip(wide.chunk(g, 1), weights.chunk(g, 1), strict=True)
    parts = []
    for block, own in blocks:
        terms = [
            taken(block, iy, ix) * torch.where(taken(ones, iy, ix) > 0, own[:, tap : tap + 1], 0.0)
            for tap, (iy, ix) in enumerate(product(range(k), repeat=2))
        ]
        parts.append(functools.reduce(torch.add, terms))
    return torch.cat(parts, 1).to(x.dtype)


class _PhaseTap(NamedTuple):
    """One tap: its number, the phase of x that it reads, and from which row and column of that."""

    number: int
    phase: tuple[int, int]
    row: int
    column: int


class _PhasePlan:
    """Sizes of one call, and x with its border in phases (s, s, N, g, C/g, rows, columns)."""

    def __init__(self, x: Tensor, mask: Tensor, k: int, g: int, s: int) -> None:
        self.k, self.g, self.s, self.r = k, g, s, k // 2
        self.N, self.C, self.H, self.W = (int(size) for size in x.shape)
        self.rows, self.columns = (int(size) for size in mask.shape[2:])
        self.sums = x.new_empty(0, dtype=_SUMS.get(x.dtype, x.dtype))
        # A phase holds what the last window reaches, and all of the image.
        self.high, self.wide = (
            max(-(-(size + self.r) // s), count + (k - 1) // s)
            for size, count in ((self.H, self.rows), (self.W, self.columns))
        )

    def taps(self) -> Iterator[_PhaseTap]:
        """All of them, row by row."""
        for number, (iy, ix) in enumerate(product(range(self.k), repeat=2)):
            yield _PhaseTap(number, (iy % self.s, ix % self.s), iy // self.s, ix // self.s)

    def phases(self) -> Tensor:
        """Zeros for x with its border."""
        return self.sums.new_zeros(self.s, self.s, self.N, self.g, self.C // self.g, self.high, self.wide)

    def image(self, phases: Tensor) -> Tensor:
        """The phases side by side, as an image with a border: (N, C, s*rows, s*columns), a copy."""
        together = phases.permute(2, 3, 4, 5, 0, 6, 1)
        return together.reshape(self.N, self.C, self.s * self.high, self.s * self.wide)

    def filled(self, x: Tensor) -> Tensor:
        """The phases of x."""
        right, below = self.s * self.wide - self.W - self.r, self.s * self.high - self.H - self.r
        bordered = F.pad(x.to(self.sums.dtype), (self.r, right, self.r, below))
        apart = bordered.reshape(self.N, self.g, self.C // self.g, self.high, self.s, self.wide, self.s)
        return apart.permute(4, 6, 0, 1, 2, 3, 5).contiguous()

    def window(self, phases: Tensor, tap: _PhaseTap) -> Tensor:
        """What a tap reads for all output pixels: a view (N, g, C/g, Ho, Wo)."""
        rows, columns = slice(tap.row, tap.row + self.rows), slice(tap.column, tap.column + self.columns)
        return phases[tap.phase][..., rows, columns]


class _PhaseShiftAdd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, k: int, g: int, s: int) -> Tensor:
        ctx.save_for_backward(x, mask)
        ctx.settings = k, g, s
        plan = _PhasePlan(x, mask, k, g, s)
        phases, weights = plan.filled(x), _cleared(x, mask, k, g, s).to(plan.sums.dtype)
        total = plan.sums.new_zeros(plan.N, g, plan.C // g, plan.rows, plan.columns)
        for tap in plan.taps():
            total.addcmul_(plan.window(phases, tap), weights[:, :, tap.number : tap.number + 1])
        return total.flatten(1, 2).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, mask = ctx.saved_tensors
        k, g, s = ctx.settings
        if asked_again():
            needed = ctx.needs_input_grad[:2]
            again = first_derivative(lambda x, mask: _sliced(x, mask, k, g, s), grad, (x, mask), needed)
            return *again, None, None, None
        plan = _PhasePlan(x, mask, k, g, s)
        wanted = grad.to(plan.sums.dtype).unflatten(1, (g, plan.C // g))
        grad_x = grad_mask = None
        if ctx.needs_input_grad[0]:
            phases, weights = plan.phases(), _cleared(x, mask, k, g, s).to(plan.sums.dtype)
            for tap in plan.taps():
                plan.window(phases, tap).addcmul_(wanted, weights[:, :, tap.number : tap.number + 1])
            r = plan.r
            grad_x = plan.image(phases)[..., r : r + plan.H, r : r + plan.W].to(x.dtype).contiguous()
        if ctx.needs_input_grad[1]:
            phases = plan.filled(x)
            products = [(wanted * plan.window(phases, tap)).sum(2) for tap in plan.taps()]
            grad_mask = _cleared(x, torch.stack(products, 2).flatten(1, 2), k, g, s).flatten(1, 2).to(mask.dtype)
        return grad_x, grad_mask, None, None, None


CORES = CoreTable(
    Implementation("unfold", unfold, note="as pasted: every window is written to memory"),
    Implementation("shift-add", shift_add, note="a multiply-accumulate a tap over phases of x; nothing is unfolded"),
    fallback="shift-add",
)
