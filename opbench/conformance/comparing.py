"""How a relation compares what a core gives with what it should, and what it says where they differ.

*exact* means bit for bit, which a relation promises only where both sides round the same sums in the same order;
*bounded* means within c * eps * sum|terms| (see `opbench.verify.bounds`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch

from opbench.relations import Core, Example, Violation
from opbench.schema import Terms
from opbench.verify.bounds import allowed


def run(core: Core, example: Example) -> torch.Tensor:
    """The core's output on an example; what is no tensor at all is a violation."""
    out = core(**example.tensors, **example.options)
    if not isinstance(out, torch.Tensor):
        raise Violation(f"output: expected a tensor, got {type(out).__name__}", example)
    return out


def same(got: torch.Tensor, expected: torch.Tensor, example: Example, what: str = "output") -> None:
    """Bit for bit equal, except that 0 equals -0 and NaN equals NaN."""
    _comparable(got, expected, example, what)
    unequal = ~((got == expected) | (got.isnan() & expected.isnan()))
    if unequal.any():
        index = tuple(int(i) for i in unequal.nonzero()[0])
        raise Violation(f"{what}{list(index)}: expected {_text(expected[index])}, got {_text(got[index])}", example)


def close(
    got: torch.Tensor, expected: torch.Tensor, terms: Terms, example: Example, what: str = "output", *, sides: int = 2
) -> None:
    """Within the error bound; `sides` says how many of the two were computed in the dtype under test."""
    _comparable(got, expected, example, what)
    dtype = str(got.dtype).removeprefix("torch.")
    bound = sides * allowed(terms, dtype).to(got.device)
    error = (got.double() - expected.double()).abs()
    ratio = ratio_of(error, bound)
    if ratio.numel():
        record(float(ratio.max()))
    if not (error <= bound).all():
        index = tuple(int(i) for i in torch.unravel_index(ratio.argmax(), ratio.shape))
        raise Violation(
            f"{what}{list(index)}: expected {_text(expected[index])}, got {_text(got[index])} "
            f"(rounding explains {float(bound[index]):.3g})",
            example,
        )


# The |error| / bound of each comparison, for whoever collects them in this context.
_RATIOS: ContextVar[list[float] | None] = ContextVar("ratios", default=None)


@contextlib.contextmanager
def collecting(ratios: list[float]) -> Iterator[None]:
    """Adds the largest |error| / bound of every bounded comparison made inside to `ratios`."""
    before = _RATIOS.set(ratios)
    try:
        yield
    finally:
        _RATIOS.reset(before)


def record(ratio: float) -> None:
    """One comparison's largest |error| / bound; nothing happens where nobody collects."""
    ratios = _RATIOS.get()
    if ratios is not None:
        ratios.append(ratio)


def ratio_of(error: torch.Tensor, bound: torch.Tensor) -> torch.Tensor:
    """|error| / bound, element by element: 0 without an error, even of a bound of 0; NaN is infinitely far out."""
    ratio = torch.where(error == 0, 0.0, error / bound)
    return torch.where(ratio.isnan(), torch.inf, ratio)


def _comparable(got: torch.Tensor, expected: torch.Tensor, example: Example, what: str) -> None:
    if got.shape != expected.shape:
        raise Violation(f"{what}: expected shape {tuple(expected.shape)}, got {tuple(got.shape)}", example)


def _text(value: torch.Tensor) -> str:
    return f"{float(value):.9g}"
