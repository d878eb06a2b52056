"""What makes an error beyond the bound fragile and not wrong: the right function, to less than its input's precision.

A float64 input computed to float32's precision, a half input whose sums are rounded on the way, or whose sampling
positions are: each is a sentence, the same in every relation that shows it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch

from opbench.relations import Example, Violation
from opbench.schema import Terms
from opbench.verify.bounds import EPS, OWN, TINY, allowed, coefficient

HALVES = ("bfloat16", "float16")
FLOAT32_ONLY = "computes float64 inputs to float32's precision only"
# The side of an image at which the shift of a rounded position is told.
TOLD_AT = 64


def positions_in(dtype: str) -> str:
    """The sentence for sampling positions that are rounded to a half type."""
    shift = EPS[dtype] / 2 * TOLD_AT
    return f"forms sampling positions in {dtype}, {TOLD_AT} pixels from the origin off by up to {shift:.2g} pixels"


def sums_in(dtype: str) -> str:
    """The sentence for sums that are rounded to a half type on the way."""
    return f"sums {dtype} inputs in less than float32"


def excuse(error: torch.Tensor, terms: Terms, dtype: str, sides: int = 1) -> str:
    """Why an error beyond the bound is no other function; "" where nothing explains it."""
    if terms.bound is not None:
        return ""
    if dtype == "float64":
        return FLOAT32_ONLY if bool((error <= sides * allowed(terms, "float32").to(error.device)).all()) else ""
    if dtype in HALVES and terms.coordinates is not None:
        bound = allowed(terms, dtype) + coefficient(terms.count) * EPS[dtype] * terms.coordinates
        return positions_in(dtype) if bool((error <= sides * bound.to(error.device)).all()) else ""
    return ""


def float32_sums(expected: torch.Tensor, terms: Terms, dtype: str) -> torch.Tensor | None:
    """The largest |error| of a half result whose sums are float32's, of the definition's value; None where unknown."""
    if terms.bound is not None or dtype not in HALVES:
        return None
    # What is stored is rounded once more, below the smallest normal number by a step.
    stored = OWN / 2 * EPS[dtype] * expected.abs() + TINY[dtype] * EPS[dtype]
    return stored.double().cpu() + allowed(terms, "float32").cpu()


# --- What is noted and not raised -------------------------------------------------------------------------------

_NOTED: ContextVar[list[Violation] | None] = ContextVar("noted", default=None)


@contextlib.contextmanager
def noting(noted: list[Violation]) -> Iterator[None]:
    """Inside, violations that have a cause are added to `noted` and the check goes on: something may be wrong yet."""
    before = _NOTED.set(noted)
    try:
        yield
    finally:
        _NOTED.reset(before)


def violated(message: str, example: Example, cause: str = "") -> None:
    """Raises Violation, or notes it where it has a cause and somebody notes."""
    violation, noted = Violation(message, example, cause), _NOTED.get()
    if not cause or noted is None:
        raise violation
    noted.append(violation)


def notes_taken() -> bool:
    """Whether somebody notes what is fragile only."""
    return _NOTED.get() is not None
