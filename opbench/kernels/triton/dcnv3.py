"""DCNv3's core on CUDA, in Triton: `dcnv3_triton`, `dcnv3_triton_logits`, their operations and launches.

Axes: x (N, H, W, C), offset (N, Ho, Wo, G*P*2), mask and logits (N, Ho, Wo, G*P), out (N, Ho, Wo, C). float64,
float32, and bfloat16 and float16 with locations, weights and sums in float32. Inputs are read in place whatever their
strides; results are contiguous.

A sample that isn't strictly inside (-1, W) x (-1, H), or isn't a number, contributes nothing and gets no gradient;
nothing outside x is read. `dcnv3_triton_logits` applies the softmax over the P points of each group in the kernels.

The gradients of offset and mask agree bit for bit between runs. That of x is added up by float32 atomics (float64 for
float64), whose order differs from run to run, in a float32 copy of x. With `deterministic=True` it is gathered
instead: samples are sorted by the cell they fall into and every pixel sums its own in a fixed order, at the price of
the sort and of some 40 bytes a sample. `deterministic=None` does so where `torch.use_deterministic_algorithms(True)`
is on; with `warn_only=True` the atomics stay, with a warning.

What should bound each kernel, from their loads (not measured on a GPU):
- forward: L1, four corners of 16 bytes a thread and point, of which memory delivers each about once at small offset
  spreads; at large ones L2. With 16 channels a group, locating samples costs as many instructions as sampling.
- backward: atomics, four a point and channel, in L2; then as forward, with three reductions a point.
- deterministic backward: the sort, several passes over 8-byte keys.

Longer than 300 lines because a launch and the operation that torch sees of it take the same arguments.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from opbench.kernels.dcnv3_shapes import check, gradients
from opbench.kernels.operation import define, differentiate, refuse_forward_mode
from opbench.kernels.triton.launch import DEVICES, Candidate, launch, power_of_two, spans_64_bits

# Rows and columns of a tile of output pixels, most channels (half as many in float64, where only the first is taken),
# and warps, the likeliest first. A thread takes 16 bytes of channels. None spills for sm_80, sm_90 and sm_100.
_TILES: Mapping[str, tuple[tuple[int, int, int, int], ...]] = {
    "forward": ((4, 8, 64, 4), (8, 8, 64, 8), (8, 8, 16, 4)),
    "backward": ((8, 8, 32, 8), (8, 8, 16, 4), (4, 8, 16, 4)),
    "backward from logits": ((8, 8, 16, 8), (4, 8, 16, 8)),
}
_CELLS = Candidate({"B": 256}, 4)
_GATHER = Candidate({"BQ": 32, "BC": 32}, 4)


def dcnv3_triton(
    x: Tensor,
    offset: Tensor,
    mask: Tensor,
    *,
    kernel_size: int,
    stride: int = 1,
    pad: int,
    dilation: int = 1,
    group: int,
    offset_scale: float = 1.0,
    remove_center: bool = False,
    deterministic: bool | None = None,
) -> Tensor:
    """x (N, H, W, C), offset (N, Ho, Wo, G*P*2), mask (N, Ho, Wo, G*P) -> (N, Ho, Wo, C).

    `deterministic` is about x's gradient: see the module.
    """
    refuse_forward_mode("dcnv3_triton", x, offset, mask)
    out: Tensor = torch.ops.opbench.dcnv3_triton(
        x, offset, mask, kernel_size, stride, pad, dilation, group, offset_scale, remove_center, deterministic
    )
    return out


def dcnv3_triton_logits(
    x: Tensor,
    offset: Tensor,
    logits: Tensor,
    *,
    kernel_size: int,
    stride: int = 1,
    pad: int,
    dilation: int = 1,
    group: int,
    offset_scale: float = 1.0,
    remove_center: bool = False,
    deterministic: bool | None = None,
) -> Tensor:
    """The same with mask = softmax of logits (N, Ho, Wo, G*P) over each group's P points, which is never written."""
    refuse_forward_mode("dcnv3_triton_logits", x, offset, logits)
    out: Tensor = torch.ops.opbench.dcnv3_triton_logits(
        x, offset, logits, kernel_size, stride, pad, dilation, group, offset_scale, remove_center, deterministic
    )
    return out


# --- Launches ---------------------------------------------------------------------------------------------------


