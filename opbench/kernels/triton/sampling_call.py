"""How the kernels that sample around a window are launched: one problem of DCNv3 or DCNv4.

Axes: x (N, H, W, C), offset (N, Ho, Wo, G, 2P), mask and logits (N, Ho, Wo, G, P), out (N, Ho, Wo, C). Offset and mask,
and the gradients of either, may be views of one tensor: they are read and written at their own strides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from opbench.kernels.triton.gathering import Samples
from opbench.kernels.triton.launch import Candidate, launch, spans_64_bits, strides_of
from opbench.kernels.triton.tiles import SharedOutput

_CELLS = Candidate({"B": 256}, 4)


class WindowCall:
    """One problem: what its kernels share. `parameters` are the operation's; `fused`: it takes logits for masks."""

    def __init__(self, x: Tensor, offset: Tensor, mask: Tensor, parameters: Sequence[Any], fused: bool) -> None:
        size, stride, pad, dilation, groups, scale, remove_center = parameters
        self.x, self.offset, self.mask, self.fused = x, offset, mask, fused
        self.n, self.h, self.w, self.c = x.shape
        _, self.out_h, self.out_w, self.groups, self.points = mask.shape
        self.window = {
            "K": size,
            "P": self.points,
            "STRIDE": stride,
            "ORIGIN": dilation * (size - 1) // 2 - pad,
            "DILATION": dilation,
            "SCALE": float(scale),
            "CENTRE": remove_center,
            "PAIRS": _in_pairs(offset),
        }
        self.sizes = {"H": self.h, "W": self.w, "Ho": self.out_h, "Wo": self.out_w, "G": groups}
        self.out_shape = (self.n, self.out_h, self.out_w, self.c)
        self.shared = SharedOutput(self.n, groups, self.out_h, self.out_w, self.c // groups)
        self.dtype = torch.float64 if x.dtype == torch.float64 else torch.float32

    @property
    def empty(self) -> bool:
        """Whether there is nothing to sum."""
        return 0 in (self.n, self.c, self.points, self.h, self.w)

    def output(self) -> Tensor:
        """out from x, offset and mask."""
        out = self.x.new_empty(self.out_shape)
        if self.empty:
            return out.zero_()
        self.forward(out)
        return out

    def fill(self, grad: Tensor, gradients: Sequence[Tensor], wanted: Sequence[bool], atomics: bool) -> None:
        """The gradients that are wanted; x's by atomics, or without."""
        if self.empty:
            for gradient in gradients:
                gradient.zero_()
            return
        added = wanted[0] and atomics
        if added or wanted[1] or wanted[2]:
            self.backward(grad, gradients, (added, *wanted[1:]))
        if wanted[0] and not added:
            self.gather(grad, gradients[0])

    def forward(self, out: Tensor) -> None:
        """Launches the kernel of out."""
        self._tiled("forward", {"out": out}, out, [out], {}, {})

    def backward(self, grad: Tensor, gradients: Sequence[Tensor], wanted: Sequence[bool]) -> None:
        """Launches the kernel of any gradients, of x by atomics.

        Those of x and, from logits, of the mask pass through `dtype`. Those of offset and mask have the shape of
        theirs, or no elements where they aren't wanted.
        """
        grad_x, grad_offset, grad_mask = gradients
        total, sums = (
            torch.empty(t.shape, dtype=self.dtype, device=t.device) if w and t.dtype != self.dtype else t
            for t, w in ((grad_x, wanted[0]), (grad_mask, wanted[2] and self.fused))
        )
        tensors = {"grad": grad, "grad_x": total, "grad_offset": grad_offset, "sums": sums, "grad_mask": grad_mask}
        steps = {
            letter + axis: tensor.stride(dim) if tensor.dim() == 5 else 0
            for letter, tensor in (("f", grad_offset), ("m", grad_mask), ("s", sums))
            for axis, dim in (("p", 2), ("s", 3))
        }
        flags = dict(zip(("TO_X", "TO_OFFSET", "TO_MASK"), wanted, strict=True))
        self._tiled("backward", tensors, grad, [grad, total], steps, flags, prepare=total.zero_)
        if total is not grad_x:
            grad_x.copy_(total)

    def gather(self, grad: Tensor, grad_x: Tensor) -> None:
        """Launches what makes x's gradient without atomics."""
        mask = self.mask.softmax(4, dtype=self.dtype) if self.fused else self.mask
        images = (self.n, self.groups, self.h, self.w)
        samples = Samples(mask.numel(), images, self.dtype, grad.device)
        block = _CELLS.blocks["B"]
        self._launch(
            "cells",
            [_CELLS],
            lambda blocks: ({}, -(-samples.keys.numel() // block)),
            {"offset": self.offset, "keys": samples.keys, "across": samples.across, "down": samples.down},
            {
                **self.sizes,
                "samples": samples.keys.numel(),
                "nowhere": samples.nowhere,
                **strides_of("nhwgc", f=self.offset),
            },
            self.window,
        )
        strides = strides_of("nhwc", o=grad, g=grad_x) | strides_of("nhwgc", m=mask)
        samples.gather(
            mask, grad, grad_x, {"Ho": self.out_h, "Wo": self.out_w, **strides}, points=self.points, last=True
        )

    def _tiled(
        self, name: str, tensors: Mapping[str, Tensor], out: Tensor, images: Sequence[Tensor],
        steps: Mapping[str, int], wanted: Mapping[str, bool], **more: Any,
    ) -> None:  # fmt: skip
        """Launches a kernel over tiles of output pixels; `images` are what it has places in, beside the inputs."""
        kind = "backward from logits" if self.fused and name == "backward" else name
        candidates = self.shared.candidates(f"sampling_kernels.{kind}", "last", self.x.element_size())
        wide = spans_64_bits((self.x, self.offset, self.mask, *images))
        constants = {**self.window, "FUSED": self.fused, "WIDE": wide, **wanted}
        given = {"x": self.x, "offset": self.offset, "mask": self.mask, **tensors}
        strides = strides_of("nhwc", x=self.x, o=out) | strides_of("nhwgc", f=self.offset, m=self.mask)
        arguments = {**self.sizes, "CG": self.shared.channels, **strides, **steps}
        programs = self.shared.stepping_programs() if name == "forward" else self.shared.programs(by_channels=False)
        self._launch(name, candidates, programs, given, arguments, constants, **more)

    def _launch(
        self, name: str, candidates: Sequence[Candidate], programs: Any, tensors: Mapping[str, Tensor],
        arguments: Mapping[str, Any], constants: Mapping[str, Any], **more: Any,
    ) -> None:  # fmt: skip
        from triton import language

        from opbench.kernels.triton import sampling_kernels

        acc = language.float64 if self.dtype == torch.float64 else language.float32
        kernel = getattr(sampling_kernels, name)
        launch(kernel, candidates, programs, tensors, arguments, {**constants, "ACC": acc}, **more)


def _in_pairs(offset: Tensor) -> bool:
    """Whether both numbers of each offset (N, Ho, Wo, G, 2P) lie side by side where one access can read them."""
    size = offset.element_size()
    whole = offset.data_ptr() % (2 * size) == 0 and not any(stride % 2 for stride in offset.stride()[:-1])
    return size <= 4 and offset.stride(-1) == 1 and whole
