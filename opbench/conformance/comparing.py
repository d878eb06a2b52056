"""How a relation compares what a core gives with what it should, and what it says where they differ.

*exact* means bit for bit, which a relation promises only where both sides round the same sums in the same order;
*bounded* means within c * eps * sum|terms| (see `opbench.verify.bounds`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch

from opbench.conformance.precision import FLOAT32_ONLY, excuse, float32_sums, notes_taken, sums_in, violated
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
    """Within the error bound; `sides` says how many of the two were computed in the dtype under test.

    An error that a lower precision explains is a violation with a cause (see `precision`); and so is, of half inputs
    that are compared with the definition, one beyond the bound of float32 sums.
    """
    _comparable(got, expected, example, what)
    dtype = str(got.dtype).removeprefix("torch.")
    bound = sides * allowed(terms, dtype).to(got.device)
    error = (got.double() - expected.double()).abs()
    ratio = ratio_of(error, bound)
    if ratio.numel():
        record(float(ratio.max()))
    if not (error <= bound).all():
        violated(_furthest(got, expected, ratio, bound, what), example, excuse(error, terms, dtype, sides))
    elif what == "output" and sides == 1 and notes_taken():
        narrow = float32_sums(expected, terms, dtype)
        if narrow is None:
            return
        narrow = narrow.to(error.device)
        if not (error <= narrow).all():
            message = _furthest(got, expected, ratio_of(error, narrow), narrow, what)
            violated(message, example, sums_in(dtype))


def _furthest(got: torch.Tensor, expected: torch.Tensor, ratio: torch.Tensor, bound: torch.Tensor, what: str) -> str:
    index = tuple(int(i) for i in torch.unravel_index(ratio.argmax(), ratio.shape))
    return (
        f"{what}{list(index)}: expected {_text(expected[index])}, got {_text(got[index])} "
        f"(rounding explains {float(bound[index]):.3g})"
    )


def within(
    got: torch.Tensor,
    expected: torch.Tensor,
    allowed: torch.Tensor,
    example: Example,
    what: str,
    in_float32: torch.Tensor | None = None,
) -> None:
    """For scalars whose bound is put together from several: |got - expected| <= allowed, so not NaN.

    `in_float32` is the bound of float64 inputs that are computed to float32's precision.
    """
    error = (got - expected).abs()
    record(float(ratio_of(error, allowed)))
    if not error <= allowed:
        violated(
            f"{what}: expected {float(expected):.9g}, got {float(got):.9g} (rounding explains {float(allowed):.3g})",
            example,
            FLOAT32_ONLY if in_float32 is not None and bool(error <= in_float32) else "",
        )


def dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The sum of the products, in float64."""
    return (a.double().cpu() * b.double().cpu()).sum()


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
