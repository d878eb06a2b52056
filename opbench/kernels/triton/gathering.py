"""x's gradient without atomics: samples sorted by the cell they fall into, whose pixels then sum them in a fixed order.

A cell is what lies between four neighbouring pixels; those of an image with a border of one pixel are (H + 1, W + 1).
Samples are in the order (N, Ho, Wo, G, P).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from opbench.kernels.triton.launch import Candidate, launch, power_of_two

# Pixels and channels of a tile, channels-first and last.
_TILES = ({"BQ": 32, "BC": 8}, {"BQ": 32, "BC": 32})
_WARPS = 4


def takes_atomics(name: str, deterministic: bool | None) -> bool:
    """Whether an operation of this name adds up x's gradient by atomics, by its argument and torch's global mode."""
    if deterministic is not None:
        return not deterministic
    if not torch.are_deterministic_algorithms_enabled():
        return True
    if torch.is_deterministic_algorithms_warn_only_enabled():
        warnings.warn(
            f"{name} adds up x's gradient by atomics, which is not deterministic: pass deterministic=True, or "
            "call torch.use_deterministic_algorithms(True) without warn_only",
            stacklevel=2,
        )
        return True
    return False


class Samples:
    """So many samples of images (N, G, H, W), of which a kernel writes each one's cell, and where in that it lies.

    `keys` are the cells, `nowhere` the key of one that doesn't count; `across` and `down` are in [0, 1], in `dtype`.
    """

    def __init__(
        self, number: int, images: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device
    ) -> None:
        n, groups, h, w = images
        self.images = images
        self.cells = n * groups * (h + 1) * (w + 1)
        self.keys = torch.empty(number, dtype=torch.int64, device=device)
        self.across, self.down = (torch.empty(number, dtype=dtype, device=device) for _ in range(2))

    @property
    def nowhere(self) -> int:
        """The key of samples that don't count."""
        return self.cells

    def gather(
        self,
        weights: Tensor | None,
        grad: Tensor,
        grad_x: Tensor,
        strides: Mapping[str, int],
        *,
        points: int,
        last: bool,
    ) -> None:
        """Fills grad_x from out's gradient and the samples' weights (none: each counts once); `last`: channels are.

        `strides` are the kernel's arguments of that name and Ho and Wo: of weights m..., of grad o..., of grad_x g...
        """
        from triton import language

        from opbench.kernels.triton import bilinear_kernels

        n, groups, h, w = self.images
        channels = grad_x.numel() // (n * groups * h * w)
        keys, order = torch.sort(self.keys, stable=True)
        starts = torch.searchsorted(keys, torch.arange(self.cells + 1, device=keys.device))
        pixels = n * groups * h * w
        unread = {} if weights is not None else dict.fromkeys(("mn", "mh", "mw", "mg", "mc"), 0)
        blocks = {**_TILES[last], "BC": min(_TILES[last]["BC"], power_of_two(channels))}

        def programs(blocks: Mapping[str, int]) -> tuple[dict[str, int], int]:
            parts = -(-channels // blocks["BC"])
            return {"pixels": pixels, "blocks": parts}, -(-pixels // blocks["BQ"]) * parts

        launch(
            bilinear_kernels.gather,
            [Candidate(blocks, _WARPS)],
            programs,
            {
                "across": self.across, "down": self.down, "weights": self.across if weights is None else weights,
                "grad": grad, "order": order, "starts": starts, "grad_x": grad_x,
            },
            {"H": h, "W": w, "G": groups, "CG": channels, **unread, **strides},
            {
                "P": points, "WEIGHED": weights is not None, "AXIS": int(last),
                "ACC": language.float64 if self.across.dtype == torch.float64 else language.float32,
            },
        )  # fmt: skip
