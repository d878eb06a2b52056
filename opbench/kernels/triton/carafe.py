"""CARAFE's core on CUDA, in Triton: `carafe_triton`, `carafe_triton_logits`, their operations and launches.

Axes: x (N, C, H, W), mask (N, g*k*k, s*H, s*W), logits (N, s*s*g*k*k, H, W), out (N, C, s*H, s*W). float64, float32,
and bfloat16 and float16 with sums in float32. Every tensor is read in place whatever its strides; out and x's gradient
follow x's memory format, the mask's gradient is contiguous. A tap outside the image contributes nothing, whatever the
mask holds there, and its gradient is 0. Two runs on a device agree bit for bit: no atomics.

`carafe_triton_logits` takes what the encoder returns: pixel shuffle is folded into the indices and the softmax over
the k*k taps into the kernels, so that the mask is never written. It keeps two numbers per output pixel and group for
backward.

What should bound each kernel, from their loads per multiply-add (not measured on a GPU):
- forward: in float32 memory, as one load of x feeds all s*s children and its k*k taps hit L1; in half precision the
  multiply-adds, which tensor cores don't see here.
- grad_x: L1, two loads a multiply-add at s = 1 and vectors of two or four children's gradients from s = 2 on.
- grad_mask: reductions across threads, k*k*s*s per parent and group, and for groups of more than 256 channels L1.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from opbench.kernels.carafe_shapes import channels_last, check, checked_gradients, checked_output, gradients, output
from opbench.kernels.formulas import reassembled, reassembled_from_logits
from opbench.kernels.operation import define, differentiate, refuse_forward_mode
from opbench.kernels.triton.launch import (
    DEVICES,
    Candidate,
    launch,
    power_of_two,
    spans_64_bits,
    steps_of,
    strides_of,
)
from opbench.kernels.triton.tile_table import Layout, entries
from opbench.kernels.triton.tiles import cut


def carafe_triton(x: Tensor, mask: Tensor, *, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
    """x (N, C, H, W), mask (N, g*k*k, s*H, s*W) -> (N, C, s*H, s*W), in x's memory format."""
    refuse_forward_mode("carafe_triton", x, mask)
    out: Tensor = torch.ops.opbench.carafe_triton(x, mask, kernel_size, group_size, scale_factor)
    return out


