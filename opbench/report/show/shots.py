"""What every drawing makes of a request: the output pixels to show, and a note on whose weights and image it is."""

from __future__ import annotations

from collections.abc import Sequence

from opbench.drawings import Shot
from opbench.schema import OpbenchError

# Of the height and the width: a corner, an edge, a flat place and a fine pattern of the synthetic image.
PLACES = ((0.33, 0.17), (0.30, 0.56), (0.73, 0.36), (0.0, 0.97))


def note(shot: Shot, channels: int) -> str:
    """Whose weights and whose image it is, in words."""
    where = f"layer {shot.layer} of " if shot.layer else ""
    whose = (
        f"weights of {where}{shot.weights.name}"
        if shot.weights
        else "initial weights"
        if shot.fresh
        else f"weights drawn as in measurements, seed {shot.seed}"
    )
    return f"{whose}; {channels} feature channels: seeded 3x3 filters of {shot.subject}"


def places(at: Sequence[str], height: int, width: int) -> list[tuple[int, int]]:
    """(row, column) of each output pixel asked for, else of PLACES."""
    if not at:
        return [(int(down * height), int(right * width)) for down, right in PLACES]
    found = []
    for words in at:
        try:
            row, column = map(int, words.split(","))
        except ValueError:
            raise OpbenchError(f"--at {words}: expected ROW,COLUMN, as in --at 10,24") from None
        if not (0 <= row < height and 0 <= column < width):
            raise OpbenchError(f"--at {words}: the output has rows 0 to {height - 1} and columns 0 to {width - 1}")
        found.append((row, column))
    return found