class _Call:
    """One problem: what its kernels share."""

    def __init__(self, x: Tensor, offset: Tensor, mask: Tensor, parameters: Sequence[Any], fused: bool) -> None:
        size, stride, pad, dilation, groups, scale, remove_center = parameters
        self.points, self.out_h, self.out_w = check(x, offset, mask, *parameters)
        self.x, self.offset, self.mask, self.fused = x, offset, mask, fused
        self.n, self.h, self.w, self.c = x.shape
        self.groups, self.channels = groups, self.c // groups
        self.window = {
            "K": size,
            "P": self.points,
            "STRIDE": stride,
            "ORIGIN": dilation * (size - 1) // 2 - pad,
            "DILATION": dilation,
            "SCALE": float(scale),
            "CENTRE": remove_center,
        }
        self.sizes = {"H": self.h, "W": self.w, "Ho": self.out_h, "Wo": self.out_w, "G": groups}
        self.out_shape = (self.n, self.out_h, self.out_w, self.c)
        self.dtype = torch.float64 if x.dtype == torch.float64 else torch.float32

    @property
    def empty(self) -> bool:
        """Whether there is nothing to sum."""
        return 0 in (self.n, self.c, self.points, self.h, self.w)

    def tiled(
        self, name: str, tensors: Mapping[str, Tensor], out: Tensor, wanted: Mapping[str, bool], **more: Any
    ) -> None:
        """Launches a kernel over tiles of output pixels."""
        found: list[Candidate] = []
        kind = "backward from logits" if self.fused and name == "backward" else name
        for rows, columns, channels, warps in _TILES[kind]:
            wide = self.dtype == torch.float64
            channels = channels // 2 if wide else channels
            if found and (wide or self.channels <= channels // 2):
                continue  # the first does, cut down
            blocks = {
                "BH": min(rows, power_of_two(self.out_h)),
                "BW": min(columns, power_of_two(self.out_w)),
                "BC": min(channels, power_of_two(self.channels)),
            }
            found.append(Candidate(blocks, warps))

        def programs(blocks: Mapping[str, int]) -> tuple[dict[str, int], int]:
            across, down = -(-self.out_w // blocks["BW"]), -(-self.out_h // blocks["BH"])
            channels = -(-self.channels // blocks["BC"])
            count = self.n * self.groups * across * down * (channels if name == "forward" else 1)
            return {"columns": across, "tiles": across * down, "blocks": channels}, count

        wide = spans_64_bits((self.x, self.offset, self.mask, out))
        constants = {**self.window, "FUSED": self.fused, "PP": power_of_two(self.points), "WIDE": wide, **wanted}
        given = {"x": self.x, "offset": self.offset, "mask": self.mask, **tensors}
        strides = _strides(x=self.x, f=self.offset, m=self.mask, o=out)
        self.launch(name, found, programs, given, {**self.sizes, "CG": self.channels, **strides}, constants, **more)

    def launch(
        self, name: str, candidates: Sequence[Candidate], programs: Any, tensors: Mapping[str, Tensor],
        arguments: Mapping[str, Any], constants: Mapping[str, Any], **more: Any,
    ) -> None:  # fmt: skip
        """Launches a kernel of this problem's dtype."""
        from triton import language

        from opbench.kernels.triton import dcnv3_kernels

        acc = language.float64 if self.dtype == torch.float64 else language.float32
        kernel = getattr(dcnv3_kernels, name)
        launch(kernel, candidates, programs, tensors, arguments, {**constants, "ACC": acc}, **more)

    def forward(self, out: Tensor) -> None:
        """out from x, offset and mask."""
        self.tiled("forward", {"out": out}, out, {})

    def backward(self, grad: Tensor, gradients: Sequence[Tensor], wanted: Sequence[bool]) -> None:
        """Any of the gradients, of x by atomics; those of x and, from logits, of the mask pass through `dtype`."""
        grad_x, grad_offset, grad_mask = gradients
        total, sums = (
            torch.empty(t.shape, dtype=self.dtype, device=t.device) if w and t.dtype != self.dtype else t
            for t, w in ((grad_x, wanted[0]), (grad_mask, wanted[2] and self.fused))
        )
        tensors = {"grad": grad, "grad_x": total, "grad_offset": grad_offset, "sums": sums, "grad_mask": grad_mask}
        flags = dict(zip(("TO_X", "TO_OFFSET", "TO_MASK"), wanted, strict=True))
        self.tiled("backward", tensors, grad, flags, prepare=total.zero_)
        if total is not grad_x:
            grad_x.copy_(total)

    def gather(self, grad: Tensor, grad_x: Tensor) -> None:
        """x's gradient without atomics."""
        mask = self.mask
        if self.fused:
            logits = mask.unflatten(3, (self.groups, self.points))
            mask = logits.softmax(4, dtype=self.dtype).flatten(3)
        samples, cells = mask.numel(), self.n * self.groups * (self.h + 1) * (self.w + 1)
        keys = torch.empty(samples, dtype=torch.int64, device=grad.device)
        block = _CELLS.blocks["B"]
        self.launch(
            "cells",
            [_CELLS],
            lambda blocks: ({}, -(-samples // block)),
            {"offset": self.offset, "keys": keys},
            {**self.sizes, "samples": samples, "nowhere": cells, **_strides(f=self.offset)},
            self.window,
        )
        keys, order = torch.sort(keys, stable=True)
        starts = torch.searchsorted(keys, torch.arange(cells + 1, device=keys.device))
        pixels = self.n * self.groups * self.h * self.w
        candidate = Candidate(
            {**_GATHER.blocks, "BC": min(_GATHER.blocks["BC"], power_of_two(self.channels))}, _GATHER.warps
        )

        def programs(blocks: Mapping[str, int]) -> tuple[dict[str, int], int]:
            channels = -(-self.channels // blocks["BC"])
            return {"pixels": pixels, "blocks": channels}, -(-pixels // blocks["BQ"]) * channels

        tensors = {"offset": self.offset, "mask": mask, "grad": grad, "order": order, "starts": starts}
        strides = _strides(f=self.offset, m=mask, o=grad)
        arguments = {**self.sizes, "CG": self.channels, **strides}
        self.launch("gather", [candidate], programs, {**tensors, "grad_x": grad_x}, arguments, self.window)


def _strides(**tensors: Tensor) -> dict[str, int]:
    """The kernels' arguments for strides: a tensor's letter and its axis."""
    return {
        letter + axis: stride
        for letter, tensor in tensors.items()
        for axis, stride in zip("nhwc", tensor.stride(), strict=True)
    }


def _takes_atomics(deterministic: bool | None) -> bool:
    if deterministic is not None:
        return not deterministic
    if not torch.are_deterministic_algorithms_enabled():
        return True
    if torch.is_deterministic_algorithms_warn_only_enabled():
        warnings.warn(
            "dcnv3_triton adds up x's gradient by atomics, which is not deterministic: pass deterministic=True, or "
            "call torch.use_deterministic_algorithms(True) without warn_only",
            stacklevel=2,
        )
        return True
    return False


def _compute(x: Tensor, offset: Tensor, mask: Tensor, parameters: Sequence[Any], fused: bool) -> Tensor:
    call = _Call(x, offset, mask, parameters, fused)
    out = x.new_empty(call.out_shape)
    if call.empty:
        return out.zero_()
    call.forward(out)
    return out


def _compute_gradients(
    grad: Tensor, x: Tensor, offset: Tensor, mask: Tensor, rest: Sequence[Any], fused: bool
) -> tuple[Tensor, Tensor, Tensor]:
    *parameters, deterministic, wanted = rest
    call = _Call(x, offset, mask, parameters, fused)
    grad_x, grad_offset, grad_mask = made = gradients(grad, x, offset, mask, wanted)
    if call.empty:
        return grad_x.zero_(), grad_offset.zero_(), grad_mask.zero_()
    atomic = wanted[0] and _takes_atomics(deterministic)
    if atomic or wanted[1] or wanted[2]:
        call.backward(grad, made, (atomic, *wanted[1:]))
    if wanted[0] and not atomic:
        call.gather(grad, grad_x)
    return made


# --- Operations -------------------------------------------------------------------------------------------------


def _forward(x: Tensor, offset: Tensor, mask: Tensor, *parameters: Any) -> Tensor:
    return _compute(x, offset, mask, parameters[:-1], fused=False)


def _forward_logits(x: Tensor, offset: Tensor, logits: Tensor, *parameters: Any) -> Tensor:
    return _compute(x, offset, logits, parameters[:-1], fused=True)


def _backward(grad: Tensor, x: Tensor, offset: Tensor, mask: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _compute_gradients(grad, x, offset, mask, rest, fused=False)


def _backward_logits(
    grad: Tensor, x: Tensor, offset: Tensor, logits: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return _compute_gradients(grad, x, offset, logits, rest, fused=True)


def _out(x: Tensor, offset: Tensor, mask: Tensor, *parameters: Any) -> Tensor:
    _, out_h, out_w = check(x, offset, mask, *parameters[:-1])
    return x.new_empty((x.shape[0], out_h, out_w, x.shape[3]))


def _shapes(grad: Tensor, x: Tensor, offset: Tensor, mask: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    *parameters, _, wanted = rest
    check(x, offset, mask, *parameters)
    return gradients(grad, x, offset, mask, wanted)


_PARAMETERS = (
    "int kernel_size, int stride, int pad, int dilation, int group, float offset_scale, bool remove_center, "
    "bool? deterministic"
)
for _name, _mask, _run, _run_backward in (
    ("dcnv3_triton", "mask", _forward, _backward),
    ("dcnv3_triton_logits", "logits", _forward_logits, _backward_logits),
):
    _inputs = f"Tensor x, Tensor offset, Tensor {_mask}, {_PARAMETERS}"
    define(f"{_name}({_inputs}) -> Tensor", _run, _out, devices=DEVICES)
    define(
        f"{_name}_backward(Tensor grad, {_inputs}, bool[3] wanted) -> (Tensor, Tensor, Tensor)",
        _run_backward,
        _shapes,
        devices=DEVICES,
    )
    differentiate(_name, tensors=3)
