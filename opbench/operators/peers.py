"""Others' compiled operators as implementations of ours: mmcv's CARAFE, torchvision, the official DCNv3, DCNv4.

An adapter is in `CARAFE_PEERS` or `DCNV3_PEERS` only where its package is installed; none is ever chosen by "auto".
Each does no more than arrange tensors as the peer documents them. What a peer can't do is refused with a ValueError
that names the option, which `opbench check` lists as unsupported.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from opbench.operators import dcnv2_cores
from opbench.schema import Implementation


def mmcv_carafe(x: Tensor, mask: Tensor, *, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
    """x (N, C, H, W), mask (N, g*k*k, sH, sW): mmcv.ops.carafe, which has our core's layout. CUDA."""
    carafe = importlib.import_module("mmcv.ops").carafe
    out: Tensor = carafe(x.contiguous(), mask.contiguous(), kernel_size, group_size, scale_factor)
    return out


def torchvision_dcnv3(
    x: Tensor,
    offset: Tensor,
    mask: Tensor,
    *,
    kernel_size: int,
    stride: int,
    pad: int,
    dilation: int,
    group: int,
    offset_scale: float,
    remove_center: bool,
) -> Tensor:
    """x (N, H, W, C): torchvision.ops.deform_conv2d, deformable convolution v2 with unit weights for each channel.

    Its tap in row j and column i lies at (v*stride - pad + j*dilation + y, u*stride - pad + i*dilation + x), taps by
    rows, pairs (y, x), channels first. So an offset o of DCNv3, x outer, becomes half - i*d + (i*d - half + o) a.
    """
    N, _, _, C = x.shape
    _, Ho, Wo, _ = offset.shape
    half = (dilation * (kernel_size - 1)) >> 1
    # Counted, not copied from the host: a CUDA graph that is being captured forbids it.
    steps = torch.arange(kernel_size, dtype=offset.dtype, device=offset.device) * dilation
    grid = torch.cartesian_prod(steps, steps)
    if remove_center:
        grid = torch.cat((grid[: kernel_size**2 // 2], grid[kernel_size**2 // 2 + 1 :]))
    pairs = offset.reshape(N, Ho, Wo, group, -1, 2)
    moved = half - grid + (grid - half + pairs) * offset_scale
    weights = mask.reshape(N, Ho, Wo, group, -1, 1)
    if remove_center:
        moved, weights = (_with_middle(values, kernel_size**2 // 2) for values in (moved, weights))
    # Points x outer -> taps by rows, (x, y) -> (y, x), and channels first.
    moved = moved.unflatten(4, (kernel_size, kernel_size)).transpose(4, 5).flip(-1)
    weights = weights.unflatten(4, (kernel_size, kernel_size)).transpose(4, 5)
    # It floors whatever number it gets: NaN, infinite and far locations go to one harmless place outside.
    moved = torch.where(moved.abs() < 1e6, moved, 1e6)
    unit = torch.ones(C, 1, kernel_size, kernel_size, dtype=x.dtype, device=x.device)
    out = dcnv2_cores.torchvision(
        x.permute(0, 3, 1, 2).contiguous(),
        moved.flatten(3).permute(0, 3, 1, 2).contiguous(),
        weights.flatten(3).permute(0, 3, 1, 2).contiguous(),
        unit,
        stride=stride,
        pad=pad,
        dilation=dilation,
        group=group,
    )
    return out.permute(0, 2, 3, 1)


def _with_middle(values: Tensor, middle: int) -> Tensor:
    """(N, Ho, Wo, G, P, ...) -> P + 1 points, zeros for the middle one: what has mask 0 weighs nothing."""
    return torch.cat((values[..., :middle, :], torch.zeros_like(values[..., :1, :]), values[..., middle:, :]), -2)


class _OfficialDCNv3(torch.autograd.Function):
    """The extension's pair of functions; its arguments are the same for both up to the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, offset: Tensor, mask: Tensor, settings: tuple[Any, ...], last: Any) -> Tensor:
        ctx.save_for_backward(x, offset, mask)
        ctx.settings, ctx.last = settings, last
        extension = importlib.import_module("DCNv3")
        out: Tensor = extension.dcnv3_forward(x, offset, mask, *settings, *last)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        extension = importlib.import_module("DCNv3")
        found = extension.dcnv3_backward(*ctx.saved_tensors, *ctx.settings, gradients[0].contiguous(), *ctx.last)
        return (*found, None, None)


def official_dcnv3(
    x: Tensor,
    offset: Tensor,
    mask: Tensor,
    *,
    kernel_size: int,
    stride: int,
    pad: int,
    dilation: int,
    group: int,
    offset_scale: float,
    remove_center: bool,
) -> Tensor:
    """x (N, H, W, C): InternImage's compiled extension `DCNv3`, which has our core's layout. CUDA.

    Version 1.0 knows no remove_center.
    """
    both = (kernel_size, kernel_size, stride, stride, pad, pad, dilation, dilation)
    settings = (*both, group, x.shape[-1] // group, float(offset_scale))
    images_at_once = max(1, x.shape[0])
    last: tuple[Any, ...] = (images_at_once, bool(remove_center))
    if importlib.metadata.version("DCNv3").startswith("1.0"):
        if remove_center:
            raise ValueError("remove_center: version 1.0 of the DCNv3 extension does not know it; install 1.1")
        last = last[:1]
    out: Tensor = _OfficialDCNv3.apply(x.contiguous(), offset.contiguous(), mask.contiguous(), settings, last)  # type: ignore[no-untyped-call]
    return out


def dcnv4(
    x: Tensor,
    offset: Tensor,
    mask: Tensor,
    *,
    kernel_size: int,
    stride: int,
    pad: int,
    dilation: int,
    group: int,
    offset_scale: float,
    remove_center: bool,
) -> Tensor:
    """x (N, H, W, C): DCNv4's operation, which is DCNv3's with the mask taken as it comes. CUDA.

    Offsets and masks of a group stand together, [2P offsets | P masks], all groups padded to a multiple of 8.
    """
    channels = x.shape[-1] // group
    if channels % 16:
        raise ValueError(f"group: DCNv4 works on multiples of 16 channels a group, got {channels}; use fewer groups")
    function = importlib.import_module("DCNv4.functions").DCNv4Function
    parts = (values.unflatten(-1, (group, -1)) for values in (offset, mask))
    packed = torch.cat(tuple(parts), -1).flatten(-2)
    packed = F.pad(packed, (0, -packed.shape[-1] % 8))
    both = (kernel_size, kernel_size, stride, stride, pad, pad, dilation, dilation)
    images_at_once = max(1, x.shape[0])
    arguments = (*both, group, channels, float(offset_scale), images_at_once, int(remove_center))
    out: Tensor = function.apply(x.contiguous(), packed.contiguous(), *arguments)
    return out.reshape(*mask.shape[:3], x.shape[-1])


def _importable(*names: str) -> Callable[[], str | None]:
    """Whether all of a peer's modules can be imported; if not, which one says what."""

    def missing() -> str | None:
        for name in names:
            try:
                importlib.import_module(name)
            except (ImportError, OSError, RuntimeError) as error:
                return f"{name} is installed but can't be imported: {error}"
        return None

    return missing


_ON_CUDA: Mapping[str, Any] = {"devices": ("cuda",), "deterministic_backward": False}
ADAPTERS: Mapping[str, Mapping[str, Implementation]] = {
    "carafe": {
        "mmcv": Implementation("mmcv", mmcv_carafe, missing=_importable("mmcv.ops"), note="mmcv.ops.carafe", **_ON_CUDA)
    },
    "dcnv3": {
        "torchvision": Implementation(
            "torchvision",
            torchvision_dcnv3,
            dtypes=("float64", "float32"),
            missing=dcnv2_cores.torchvision_missing,
            deterministic_backward=False,
            note="torchvision.ops.deform_conv2d with unit weights, between two transpositions",
        ),
        "DCNv3": Implementation(
            "DCNv3",
            official_dcnv3,
            dtypes=("float32", "float16"),
            missing=_importable("DCNv3"),
            note="InternImage's CUDA extension",
            **_ON_CUDA,
        ),
        "DCNv4": Implementation(
            "DCNv4",
            dcnv4,
            dtypes=("float32", "float16"),
            missing=_importable("DCNv4.functions"),
            note="DCNv4's CUDA extension, offsets and masks copied together first",
            **_ON_CUDA,
        ),
    },
}


def _installed(adapters: Mapping[str, Implementation]) -> Mapping[str, Implementation]:
    return {name: peer for name, peer in adapters.items() if importlib.util.find_spec(name) is not None}


CARAFE_PEERS = _installed(ADAPTERS["carafe"])
DCNV3_PEERS = _installed(ADAPTERS["dcnv3"])
