"""CARAFE's core on the CPU: `carafe_cpu`, `carafe_cpu_logits`, their operations in torch's dispatcher, and launches.

Axes: x (N, C, H, W), mask (N, g*k*k, s*H, s*W), logits (N, g*k*k*s*s, H, W), out (N, C, s*H, s*W). float64, float32,
and bfloat16 and float16 with sums in float32. x may be contiguous or channels-last, or a slice of either whose
innermost axis is dense: it is read in place and the output follows its memory format. Any other x, and a gradient of
the output that doesn't follow x's format, is first copied. The mask is read in place whatever its strides; its gradient
is contiguous. A tap outside the image contributes nothing, whatever the mask holds there, and its gradient is 0.

`carafe_cpu_logits` takes what the encoder returns: pixel shuffle and the softmax over the k*k taps happen in a tile,
and forward writes no mask. Backward makes the weights again, in the memory of the logits' gradient. Logits are read in
place where their rows or their channels are dense, else copied; their gradient is contiguous.

Beyond the results each thread takes a tile, of a few hundred KiB at most for usual kernel sizes. Two runs agree bit for
bit, whatever the number of threads.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from opbench.kernels.carafe_shapes import (
    Weights,
    channels_last,
    check,
    checked_gradients,
    checked_output,
    gradients,
    memory_format,
    output,
)
from opbench.kernels.cpu.jit import kernel
from opbench.kernels.cpu.launch import launch, tensor_arguments
from opbench.kernels.cpu.processor import target
from opbench.kernels.formulas import reassembled, reassembled_from_logits
from opbench.kernels.operation import define, differentiate, refuse_forward_mode

# Bytes of output from which on it bypasses the caches: none would keep it.
STREAM_FROM = 4 << 20
# Bytes of a tile that stays in the first-level cache, and in the second.
NEAR, FAR = 28 << 10, 128 << 10


def carafe_cpu(x: Tensor, mask: Tensor, *, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
    """x (N, C, H, W), mask (N, g*k*k, s*H, s*W) -> (N, C, s*H, s*W), in x's memory format."""
    refuse_forward_mode("carafe_cpu", x, mask)
    out: Tensor = torch.ops.opbench.carafe_cpu(x, mask, kernel_size, group_size, scale_factor)
    return out


