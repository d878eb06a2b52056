"""DySample's sampling on CUDA, in Triton: `dysample_triton`, its operations and launches.

Axes: x (N, C, H, W), offset (N, 2*G*s*s, H, W), out (N, C, s*H, s*W). x in float64, float32, bfloat16 or float16;
offsets, locations and sums in float32 at least. Every tensor is read in place whatever its strides; out and x's
gradient follow x's memory format, that of offset is contiguous. No grid is written to memory.

The gradient of offset agrees bit for bit between runs. That of x is added up by float32 atomics (float64 for float64),
whose order differs from run to run, in a float32 copy of x. With `deterministic=True` it is gathered instead: samples
are sorted by the cell they fall into and every pixel sums its own in a fixed order, at the price of the sort and of
some 50 bytes a sample. `deterministic=None` does so where `torch.use_deterministic_algorithms(True)` is on; with
`warn_only=True` the atomics stay, with a warning.

What should bound each kernel, from their loads (not measured on a GPU):
- forward: memory, most of it the output's; a sample's corners are its neighbours' as well, and hit L1.
- backward: atomics, four a channel of an output pixel, in L2; then as forward, with two reductions a sample.
- deterministic backward: the sort, several passes over 8-byte keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from opbench.kernels.carafe_shapes import channels_last, gradients, output
from opbench.kernels.dysample_shapes import check, checked_gradients, checked_output, located_in
from opbench.kernels.formulas import resampled
from opbench.kernels.operation import define, differentiate, refuse_forward_mode
from opbench.kernels.triton.gathering import Samples, takes_atomics
from opbench.kernels.triton.launch import DEVICES, Candidate, launch, spans_64_bits, strides_of
from opbench.kernels.triton.tile_table import Layout
from opbench.kernels.triton.tiles import SharedOutput

_CELLS = Candidate({"B": 256}, 4)


def dysample_triton(x: Tensor, offset: Tensor, *, scale: int, groups: int, deterministic: bool | None = None) -> Tensor:
    """x (N, C, H, W), offset (N, 2*groups*scale**2, H, W) in pixels -> (N, C, scale*H, scale*W).

    `deterministic` is about x's gradient: see the module.
    """
    refuse_forward_mode("dysample_triton", x, offset)
    out: Tensor = torch.ops.opbench.dysample_triton(x, offset, scale, groups, deterministic)
    return out


# --- Launches ---------------------------------------------------------------------------------------------------


class _Call:
    """One problem: what its kernels share."""

    def __init__(self, x: Tensor, offset: Tensor, scale: int, groups: int) -> None:
        check(x, offset, scale, groups)
        self.x, self.offset, self.scale, self.groups = x, offset, scale, groups
        self.n, c, self.h, self.w = x.shape
        self.last = channels_last(x)
        self.shared = SharedOutput(self.n, groups, scale * self.h, scale * self.w, c // groups)
        self.dtype = located_in(x.dtype)
        self.sizes = {"H": self.h, "W": self.w, "G": groups}

    def forward(self, out: Tensor) -> None:
        """out from x and offset."""
        self._tiled("forward", {"out": out}, out, [out], {}, {})

    def backward(self, grad: Tensor, grad_x: Tensor, grad_offset: Tensor, wanted: Sequence[bool]) -> None:
        """Any of the gradients, of x by atomics in `dtype`."""
        total = grad_x
        if wanted[0] and grad_x.dtype != self.dtype:
            total = torch.empty_like(grad_x, dtype=self.dtype)
        to_x = strides_of("nchw", g=total) if wanted[0] else dict.fromkeys(("gn", "gc", "gh", "gw"), 0)
        tensors = {"grad": grad, "grad_x": total, "grad_offset": grad_offset}
        flags = dict(zip(("TO_X", "TO_OFFSET"), wanted, strict=True))
        self._tiled("backward", tensors, grad, [grad, total, grad_offset], to_x, flags, prepare=total.zero_)
        if total is not grad_x:
            grad_x.copy_(total)

    def gather(self, grad: Tensor, grad_x: Tensor) -> None:
        """x's gradient without atomics."""
        height, width = self.shared.height, self.shared.width
        images = (self.n, self.groups, self.h, self.w)
        samples = Samples(self.n * self.groups * height * width, images, self.dtype, grad.device)
        block, number = _CELLS.blocks["B"], samples.keys.numel()
        self._launch(
            "cells",
            [_CELLS],
            lambda blocks: ({}, -(-number // block)),
            {"offset": self.offset, "keys": samples.keys, "across": samples.across, "down": samples.down},
            {**self.sizes, "samples": number, **strides_of("nchw", f=self.offset)},
            {},
        )
        samples.gather(
            None,
            grad,
            grad_x,
            {"Ho": height, "Wo": width, **strides_of("nchw", o=grad, g=grad_x)},
            points=1,
            last=self.last,
        )

    def _tiled(
        self, name: str, tensors: Mapping[str, Tensor], out: Tensor, images: Sequence[Tensor],
        strides: Mapping[str, int], wanted: Mapping[str, bool], **more: Any,
    ) -> None:  # fmt: skip
        """Launches a kernel over tiles of output pixels; `images` are what it has places in, beside the inputs."""
        layout: Layout = "last" if self.last else "first"
        candidates = self.shared.candidates(f"dysample_kernels.{name}", layout, self.x.element_size())
        constants = {"WIDE": spans_64_bits((self.x, self.offset, *images)), "AXIS": int(self.last), **wanted}
        given = {"x": self.x, "offset": self.offset, **tensors}
        strides = {**strides_of("nchw", x=self.x, f=self.offset, o=out), **strides}
        arguments = {**self.sizes, "CG": self.shared.channels, **strides}
        programs = self.shared.programs(by_channels=name == "forward")
        self._launch(name, candidates, programs, given, arguments, constants, **more)

    def _launch(
        self, name: str, candidates: Sequence[Candidate], programs: Any, tensors: Mapping[str, Tensor],
        arguments: Mapping[str, Any], constants: Mapping[str, Any], **more: Any,
    ) -> None:  # fmt: skip
        from triton import language

        from opbench.kernels.triton import dysample_kernels

        acc = language.float64 if self.dtype == torch.float64 else language.float32
        constants = {**constants, "S": self.scale, "ACC": acc}
        launch(getattr(dysample_kernels, name), candidates, programs, tensors, arguments, constants, **more)


def _forward(x: Tensor, offset: Tensor, scale: int, groups: int, deterministic: bool | None) -> Tensor:
    call, out = _Call(x, offset, scale, groups), output(x, scale)
    if out.numel():
        call.forward(out)
    return out


def _backward(grad: Tensor, x: Tensor, offset: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    scale, groups, deterministic, wanted = rest
    call = _Call(x, offset, scale, groups)
    grad_x, grad_offset = gradients(grad, x, offset, scale, wanted)
    if not grad.numel():
        return grad_x.zero_(), grad_offset.zero_()
    atomic = wanted[0] and takes_atomics("dysample_triton", deterministic)
    if atomic or wanted[1]:
        call.backward(grad, grad_x, grad_offset, (atomic, wanted[1]))
    if wanted[0] and not atomic:
        call.gather(grad, grad_x)
    return grad_x, grad_offset


# --- Operations -------------------------------------------------------------------------------------------------


def _out(x: Tensor, offset: Tensor, scale: int, groups: int, deterministic: bool | None) -> Tensor:
    return checked_output(x, offset, scale, groups)


def _shapes(grad: Tensor, x: Tensor, offset: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    scale, groups, _, wanted = rest
    return checked_gradients(grad, x, offset, scale, groups, wanted)


_INPUTS = "Tensor x, Tensor offset, int scale, int groups, bool? deterministic"
define(f"dysample_triton({_INPUTS}) -> Tensor", _forward, _out, devices=DEVICES, apart=(1,))
define(
    f"dysample_triton_backward(Tensor grad, {_INPUTS}, bool[2] wanted) -> (Tensor, Tensor)",
    _backward,
    _shapes,
    devices=DEVICES,
    apart=(2,),
)
differentiate("dysample_triton", tensors=2, formula=resampled)
