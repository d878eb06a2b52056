"""The few SVG elements that the pictures need, as text. Every text is escaped; the same picture gives the same bytes.

Coordinates are in SVG user units, two decimals at most, so that no platform's printing of floats shows.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from opbench.drawings import Drawing
from opbench.report.escape import visible

if TYPE_CHECKING:
    import numpy as np

FONT = "DejaVu Sans, Verdana, sans-serif"
INK, MUTED = "#222222", "#666666"

Value = str | float | int


def element(name: str, *inside: str, **attributes: Value) -> str:
    """One element; `stroke_width` is written stroke-width."""
    written = "".join(f' {key.replace("_", "-")}="{_value(value)}"' for key, value in attributes.items())
    return f"<{name}{written}>{''.join(inside)}</{name}>" if inside else f"<{name}{written}/>"


def text(x: float, y: float, words: str, *, size: float = 11, fill: str = INK, **attributes: Value) -> str:
    """Words with their baseline at (x, y)."""
    return element("text", escape(visible(words)), x=x, y=y, font_size=size, fill=fill, **attributes)


def document(drawing: Drawing) -> str:
    """The whole document, on white."""
    width, height = drawing.width, drawing.height
    head = (
        element("title", escape(visible(drawing.title))),
        element("desc", escape(visible(drawing.description))),
        element("rect", width=width, height=height, fill="white"),
    )
    return element(
        "svg",
        *head,
        *drawing.parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_value(width)} {_value(height)}",
        width=width,
        height=height,
        font_family=FONT,
        role="img",
    )


def raster(rgb: np.ndarray, x: float, y: float, scale: int) -> str:
    """`rgb` (H, W, 3) of 0 to 255, each pixel a square of `scale` units: no viewer smooths it."""
    enlarged = rgb.repeat(scale, 0).repeat(scale, 1)
    height, width = enlarged.shape[:2]
    return element(
        "image", x=x, y=y, width=width, height=height, href=f"data:image/png;base64,{_base64(png(enlarged))}"
    )


def png(rgb: np.ndarray) -> bytes:
    """`rgb` (H, W, 3) of 0 to 255 as a PNG file."""
    height, width, _ = rgb.shape
    rows = b"".join(b"\0" + row.tobytes() for row in rgb.astype("uint8"))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def axes(x: float, y: float, height: int, width: int, scale: float, step: int, label: str) -> list[str]:
    """Ticks every `step` pixels left of and below an image of (height, width) pixels, and what they count."""
    side = [
        text(x - 6, y + (at + 0.5) * scale + 3.5, str(at), size=10, fill=MUTED, text_anchor="end")
        for at in range(0, height, step)
    ]
    below = y + height * scale
    bottom = [
        text(x + (at + 0.5) * scale, below + 14, str(at), size=10, fill=MUTED, text_anchor="middle")
        for at in range(0, width, step)
    ]
    return [*side, *bottom, text(x + width * scale / 2, below + 28, label, size=10, fill=MUTED, text_anchor="middle")]


def mixed(share: float, colours: Sequence[tuple[int, int, int]]) -> str:
    """The colour at `share` (0 to 1) of a ramp."""
    place = min(max(share, 0.0), 1.0) * (len(colours) - 1)
    low = min(int(place), len(colours) - 2)
    parts = (
        round(one + (place - low) * (other - one)) for one, other in zip(colours[low], colours[low + 1], strict=True)
    )
    return "#" + "".join(f"{part:02x}" for part in parts)


def _value(value: Value) -> str:
    if isinstance(value, str):
        return escape(value, quote=True)
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
