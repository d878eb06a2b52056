"""Which inputs a module accepts: images from small to large, in the first layout that it takes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from opbench.conformance.promises import lines
from opbench.conformance.promises.promise import TargetRaised
from opbench.conformance.promises.subject import CHANNELS_FIRST, LAYOUTS, ImageSize, Subject
from opbench.schema import OpbenchError

SIDES = (4, 8, 16, 32)
SEVERAL_INPUTS = "a module of one image (N, C, H, W) can be judged: put one round it that makes the other inputs"
OTHER_SHAPE = "give the shape of one that it accepts with --shape N=2,C=64,H=32,W=32"
# Of modules that are built for one size.
FIXED_SIDES = (7, 14, 28, 56, 64, 112, 224)
MOST_SIZES = 4
# One call at a larger size may take this long; else the smaller ones have to do.
SLOW_SECONDS = 0.15


def accept(subject: Subject, channels: Sequence[int], shape: Mapping[str, int]) -> list[str]:
    """Finds the sizes, at most four, that the subject answers in evaluation; says which it refuses, and why.

    Raises OpbenchError where it answers none.
    """
    refusals: list[tuple[ImageSize, TargetRaised]] = []
    for layout in LAYOUTS:
        subject.layout = layout
        for C in channels:
            for sides in [_own(shape)] if {"H", "W"} & shape.keys() else [_squares(SIDES, C), _squares(FIXED_SIDES, C)]:
                subject.sizes = []
                refused = _try(subject, [ImageSize(shape.get("N", 2), C, *side) for side in sides])
                refusals += refused if layout == CHANNELS_FIRST else []
                if subject.sizes:
                    return _notes(subject, refused)
    size, raised = refusals[0]
    largest = tuple(refusals[-1][0])
    where = lines.raised_in(raised.error, subject.files)
    several = isinstance(raised.error, TypeError) and "required positional argument" in str(raised)
    advice = SEVERAL_INPUTS if several else OTHER_SHAPE
    at = f", in line {where.line}: {where.text}" if where else ""
    raise OpbenchError(
        f"not judged: {subject.name} refuses every input tried, from {tuple(size)} to {largest}; at the first it "
        f"raises {raised}{at}; {advice}"
    )


def _own(shape: Mapping[str, int]) -> list[tuple[int, int]]:
    H = shape.get("H", shape.get("W", SIDES[-1]))
    return [(H, shape.get("W", H))]


def _squares(sides: Iterable[int], C: int) -> list[tuple[int, int]]:
    """None that are as wide as deep: they fit a module that takes channels last, too."""
    return [(side, side) for side in sides if side != C]


def _try(subject: Subject, sizes: Iterable[ImageSize]) -> list[tuple[ImageSize, TargetRaised]]:
    refused = []
    for size in sizes:
        subject.sizes.append(size)  # a module that is built by its first call is built by this size
        took = 0.0
        try:
            module = subject.module()
            for _ in range(2):  # the first call may compile something
                begin = time.monotonic()
                subject.silently(module, subject.image(size))
                took = time.monotonic() - begin
        except TargetRaised as raised:
            subject.sizes.pop()
            refused.append((size, raised))
        if len(subject.sizes) == MOST_SIZES or took > SLOW_SECONDS:
            break
    return refused


def _notes(subject: Subject, refused: Sequence[tuple[ImageSize, TargetRaised]]) -> list[str]:
    notes = [] if subject.layout == CHANNELS_FIRST else [f"it refuses (N, C, H, W); it was given {subject.layout}"]
    if refused:
        size, raised = refused[-1]
        notes.append(f"it refuses {tuple(size)}: {raised}")
    return notes
