"""Sampling at displaced points as people get it wrong: what deformable operators are taken for (`opbench.anatomy`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from opbench.anatomy import WrongDefinition


@dataclass(frozen=True)
class Displaced:
    """Where samples are taken, in pixels: x and y (N, Ho, Wo, G, P) without offsets, and their offsets.

    `height` and `width` are the image's, `pad` what was laid around it.
    """

    base_x: Tensor
    base_y: Tensor
    offset_x: Tensor
    offset_y: Tensor
    height: int
    width: int
    pad: int

    @classmethod
    def at(
        cls, columns: Tensor, rows: Tensor, offsets: tuple[Tensor, Tensor], image: tuple[int, int], pad: int = 0
    ) -> Displaced:
        """Of bases that broadcast to their offsets (of x, of y), on an image (height, width)."""
        x, y = offsets
        return cls(columns.to(x.dtype).expand_as(x), rows.to(x.dtype).expand_as(x), x, y, *image, pad)

    @property
    def x(self) -> Tensor:
        """With their offsets."""
        return self.base_x + self.offset_x

    @property
    def y(self) -> Tensor:
        """With their offsets."""
        return self.base_y + self.offset_y


def samples(image: Tensor, x: Tensor, y: Tensor, mode: str = "bilinear", border: str = "zeros") -> Tensor:
    """image (N, H, W, C), x and y (N, Ho, Wo, G, P) in pixels -> (N, Ho, Wo, G, P, C/G)."""
    N, H, W, C = image.shape
    _, Ho, Wo, G, P = x.shape
    apart = image.reshape(N, H, W, G, C // G).permute(0, 3, 4, 1, 2).flatten(0, 1)
    grid = torch.stack(((2 * x + 1) / W - 1, (2 * y + 1) / H - 1), -1)
    grid = grid.permute(0, 3, 1, 2, 4, 5).reshape(N * G, Ho * Wo, P, 2)
    found = F.grid_sample(apart, grid, mode=mode, padding_mode=border, align_corners=False)
    return found.view(N, G, C // G, Ho, Wo, P).permute(0, 3, 4, 1, 5, 2)


def unmoved(at: Displaced) -> tuple[Tensor, Tensor]:
    """Where they belong."""
    return at.x, at.y


def windows(kernels: Sequence[int], rows: int, columns: int) -> Iterator[tuple[dict[str, int], int, int]]:
    """Windows over an image that are worth trying, and the height and width of the output: at least 2 x 2."""
    for k in kernels:
        for stride in (1, 2):
            for dilation in (1, 2, 3) if k > 1 else (1,):
                for pad in dict.fromkeys((dilation * (k - 1) // 2, 1, 0)):
                    v, u = ((size + 2 * pad - dilation * (k - 1) - 1) // stride + 1 for size in (rows, columns))
                    if min(v, u) >= 2:
                        yield {"kernel_size": k, "stride": stride, "pad": pad, "dilation": dilation}, v, u


# Where samples lie after all, x and y.
Moved = Callable[[Displaced], tuple[Tensor, Tensor]]


def _no_offsets(at: Displaced) -> tuple[Tensor, Tensor]:
    return at.base_x, at.base_y


def _against(at: Displaced) -> tuple[Tensor, Tensor]:
    return at.base_x - at.offset_x, at.base_y - at.offset_y


def _crossed_offsets(at: Displaced) -> tuple[Tensor, Tensor]:
    return at.base_x + at.offset_y, at.base_y + at.offset_x


def _crossed(at: Displaced) -> tuple[Tensor, Tensor]:
    return at.y, at.x


def _crossed_base(at: Displaced) -> tuple[Tensor, Tensor]:
    return at.base_y + at.offset_x, at.base_x + at.offset_y


def _crossed_units(at: Displaced) -> tuple[Tensor, Tensor]:
    """A grid of (y, x) for one of (x, y): each in the units of the other axis."""
    height, width = at.height + 2 * at.pad, at.width + 2 * at.pad
    x = (at.y + at.pad + 0.5) * width / height - 0.5 - at.pad
    return x, (at.x + at.pad + 0.5) * height / width - 0.5 - at.pad


def _units(share: float) -> Moved:
    def moved(at: Displaced) -> tuple[Tensor, Tensor]:
        height, width = at.height + 2 * at.pad, at.width + 2 * at.pad
        return at.base_x + at.offset_x * width * share, at.base_y + at.offset_y * height * share

    return moved


def _units_of_the_image(at: Displaced) -> tuple[Tensor, Tensor]:
    return at.base_x + at.offset_x * at.width / 2, at.base_y + at.offset_y * at.height / 2


def _spread(padded: bool) -> Moved:
    """Normalised by size - 1, sampled without aligned corners."""

    def moved(at: Displaced) -> tuple[Tensor, Tensor]:
        pad = at.pad if padded else 0
        width, height = at.width + 2 * pad, at.height + 2 * pad
        x = (at.x + pad) * width / (width - 1) - 0.5 - pad
        return x, (at.y + pad) * height / (height - 1) - 0.5 - pad

    return moved


def _drawn_in(padded: bool) -> Moved:
    """Normalised by size, sampled with aligned corners."""

    def moved(at: Displaced) -> tuple[Tensor, Tensor]:
        pad = at.pad if padded else 0
        width, height = at.width + 2 * pad, at.height + 2 * pad
        x = (at.x + pad + 0.5) * (width - 1) / width - pad
        return x, (at.y + pad + 0.5) * (height - 1) / height - pad

    return moved


def _half_a_pixel(at: Displaced) -> tuple[Tensor, Tensor]:
    return at.x - 0.5, at.y - 0.5


def _floor(at: Displaced) -> tuple[Tensor, Tensor]:
    return at.x.floor(), at.y.floor()


def _clamped(at: Displaced) -> tuple[Tensor, Tensor]:
    return at.x.clamp(0, at.width - 1), at.y.clamp(0, at.height - 1)


MOVES: tuple[tuple[str, Moved], ...] = (
    ("the sampling without its offsets: they are dropped", _no_offsets),
    ("the sampling with offsets subtracted", _against),
    ("the sampling with x and y of the offsets exchanged", _crossed_offsets),
    ("the sampling with x and y exchanged", _crossed),
    ("the sampling with x and y exchanged in its normalised grid", _crossed_units),
    ("the sampling with rows and columns of the pixels exchanged, not of their offsets", _crossed_base),
    ("the sampling with offsets in normalised units, -1 to 1 across the padded image", _units(0.5)),
    ("the sampling with offsets in normalised units, -1 to 1 across the image", _units_of_the_image),
    ("the sampling with offsets in units of the image's size", _units(1.0)),
    ("the sampling with locations normalised for aligned corners, and corners not aligned", _spread(padded=False)),
    (
        "the sampling with locations in the padded image normalised for aligned corners, and corners not aligned",
        _spread(padded=True),
    ),
    ("the sampling with corners aligned, and locations normalised as if they were not", _drawn_in(padded=False)),
    (
        "the sampling with corners aligned in the padded image, and locations normalised as if they were not",
        _drawn_in(padded=True),
    ),
    ("the sampling half a pixel too far up and left", _half_a_pixel),
    ("the sampling at locations rounded down: no interpolation", _floor),
    ("the sampling without zeros outside: locations are clamped to the image", _clamped),
)
MODES = (
    ("the sampling at the nearest pixel instead of bilinearly", "nearest", "zeros"),
    ("the sampling with reflected borders", "bilinear", "reflection"),
    ("the bicubic sampling", "bicubic", "zeros"),
)
DROPPED = "the sampling with every weight 1, as DCNv1 does: no mask takes part"
AVERAGED = "the sampling with equal weights: the mask is dropped"

# sampled(at, samples of it, mask or the weight of every point) -> the output, from an operator's own arguments.
Described = Callable[[Moved, str, str, float | None], Callable[..., Tensor]]


def wrong_samplings(
    described: Described, without_mask: tuple[str, ...], points: float | None
) -> tuple[WrongDefinition, ...]:
    """All of them, for an operator: `described(move, mode, border, weight)` is its definition with these exchanged."""
    found = [WrongDefinition(DROPPED, described(unmoved, "bilinear", "zeros", 1.0), without_mask)]
    if points is not None:
        found.append(WrongDefinition(AVERAGED, described(unmoved, "bilinear", "zeros", points), without_mask))
    found += [WrongDefinition(sentence, described(move, "bilinear", "zeros", None)) for sentence, move in MOVES]
    found += [WrongDefinition(sentence, described(unmoved, mode, border, None)) for sentence, mode, border in MODES]
    return tuple(found)