def carafe_cpu_logits(x: Tensor, logits: Tensor, *, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
    """x (N, C, H, W), logits (N, g*k*k*s*s, H, W) -> (N, C, s*H, s*W): pixel shuffle, softmax over taps, core."""
    refuse_forward_mode("carafe_cpu_logits", x, logits)
    out: Tensor = torch.ops.opbench.carafe_cpu_logits(x, logits, kernel_size, group_size, scale_factor)
    return out


# --- Launches ---------------------------------------------------------------------------------------------------


def _dense(t: Tensor, last: bool) -> Tensor:
    """t itself where its innermost axis in that format is dense, else a copy."""
    axis = 1 if last else 3
    return t if t.stride(axis) == 1 or t.shape[axis] == 1 else t.contiguous(memory_format=memory_format(last))


class _Call:
    """One problem: what its kernels share."""

    def __init__(self, x: Tensor, mask: Tensor, size: int, groups: int, scale: int, weights: Weights = "mask") -> None:
        check(x, mask, size, groups, scale, fused=weights != "mask")
        self.size, self.groups, self.scale = size, groups, scale
        self.last = channels_last(x)
        self.x, self.mask, self.weights = _dense(x, self.last), mask, weights
        if weights == "logits" and mask.stride(1) == 1 and mask.stride(3) != 1:
            self.weights = "logits last"
        elif weights == "logits":
            self.mask = _dense(mask, last=False)
        self.n, self.c, self.h, self.w = x.shape
        self.channels = self.c // groups
        self.lanes = target().lanes(x.dtype)
        # The tile of one vector of parents: all taps of all their children.
        self.tile = (size * scale) ** 2 * target().vector_bytes

    def channel_vectors(self, most: int) -> tuple[int, int]:
        """The widest vector, and most vectors at once, that divide the channels of a group."""
        lanes = next(n for n in (16, 8, 4, 2, 1) if n <= self.lanes and self.channels % n == 0)
        return lanes, next(v for v in range(max(1, most), 0, -1) if self.channels // lanes % v == 0)

    def launch(
        self, name: str, parameters: tuple[Any, ...], tensors: tuple[Tensor, Tensor, Tensor],
        *, span: int, scratch_bytes: int,
    ) -> None:  # fmt: skip
        """Runs a kernel over x, mask and out, or their gradients; a task covers `span` columns of a row of parents."""
        module = "logits" if name == "weights" else "last" if self.last else "first"
        spans = -(-self.w // span)
        dtype = str(self.x.dtype).removeprefix("torch.")
        launch(
            kernel(
                f"opbench.kernels.cpu.carafe_{module}", name, dtype, self.size, self.scale, self.weights, *parameters
            ),
            [self.groups, self.channels, self.h, self.w, span, spans, *tensor_arguments(*tensors)],
            tasks=self.n * self.groups * self.h * spans,
            scratch_bytes=scratch_bytes,
            work=self.n * self.c * self.h * self.w * (self.size * self.scale) ** 2,
        )

    def apart(self) -> Tensor:
        """The weights that the softmax of logits gives, in their shape."""
        made = torch.empty_like(self.mask, memory_format=torch.contiguous_format)
        self.launch("weights", (), (self.x, self.mask, made), span=self.lanes, scratch_bytes=self.tile)
        return made

    def forward(self, out: Tensor) -> None:
        """out from x and mask."""
        parameters: tuple[int, ...]
        if self.last:
            lanes, vectors = self.channel_vectors(target().sums // (4 if self.scale == 2 else self.scale))
            parameters = (lanes, vectors, _streams(out, lanes))
            span, scratch = self.lanes, self.tile
        else:
            near = max(1, min(NEAR // self.tile, -(-self.w // self.lanes)))
            parameters = (_streams(out, self.lanes) and out.shape[3] % self.lanes == 0,)
            span, scratch = near * self.lanes, near * self.tile
        self.launch("forward", parameters, (self.x, self.mask, out), span=span, scratch_bytes=scratch)

    def grad_x(self, grad: Tensor, grad_x: Tensor) -> None:
        """x's gradient from mask and out's gradient."""
        halo = self.size // 2 * 2  # columns of parents that reach a column, less one
        most = max(FAR // self.tile, halo // self.lanes + 2) * self.lanes
        spans = 1 if self.w <= most else -(-self.w // (most - halo))
        span = -(-self.w // spans)
        vectors = -(-(span + halo) // self.lanes)
        scratch = vectors * self.tile
        parameters: tuple[int, ...] = ()
        if self.last:
            parameters = self.channel_vectors(min(8, target().sums // self.size))
        else:
            margin = -(-(self.size // 2) // self.lanes) * self.lanes
            scratch += 4 * self.size * (vectors * self.lanes + 2 * margin + self.lanes) * max(4, grad.element_size())
        self.launch("grad_x", parameters, (grad_x, self.mask, grad), span=span, scratch_bytes=scratch)

    def grad_mask(self, grad: Tensor, grad_mask: Tensor) -> None:
        """The mask's gradient from x and out's gradient; of weights "apart" the logits', in their place."""
        parameters = self.channel_vectors(1)[:1] if self.last else ()
        self.launch("grad_mask", parameters, (self.x, grad_mask, grad), span=self.lanes, scratch_bytes=self.tile)


def _streams(out: Tensor, lanes: int) -> bool:
    """Whether an output goes past the caches; its vectors then start at multiples of their size."""
    return out.nbytes >= STREAM_FROM and out.data_ptr() % (lanes * out.element_size()) == 0


def _forward(x: Tensor, mask: Tensor, size: int, groups: int, scale: int) -> Tensor:
    return _launch_forward(_Call(x, mask, size, groups, scale))


def _forward_logits(x: Tensor, logits: Tensor, size: int, groups: int, scale: int) -> Tensor:
    return _launch_forward(_Call(x, logits, size, groups, scale, "logits"))


def _launch_forward(call: _Call) -> Tensor:
    out = output(call.x, call.scale)
    if out.numel():
        call.forward(out)
    return out


def _backward(
    grad: Tensor, x: Tensor, mask: Tensor, size: int, groups: int, scale: int, wanted: list[bool]
) -> tuple[Tensor, Tensor]:
    call = _Call(x, mask, size, groups, scale)
    return _launch_backward(call, grad, *gradients(grad, x, mask, scale, wanted), wanted)


def _backward_logits(
    grad: Tensor, x: Tensor, logits: Tensor, size: int, groups: int, scale: int, wanted: list[bool]
) -> tuple[Tensor, Tensor]:
    given = _Call(x, logits, size, groups, scale, "logits")
    made = given.apart()
    grad_x, none = gradients(grad, x, logits, scale, (wanted[0], False))
    call = _Call(given.x, made, size, groups, scale, "apart")  # of x as it is read: copied once, if at all
    return _launch_backward(call, grad, grad_x, made if wanted[1] else none, wanted)


def _launch_backward(
    call: _Call, grad: Tensor, grad_x: Tensor, grad_mask: Tensor, wanted: list[bool]
) -> tuple[Tensor, Tensor]:
    """x's gradient first: a logits' overwrites the weights."""
    if grad.numel() == 0:
        return grad_x.zero_(), grad_mask.zero_()
    grad = _dense(grad, call.last)
    if wanted[0]:
        call.grad_x(grad, grad_x)
    if wanted[1]:
        call.grad_mask(grad, grad_mask)
    return grad_x, grad_mask


# --- Operations -------------------------------------------------------------------------------------------------


_PROBLEM = "int kernel_size, int group_size, int scale_factor"
define(f"carafe_cpu(Tensor x, Tensor mask, {_PROBLEM}) -> Tensor", _forward, checked_output)
define(
    f"carafe_cpu_backward(Tensor grad, Tensor x, Tensor mask, {_PROBLEM}, bool[2] wanted) -> (Tensor, Tensor)",
    _backward,
    checked_gradients,
)
differentiate("carafe_cpu", tensors=2, formula=reassembled)
define(
    f"carafe_cpu_logits(Tensor x, Tensor logits, {_PROBLEM}) -> Tensor",
    _forward_logits,
    partial(checked_output, fused=True),
)
define(
    f"carafe_cpu_logits_backward(Tensor grad, Tensor x, Tensor logits, {_PROBLEM}, bool[2] wanted) -> (Tensor, Tensor)",
    _backward_logits,
    partial(checked_gradients, fused=True),
)
differentiate("carafe_cpu_logits", tensors=2, formula=reassembled_from_logits)
