"""Weights as a table of coloured cells with their numbers in percent, and the ramp that says what the colours mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from opbench.report.show.svg import INK, MUTED, Value, element, mixed, text

BLUES = ((247, 251, 255), (158, 202, 225), (33, 113, 181), (8, 48, 107))
STEPS, STEP = 40, 4


def cells(x: float, y: float, rows: Sequence[Sequence[float]], side: float, most: float) -> Iterator[str]:
    """`rows` of weights from (x, y) on, each a square of `side`; a weight of `most` has the darkest colour."""
    for i, row in enumerate(rows):
        for j, weight in enumerate(row):
            share = weight / most if most else 0.0
            left, top = x + j * side, y + i * side
            box: dict[str, Value] = {
                "x": left,
                "y": top,
                "width": side,
                "height": side,
                "stroke": "#cccccc",
                "stroke_width": 0.5,
            }
            yield element("rect", **box, fill=mixed(share, BLUES))
            ink = "#ffffff" if share > 0.55 else INK
            words = f"{100 * weight:.0f}"
            size = min(10.0, 0.4 * side)
            yield text(left + side / 2, top + side / 2 + 0.35 * size, words, size=size, fill=ink, text_anchor="middle")


def ramp(x: float, y: float, most: float, words: str) -> Iterator[str]:
    """From 0 to `most`, and what is meant."""
    for step in range(STEPS):
        colour = mixed(step / (STEPS - 1), BLUES)
        yield element("rect", x=x + step * STEP, y=y, width=STEP + 0.5, height=12, fill=colour)
    yield text(x, y + 26, "0 %", size=10, fill=MUTED)
    yield text(x + STEPS * STEP, y + 26, f"{100 * most:.3g} %", size=10, fill=MUTED, text_anchor="end")
    yield text(x + STEPS * STEP + 12, y + 11, words, size=11)
