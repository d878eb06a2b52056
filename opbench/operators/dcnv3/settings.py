"""The settings of DCNv3's sampling, in one place: their defaults, what they must be, and the sizes that follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from opbench.operators.common.arguments import check_int


@dataclass(frozen=True, kw_only=True)
class DCNv3Settings:
    """What a call of a core is given beside its tensors. `check` says whether any input can be right for it."""

    kernel_size: int
    stride: int = 1
    pad: int
    dilation: int = 1
    group: int
    offset_scale: float = 1.0
    remove_center: bool = False

    @classmethod
    def of(cls, layer: Any) -> DCNv3Settings:
        """Those of a layer, from its attributes of the same names as they are now."""
        return cls(**{name: getattr(layer, name) for name in cls.__dataclass_fields__})

    @property
    def options(self) -> dict[str, Any]:
        """The same as keyword arguments, which is how a core takes them."""
        return {
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "pad": self.pad,
            "dilation": self.dilation,
            "group": self.group,
            "offset_scale": self.offset_scale,
            "remove_center": self.remove_center,
        }

    @property
    def points(self) -> int:
        """P, the sampling points of an output pixel and group."""
        return self.kernel_size**2 - self.remove_center

    @property
    def half(self) -> int:
        """Pixels from the window's first row to its centre."""
        return (self.dilation * (self.kernel_size - 1)) >> 1

    def output_size(self, size: int) -> int:
        """Ho or Wo of an input of `size` pixels."""
        return output_size(size, self.kernel_size, self.stride, self.pad, self.dilation)

    def check(self) -> None:
        """Raises TypeError or ValueError for settings that no input can be right for."""
        for name, value, least in (
            ("kernel_size", self.kernel_size, 1),
            ("stride", self.stride, 1),
            ("pad", self.pad, 0),
            ("dilation", self.dilation, 1),
            ("group", self.group, 1),
        ):
            check_int(name, value, least)
        if isinstance(self.offset_scale, bool) or not isinstance(self.offset_scale, (int, float)):
            raise TypeError(f"offset_scale: expected a number, got {self.offset_scale!r}")
        # Checkpoints and configurations write the flag as 0 or 1.
        if self.remove_center not in (False, True):
            raise ValueError(f"remove_center: expected True or False, got {self.remove_center!r}")
        if self.remove_center and self.kernel_size % 2 == 0:
            raise ValueError(
                f"remove_center: a kernel of even size {self.kernel_size} has no centre; use an odd kernel_size"
            )
        if self.remove_center and self.kernel_size == 1:
            raise ValueError("remove_center: kernel_size 1 has only its centre; nothing would be sampled")


def output_size(size: int, kernel_size: int, stride: int, pad: int, dilation: int) -> int:
    """Ho or Wo of an input of `size` pixels."""
    return (size + 2 * pad - (dilation * (kernel_size - 1) + 1)) // stride + 1
