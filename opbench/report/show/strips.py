"""Channels as coloured bars, and arrows between them: how an operator parts, mixes and orders channels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from opbench.report.show.svg import INK, MUTED, element, text


def strips(x: float, y: float, colours: Sequence[str], width: float, height: float) -> Iterator[str]:
    """One bar a channel, from (x, y) down, each with its number."""
    for channel, colour in enumerate(colours):
        top = y + channel * height
        yield element("rect", x=x, y=top, width=width, height=height - 2, fill=colour)
        yield text(x - 6, top + height / 2 + 3, str(channel), size=9, fill=MUTED, text_anchor="end")


def arrow(x: float, y: float, to_x: float, to_y: float) -> Iterator[str]:
    """A straight one whose head points to the right."""
    yield element("line", x1=x, y1=y, x2=to_x - 6, y2=to_y, stroke=INK, stroke_width=1)
    head = f"{to_x:.2f},{to_y:.2f} {to_x - 7:.2f},{to_y - 3.5:.2f} {to_x - 7:.2f},{to_y + 3.5:.2f}"
    yield element("polygon", points=head, fill=INK)
