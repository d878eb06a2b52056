"""CARAFE's core on the CPU: `carafe_cpu`, its operations in torch's dispatcher, and how their kernels are launched.

Axes: x (N, C, H, W), mask (N, g*k*k, s*H, s*W), out (N, C, s*H, s*W). float64, float32, and bfloat16 and float16 with
sums in float32. x may be contiguous or channels-last, or a slice of either whose innermost axis is dense: it is read
in place and the output follows its memory format. Any other x, and a gradient of the output that doesn't follow x's
format, is first copied. The mask is read in place whatever its strides; its gradient is contiguous.

Beyond the results each thread takes a tile, of a few hundred KiB at most for usual kernel sizes. Two runs agree bit for
bit, whatever the number of threads. A tap outside the image contributes nothing, whatever the mask holds there, and
its gradient is 0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from opbench.kernels.cpu_jit import kernel, target
from opbench.kernels.cpu_launch import launch, tensor_arguments
from opbench.kernels.operation import DTYPES, define, differentiate

# Bytes of output from which on it bypasses the caches: none would keep it.
STREAM_FROM = 4 << 20
# Bytes of a tile that stays in the first-level cache, and in the second.
NEAR, FAR = 28 << 10, 128 << 10


def carafe_cpu(x: Tensor, mask: Tensor, *, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
    """x (N, C, H, W), mask (N, g*k*k, s*H, s*W) -> (N, C, s*H, s*W), in x's memory format."""
    out: Tensor = torch.ops.opbench.carafe_cpu(x, mask, kernel_size, group_size, scale_factor)
    return out


# --- Shapes and memory formats ----------------------------------------------------------------------------------


def _check(x: Tensor, mask: Tensor, size: int, groups: int, scale: int) -> None:
    if x.dtype not in DTYPES or x.dtype != mask.dtype:
        raise TypeError(f"x is {x.dtype} and mask {mask.dtype}; expected one floating dtype for both")
    if size < 1 or size % 2 == 0 or scale < 1 or groups < 1:
        raise ValueError(
            f"kernel_size {size}, group_size {groups}, scale_factor {scale}: expected an odd kernel_size, and all >= 1"
        )
    if x.dim() != 4 or x.shape[1] % groups:
        raise ValueError(f"x is {tuple(x.shape)}; expected (N, C, H, W) with C divisible by group_size {groups}")
    n, _, h, w = x.shape
    if max(h, w) * scale >= 2**31:
        raise ValueError(f"x is {tuple(x.shape)}; the output's height and width must be below 2**31")
    expected = (n, groups * size * size, scale * h, scale * w)
    if mask.shape != expected:
        raise ValueError(f"mask is {tuple(mask.shape)}; expected {expected} for x {tuple(x.shape)}")


def _channels_last(x: Tensor) -> bool:
    """Whether x is read channels-last."""
    if x.is_contiguous():
        return False
    return x.is_contiguous(memory_format=torch.channels_last) or (x.stride(3) != 1 and x.stride(1) == 1)


def _format(last: bool) -> torch.memory_format:
    return torch.channels_last if last else torch.contiguous_format


def _dense(t: Tensor, last: bool) -> Tensor:
    """t itself where its innermost axis in that format is dense, else a copy."""
    axis = 1 if last else 3
    return t if t.stride(axis) == 1 or t.shape[axis] == 1 else t.contiguous(memory_format=_format(last))


def _new(x: Tensor, scale: int) -> Tensor:
    """An empty output (scale 1: an empty gradient of x) in x's memory format."""
    n, c, h, w = x.shape
    format = _format(_channels_last(x))
    return torch.empty((n, c, scale * h, scale * w), dtype=x.dtype, device=x.device, memory_format=format)


# --- Launches ---------------------------------------------------------------------------------------------------


