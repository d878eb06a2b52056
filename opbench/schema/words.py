"""What devices, modes and dtypes are called, and the types of dimensions, settings and named tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

Setting = bool | int | float | str
# Of a task, by name; what an operator is called with holds its own settings too.
Dims = Mapping[str, Any]
Tensors = Mapping[str, "torch.Tensor"]
Device = Literal["cpu", "cuda"]
Mode = Literal["inference", "training"]
DType = Literal["float64", "float32", "bfloat16", "float16"]
# How images (N, C, H, W) lie in memory: torch's default, or the channels of a pixel side by side.
MemoryFormat = Literal["contiguous", "channels_last"]
# What a run can be narrowed to.
Filter = Literal[
    "task", "workload", "operator", "implementation", "dtype", "device", "mode", "runtime", "memory_format"
]

DEVICES: tuple[Device, ...] = ("cpu", "cuda")
MODES: tuple[Mode, ...] = ("inference", "training")
DTYPES: tuple[DType, ...] = ("float64", "float32", "bfloat16", "float16")
MEMORY_FORMATS: tuple[MemoryFormat, ...] = ("contiguous", "channels_last")