def carafe_triton_logits(x: Tensor, logits: Tensor, *, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
    """x (N, C, H, W), logits (N, s*s*g*k*k, H, W) -> (N, C, s*H, s*W): pixel shuffle, softmax over taps, core."""
    out: Tensor
    refuse_forward_mode("carafe_triton_logits", x, logits)
    out, _ = torch.ops.opbench.carafe_triton_logits(x, logits, kernel_size, group_size, scale_factor)
    return out


# --- Launches ---------------------------------------------------------------------------------------------------


# Children of a tile at most; more are shared among programs.
_CHILDREN = 4


def _stats(x: Tensor, groups: int, scale: int) -> Tensor:
    """The softmax's maxima and reciprocal sums, (2, N, g, H, W, s*s)."""
    n, _, h, w = x.shape
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return torch.empty((2, n, groups, h, w, scale * scale), dtype=dtype, device=x.device)


class _Call:
    """One problem: what its kernels share."""

    def __init__(self, x: Tensor, mask: Tensor, problem: tuple[int, int, int], fused: bool) -> None:
        check(x, mask, *problem, fused=fused)
        self.size, self.groups, self.scale = problem
        self.fused = fused
        self.x, self.mask = x, mask
        self.n, self.c, self.h, self.w = x.shape
        self.channels = self.c // self.groups

    def mask_strides(self, mask: Tensor) -> tuple[int, ...]:
        """Those of (N, g*k*k, H, s, W, s), which the mask or the logits are views of."""
        n, c, h, w = mask.stride()
        if self.fused:
            return n, c * self.scale**2, h, c * self.scale, w, c
        return n, c, h * self.scale, h, w * self.scale, w

    def tiles(self, name: str) -> list[Candidate]:
        """The candidates for a kernel, cut down to the problem: the table's choice comes first."""
        layout: Layout = "last" if channels_last(self.x) else "first"
        elements = self.x.numel() * self.scale**2
        suiting = entries(f"carafe_kernels.{name}", layout, self.x.element_size(), elements=elements, width=self.w)
        children = min(_CHILDREN, power_of_two(self.scale**2))
        found = []
        for candidate in cut(suiting, {"BC": self.channels, "BH": self.h, "BW": self.w}):
            blocks = {**candidate.blocks, "BJ": children}
            if name == "grad_mask":
                blocks["ONCE"] = int(self.channels <= blocks["BC"])
            found.append(Candidate(blocks, candidate.warps))
        return found

    def programs(self, name: str, blocks: Mapping[str, int]) -> tuple[dict[str, int], int]:
        """The arguments of a kernel that depend on its tile, and how many programs share the work."""
        columns, rows = -(-self.w // blocks["BW"]), -(-self.h // blocks["BH"])
        children = -(-(self.scale**2) // blocks["BJ"])
        channels = -(-self.channels // blocks["BC"])
        # Of x's gradient a program takes all children, of the mask's all channels.
        count = self.n * self.groups * rows * columns * (1 if name == "grad_x" else children)
        steps = channels if name == "grad_mask" else steps_of(channels, count)
        shares = channels // steps
        tiles = {"columns": columns, "tiles": rows * columns, "children": children, "shares": shares, "steps": steps}
        return tiles, count * shares

    def launch(self, name: str, tensors: Mapping[str, Tensor], out: Tensor, stats: Tensor | None) -> None:
        """Runs a kernel over x (or its gradient), the mask and out (or its gradient)."""
        from triton import language

        from opbench.kernels.triton import carafe_kernels

        x = tensors.get("grad_x", self.x)
        strides = strides_of("nchw", x=x, o=out)
        strides |= dict(zip(("mn", "mt", "mh", "ma", "mw", "mb"), self.mask_strides(self.mask), strict=True))
        if "grad_mask" in tensors:
            made = self.mask_strides(tensors["grad_mask"])
            strides |= dict(zip(("tn", "tt", "th", "ta", "tw", "tb"), made, strict=True))
        constants = {
            "K": self.size,
            "S": self.scale,
            "FUSED": self.fused,
            "WIDE": spans_64_bits((x, self.mask, out)),
            "ACC": language.float64 if x.dtype == torch.float64 else language.float32,
        }
        if name == "forward":
            constants["WHOLE"] = self.scale == 2 and out.stride(3) == 1 and out.stride(1) != 1
        plane = 0 if stats is None else stats.stride(0)
        sizes = {"H": self.h, "W": self.w, "G": self.groups, "CG": self.channels, "plane": plane}
        given = {"mask": self.mask, "stats": self.mask if stats is None else stats, **tensors}
        kernel = getattr(carafe_kernels, name)
        launch(kernel, self.tiles(name), partial(self.programs, name), given, {**sizes, **strides}, constants)

    def forward(self, out: Tensor, stats: Tensor | None) -> None:
        """out from x and mask."""
        self.launch("forward", {"x": self.x, "out": out}, out, stats)

    def grad_x(self, grad: Tensor, grad_x: Tensor, stats: Tensor | None) -> None:
        """x's gradient from mask and out's gradient."""
        self.launch("grad_x", {"grad": grad, "grad_x": grad_x}, grad, stats)

    def grad_mask(self, grad: Tensor, grad_mask: Tensor, stats: Tensor | None) -> None:
        """The mask's (or the logits') gradient from x and out's gradient."""
        # The softmax's gradient wants the mask's unrounded.
        narrow = self.fused and grad_mask.element_size() < 4
        sums = grad_mask.new_empty(grad_mask.shape, dtype=torch.float32) if narrow else grad_mask
        self.launch("grad_mask", {"x": self.x, "grad": grad, "sums": sums, "grad_mask": grad_mask}, grad, stats)


def _forward(x: Tensor, mask: Tensor, size: int, groups: int, scale: int) -> Tensor:
    call = _Call(x, mask, (size, groups, scale), fused=False)
    out = output(x, scale)
    if out.numel():
        call.forward(out, None)
    return out


def _forward_logits(x: Tensor, logits: Tensor, size: int, groups: int, scale: int) -> tuple[Tensor, Tensor]:
    call = _Call(x, logits, (size, groups, scale), fused=True)
    out, stats = output(x, scale), _stats(x, groups, scale)
    if out.numel():
        call.forward(out, stats)
    return out, stats


def _backward(
    grad: Tensor, x: Tensor, mask: Tensor, size: int, groups: int, scale: int, wanted: list[bool]
) -> tuple[Tensor, Tensor]:
    call = _Call(x, mask, (size, groups, scale), fused=False)
    return _launch_backward(call, grad, None, wanted)


def _backward_logits(
    grad: Tensor, x: Tensor, logits: Tensor, stats: Tensor, size: int, groups: int, scale: int, wanted: list[bool]
) -> tuple[Tensor, Tensor]:
    call = _Call(x, logits, (size, groups, scale), fused=True)
    return _launch_backward(call, grad, stats, wanted)


def _launch_backward(call: _Call, grad: Tensor, stats: Tensor | None, wanted: list[bool]) -> tuple[Tensor, Tensor]:
    grad_x, grad_mask = gradients(grad, call.x, call.mask, call.scale, wanted)
    if grad.numel() == 0:
        return grad_x.zero_(), grad_mask.zero_()
    if wanted[0]:
        call.grad_x(grad, grad_x, stats)
    if wanted[1]:
        call.grad_mask(grad, grad_mask, stats)
    return grad_x, grad_mask


# --- Operations -------------------------------------------------------------------------------------------------


def _out_logits(x: Tensor, logits: Tensor, size: int, groups: int, scale: int) -> tuple[Tensor, Tensor]:
    return checked_output(x, logits, size, groups, scale, fused=True), _stats(x, groups, scale)


def _shapes_logits(grad: Tensor, x: Tensor, logits: Tensor, stats: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return checked_gradients(grad, x, logits, *rest, fused=True)


_PROBLEM = "int kernel_size, int group_size, int scale_factor"
define(f"carafe_triton(Tensor x, Tensor mask, {_PROBLEM}) -> Tensor", _forward, checked_output, devices=DEVICES)
define(
    f"carafe_triton_backward(Tensor grad, Tensor x, Tensor mask, {_PROBLEM}, bool[2] wanted) -> (Tensor, Tensor)",
    _backward,
    checked_gradients,
    devices=DEVICES,
)
differentiate("carafe_triton", tensors=2, formula=reassembled)
define(
    f"carafe_triton_logits(Tensor x, Tensor logits, {_PROBLEM}) -> (Tensor, Tensor)",
    _forward_logits,
    _out_logits,
    devices=DEVICES,
)
define(
    f"carafe_triton_logits_backward(Tensor grad, Tensor x, Tensor logits, Tensor stats, {_PROBLEM}, bool[2] wanted) "
    "-> (Tensor, Tensor)",
    _backward_logits,
    _shapes_logits,
    devices=DEVICES,
)
differentiate("carafe_triton_logits", tensors=2, formula=reassembled_from_logits)