class _Call:
    """One problem: what its kernels share."""

    def __init__(self, x: Tensor, mask: Tensor, size: int, groups: int, scale: int) -> None:
        _check(x, mask, size, groups, scale)
        self.size, self.groups, self.scale = size, groups, scale
        self.last = _channels_last(x)
        self.x, self.mask = _dense(x, self.last), mask
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
        module = f"opbench.kernels.cpu_carafe_{'last' if self.last else 'first'}"
        spans = -(-self.w // span)
        launch(
            kernel(module, name, str(self.x.dtype).removeprefix("torch."), self.size, self.scale, *parameters),
            [self.groups, self.channels, self.h, self.w, span, spans, *tensor_arguments(*tensors)],
            tasks=self.n * self.groups * self.h * spans,
            scratch_bytes=scratch_bytes,
            work=self.n * self.c * self.h * self.w * (self.size * self.scale) ** 2,
        )

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
        """The mask's gradient from x and out's gradient."""
        parameters = self.channel_vectors(1)[:1] if self.last else ()
        self.launch("grad_mask", parameters, (self.x, grad_mask, grad), span=self.lanes, scratch_bytes=self.tile)


def _streams(out: Tensor, lanes: int) -> bool:
    """Whether an output goes past the caches; its vectors then start at multiples of their size."""
    return out.nbytes >= STREAM_FROM and out.data_ptr() % (lanes * out.element_size()) == 0


def _forward(x: Tensor, mask: Tensor, size: int, groups: int, scale: int) -> Tensor:
    call = _Call(x, mask, size, groups, scale)
    out = _new(x, scale)
    if out.numel():
        call.forward(out)
    return out


def _backward(
    grad: Tensor, x: Tensor, mask: Tensor, size: int, groups: int, scale: int, wanted: list[bool]
) -> tuple[Tensor, Tensor]:
    call = _Call(x, mask, size, groups, scale)
    grad_x, grad_mask = _gradients(grad, x, mask, size, groups, scale, wanted)
    if grad.numel() == 0:
        return grad_x.zero_(), grad_mask.zero_()
    grad = _dense(grad, call.last)
    if wanted[0]:
        call.grad_x(grad, grad_x)
    if wanted[1]:
        call.grad_mask(grad, grad_mask)
    return grad_x, grad_mask


# --- Operations -------------------------------------------------------------------------------------------------


def _out(x: Tensor, mask: Tensor, size: int, groups: int, scale: int) -> Tensor:
    _check(x, mask, size, groups, scale)
    return _new(x, scale)


def _gradients(
    grad: Tensor, x: Tensor, mask: Tensor, size: int, groups: int, scale: int, wanted: list[bool]
) -> tuple[Tensor, Tensor]:
    """Empty gradients; one that isn't wanted has no elements."""
    n, c, h, w = x.shape
    if grad.shape != (n, c, scale * h, scale * w) or grad.dtype != x.dtype:
        raise ValueError(f"grad is {grad.dtype} {tuple(grad.shape)}; expected the output's dtype and shape, {x.dtype}")
    return (
        _new(x, 1) if wanted[0] else x.new_empty(0),
        torch.empty(mask.shape, dtype=mask.dtype, device=mask.device) if wanted[1] else mask.new_empty(0),
    )


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, mask, *ctx.problem = inputs
    ctx.save_for_backward(x, mask)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, mask = ctx.saved_tensors
    wanted = list(ctx.needs_input_grad[:2])
    gradients = torch.ops.opbench.carafe_cpu_backward(grad, x, mask, *ctx.problem, wanted)
    return *(g if w else None for g, w in zip(gradients, wanted, strict=True)), None, None, None


define("carafe_cpu(Tensor x, Tensor mask, int kernel_size, int group_size, int scale_factor) -> Tensor", _forward, _out)
define(
    "carafe_cpu_backward(Tensor grad, Tensor x, Tensor mask, int kernel_size, int group_size, int scale_factor, "
    "bool[2] wanted) -> (Tensor, Tensor)",
    _backward,
    _gradients,
)
differentiate("carafe_cpu", _differentiate, _setup)
