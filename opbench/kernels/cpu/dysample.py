"""DySample's sampling on the CPU: `dysample_cpu`, its operations in torch's dispatcher, how its kernels are launched.

Axes: x (N, C, H, W), offset (N, 2*G*s*s, H, W), out (N, C, s*H, s*W). x in float64, float32, bfloat16 or float16, in
either memory format, which the output takes; offsets and sums in float32 at least. No grid is written to memory.

`sampling` computes the same from positions in memory, with channels last. Its output would have to be copied to be
channels first, as much as the kernel itself writes, and its positions would have to be made, two numbers a sample: here
locations are made in registers, and squares of the output are transposed there as they are written.

Two runs agree bit for bit, whatever the number of threads. Beside the results x is kept once more, with its channels
last and in the dtype of sums, unless it lies like that; so is its gradient. A thread's scratch is a few kilobytes and
s vectors of input pixels times the channels of a group.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from opbench.kernels.carafe_shapes import channels_last, gradients, output
from opbench.kernels.cpu import layout
from opbench.kernels.cpu.jit import kernel
from opbench.kernels.cpu.launch import launch, tensor_arguments
from opbench.kernels.cpu.processor import target
from opbench.kernels.dysample_shapes import check, checked_gradients, checked_output, located_in
from opbench.kernels.formulas import resampled
from opbench.kernels.operation import define, differentiate, refuse_forward_mode

KERNELS = "opbench.kernels.cpu.dysample_kernels"
# Rows of 8-byte numbers that a thread keeps of its samples: the ROWS of `dysample_tiles`, added up.
TILE_ROWS = 16
# Bytes of output from which on it bypasses the caches: none would keep it.
STREAM_FROM = 4 << 20
# Tasks for each thread where channels are shared out, so that one that is held up leaves its share to the others.
TASKS = 4


def dysample_cpu(x: Tensor, offset: Tensor, *, scale: int, groups: int) -> Tensor:
    """x (N, C, H, W), offset (N, 2*groups*scale**2, H, W) in pixels -> (N, C, scale*H, scale*W)."""
    refuse_forward_mode("dysample_cpu", x, offset)
    out: Tensor = torch.ops.opbench.dysample_cpu(x, offset, scale, groups)
    return out


class _Call:
    """One problem: what its kernels share."""

    def __init__(self, x: Tensor, offset: Tensor, scale: int, groups: int) -> None:
        check(x, offset, scale, groups)
        self.offset, self.scale, self.groups = offset.contiguous(), scale, groups
        self.n, c, self.h, self.w = x.shape
        self.channels = c // groups
        self.last = channels_last(x)
        self.dtype = str(x.dtype).removeprefix("torch.")
        self.wide = located_in(x.dtype)
        self.lanes = target().lanes(x.dtype)
        self.padded = -(-self.channels // self.lanes) * self.lanes
        size = self.padded * self.wide.itemsize
        self.pixel, self.apart = (groups * size, size) if self.last else (size, self.h * self.w * size)
        self.work = x.numel() * scale * scale * 4

    def vectors(self, channels: int) -> int:
        """The most vectors of channels at once, of up to four."""
        return next(v for v in (4, 3, 2, 1) if channels // self.lanes % v == 0)

    def streams(self, out: Tensor) -> bool:
        """Whether an output goes past the caches, which its rows of whole vectors, in their places, may."""
        vector = self.lanes * out.element_size()
        aligned = out.data_ptr() % vector == 0 and out.shape[3] * out.element_size() % vector == 0
        return not self.last and aligned and out.nbytes >= STREAM_FROM

    def launch(
        self, name: str, parameters: tuple[Any, ...], image: Tensor, out: Tensor, *,
        tasks: int, parts: int = 1, grad_offset: Tensor | None = None,
    ) -> None:  # fmt: skip
        """Scratch is what is known of a row's samples, and their channels."""
        samples = self.lanes * self.scale
        moves = self.offset if grad_offset is None else grad_offset
        pointers = [tensor.data_ptr() for tensor in (image, self.offset, moves)]
        launch(
            kernel(KERNELS, name, self.dtype, *parameters),
            [
                self.groups,
                self.channels,
                self.padded,
                self.h,
                self.w,
                self.pixel,
                self.apart,
                parts,
                *pointers,
                *tensor_arguments(out),
            ],
            tasks=tasks,
            scratch_bytes=samples * 8 * (TILE_ROWS + self.padded // parts),
            work=self.work,
        )

    def image(self, x: Tensor) -> Tensor:
        """x as it is sampled, (N, G, H, W, Cp), or (N, H, W, G, Cp) where its channels are dense."""
        if not self.last:
            x = x if x.stride(3) == 1 or x.shape[3] == 1 else x.contiguous()
            return layout.pixels(x, groups=self.groups, padded=self.padded, dtype=self.wide)
        pixels = x.permute(0, 2, 3, 1).unflatten(3, (self.groups, self.channels)).to(self.wide)
        return F.pad(pixels, (0, self.padded - self.channels)).contiguous()

    def dense(self, grad: Tensor) -> Tensor:
        """The output's gradient in the output's format."""
        if self.last:
            return grad.contiguous(memory_format=torch.channels_last)
        return grad if grad.stride(3) == 1 or grad.shape[3] == 1 else grad.contiguous()


def _forward(x: Tensor, offset: Tensor, scale: int, groups: int) -> Tensor:
    call, out = _Call(x, offset, scale, groups), output(x, scale)
    if out.numel():
        parameters = (scale, call.last, call.vectors(call.padded), call.streams(out))
        call.launch("forward", parameters, call.image(x), out, tasks=call.n * groups * call.h)
    return out


def _backward(grad: Tensor, x: Tensor, offset: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    scale, groups, wanted = rest
    call = _Call(x, offset, scale, groups)
    grad_x, grad_offset = gradients(grad, x, offset, scale, wanted)
    if not grad.numel():
        return grad_x.zero_(), grad_offset.zero_()
    grad = call.dense(grad)
    if wanted[1]:
        tasks = call.n * groups * call.h
        call.launch("grad_offset", (scale, call.last), call.image(x), grad, tasks=tasks, grad_offset=grad_offset)
    if wanted[0]:
        _grad_x(call, grad, grad_x)
    return grad_x, grad_offset


def _grad_x(call: _Call, grad: Tensor, grad_x: Tensor) -> None:
    """Shares out groups to tasks, and parts of them until there are some for each thread."""
    vectors = call.padded // call.lanes
    asked = -(-TASKS * torch.get_num_threads() // (call.n * call.groups)) if torch.get_num_threads() > 1 else 1
    parts = next(count for count in range(min(vectors, asked), 0, -1) if vectors % count == 0)
    size = (call.n, call.h, call.w, call.groups) if call.last else (call.n, call.groups, call.h, call.w)
    image = torch.zeros((*size, call.padded), dtype=call.wide)
    parameters = (call.scale, call.last, call.vectors(call.padded // parts))
    call.launch("grad_image", parameters, image, grad, tasks=call.n * call.groups * parts, parts=parts)
    if call.last:
        grad_x.copy_(image[..., : call.channels].flatten(3).permute(0, 3, 1, 2))
    else:
        layout.planes(image, grad_x)


_INPUTS = "Tensor x, Tensor offset, int scale, int groups"
define(f"dysample_cpu({_INPUTS}) -> Tensor", _forward, checked_output, apart=(1,))
define(
    f"dysample_cpu_backward(Tensor grad, {_INPUTS}, bool[2] wanted) -> (Tensor, Tensor)",
    _backward,
    checked_gradients,
    apart=(2,),
)
differentiate("dysample_cpu", tensors=2, formula=resampled)
