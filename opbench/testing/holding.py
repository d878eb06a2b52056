"""Relations in tests of one's own: Hypothesis draws the calls of a core, and shrinks what breaks a relation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis.strategies import SearchStrategy

from opbench.conformance.cores import relations
from opbench.conformance.search import search
from opbench.conformance.shown import counterexample
from opbench.relations import Core, Example, Relation, Space
from opbench.report.conformance import call_lines
from opbench.schema import DType, OpbenchError


def calls(operator: str, *, dtype: DType = "float32", device: str = "cpu", **fixed: Any) -> SearchStrategy[Example]:
    """Small calls of a core, for `hypothesis.given`: `core(**call.tensors, **call.options)`.

    `fixed` holds options of the core and sizes still, as in kernel_size=5, H=7. Of CARAFE: x (N, C, H, W) with N up to
    2, C to 6, H and W to 8, mask (N, g*k*k, s*H, s*W). Raises OpbenchError for an operator without a core.

    >>> from hypothesis import given
    >>> @given(calls("carafe", kernel_size=3))
    ... def test_shape(call):
    ...     assert call.tensors["mask"].shape[2] == call.options["scale_factor"] * call.tensors["x"].shape[2]
    >>> test_shape()
    """
    draws = relations(operator)[0].draws
    assert draws is not None  # a core's relations all say what they draw
    return draws(Space(dtype, device, fixed))


def assert_holds(
    relation: Relation,
    core: Core,
    *,
    dtype: DType = "float32",
    device: str = "cpu",
    fixed: Mapping[str, Any] | None = None,
    examples: int = 25,
    seed: int = 0,
) -> None:
    """Asserts that a relation holds of a core, on up to so many examples, the same ones for the same seed.

    Raises AssertionError with the statement and the smallest call that breaks it. What the core refuses by
    NotImplementedError is drawn anew; where it refuses every call, that fails as well.
    """
    if relation.draws is None:
        raise OpbenchError(f"relation {relation.name!r} doesn't say what it draws")
    found = search(relation, core, Space(dtype, device, fixed or {}), examples=examples, seed=seed)
    finding = found.finding or next(iter(found.fragile), None)
    if finding is not None:
        shown = call_lines(counterexample(finding.example))
        raise AssertionError(
            "\n".join([f"{relation.name}: {finding.message}", f"  relation: {finding.statement}", *_indented(shown)])
        )
    if not found.examples:
        refused = found.refusals[0].message if found.refusals else "no such call under what is fixed"
        raise AssertionError(f"{relation.name}: nothing was tried: {refused}")


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]
