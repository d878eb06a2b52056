"""Relations that every core meets, whatever it computes: it is its definition, and a pure, differentiable function.

They hold for any core whose tensors have four axes, batch first, and whose images do not meet. CARAFE and DCNv3 add the
relations of their own mathematics (`relations` in their folders).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from hypothesis import strategies as st

from opbench.conformance import second
from opbench.conformance.general_checks import Checks
from opbench.conformance.oracle import Magnitude, Oracle
from opbench.conformance.strategies import laid_out, narrowed
from opbench.conformance.ways import ways_of_calling
from opbench.relations import Core, Example, Relation, Space, Tier

Draws = Callable[[Space], st.SearchStrategy[Example]]


def general(
    draws: Draws,
    definition: Core,
    magnitude: Magnitude,
    *,
    linear: tuple[str, ...] = ("x", "mask"),
    smooth: Draws | None = None,
) -> tuple[Relation, ...]:
    """The general relations of an operator, cheap and telling ones first.

    `draws(space)` heeds `space.fixed` for options and for the dimensions N, H and W. `definition` and `magnitude` are
    an `Oracle`'s; the core is linear in each of the tensors named in `linear`. `smooth` draws examples near which the
    core has no kink (`draws`, unless told).
    """
    oracle = Oracle(definition, magnitude)
    checks = Checks(oracle, linear)

    def of(
        name: str,
        kind: Literal["exact", "bounded"],
        statement: str,
        check: Callable[[Core, Example], None],
        drawn: Draws = draws,
        needs_gradients: bool = False,
        tier: Tier = "wrong",
    ) -> Relation:
        return Relation(name, kind, statement, check, drawn, needs_gradients, tier=tier)

    return (
        of("definition", "bounded", "core(inputs) = definition(inputs)", checks.is_the_definition),
        of(
            "definition-gradients",
            "bounded",
            "the gradient of every input is the definition's",
            checks.has_the_definition_s_gradients,
            needs_gradients=True,
        ),
        of(
            "inputs-unchanged",
            "exact",
            "a call, forward and backward, leaves its inputs and the gradient it is given as they were",
            checks.leaves_its_inputs_alone,
            needs_gradients=True,
        ),
        of(
            "type-kept",
            "exact",
            "output and gradients have the dtype and the device of the inputs",
            checks.keeps_the_type,
            needs_gradients=True,
        ),
        of(
            "repeatable",
            "exact",
            "two calls on the same inputs agree bit for bit",
            checks.is_repeatable,
        ),
        of(
            "repeatable-gradients",
            "exact",
            "two backward passes on the same inputs agree bit for bit",
            checks.has_repeatable_gradients,
            needs_gradients=True,
        ),
        of(
            "fresh-output",
            "exact",
            "the output is memory of its own: not an input's, and no later call writes to it or returns it again",
            checks.returns_fresh_memory,
        ),
        of(
            "fully-written",
            "bounded",
            "with uninitialised memory full of NaN, output and gradients are still the definition's",
            checks.writes_every_element,
            needs_gradients=True,
        ),
        of(
            "gradient-subsets",
            "bounded",
            "whichever inputs ask for a gradient get the one they get when all ask, and the others get none",
            checks.differentiates_any_subset,
            needs_gradients=True,
        ),
        of(
            "thin-images",
            "bounded",
            "images of one row or one column: output and gradients are the definition's",
            checks.has_the_definition_s_gradients,
            thin(draws),
            needs_gradients=True,
        ),
        of(
            "empty-batch",
            "exact",
            "a batch of no images gives no images, and gradients of no images",
            checks.takes_an_empty_batch,
            needs_gradients=True,
            tier="fragile",
        ),
        of(
            "layouts",
            "bounded",
            "channels-last, transposed, strided, sliced or expanded inputs: output and gradients are the definition's",
            checks.has_the_definition_s_gradients,
            lambda space: laid_out(draws(space)),
            needs_gradients=True,
        ),
        of(
            "gradient-layouts",
            "bounded",
            "gradients do not depend on the memory layout of the gradient that comes in",
            checks.takes_any_gradient_layout,
            needs_gradients=True,
        ),
        of(
            "batch-split",
            "bounded",
            "core(batch) = the images' own outputs: core(batch)[n] = core(batch[n:n+1])",
            checks.treats_images_apart,
            in_batches(draws),
        ),
        of(
            "batch-permutation",
            "bounded",
            "core(permuted batch) = permuted core(batch), output and gradients",
            checks.commutes_with_permuting_the_batch,
            in_batches(draws),
            needs_gradients=True,
        ),
        of(
            "powers-of-two",
            "exact",
            f"core(2^n {linear[0]}) = 2^n core({linear[0]}), and likewise in {' and '.join(linear[1:])}",
            checks.scales_with_powers_of_two,
        ),
        of(
            "huge-values",
            "bounded",
            "where the definition stays in range, inputs near the largest finite number give what it gives",
            checks.survives_huge_values,
            tier="fragile",
        ),
        of(
            "tiny-values",
            "bounded",
            "inputs near the smallest normal number give the definition's output, up to underflow",
            checks.survives_tiny_values,
            tier="fragile",
        ),
        of(
            "additivity",
            "bounded",
            f"core(u + v) = core(u) + core(v) in {' and in '.join(linear)}",
            checks.is_additive,
        ),
        of(
            "adjointness",
            "bounded",
            f"<core(x), g> = <t, gradient of t> for t = {', '.join(linear)}",
            checks.is_adjoint_to_its_gradients,
            needs_gradients=True,
        ),
        *ways_of_calling(draws, oracle),
        of(
            "directional-derivative",
            "bounded",
            "<core(p + hv) - core(p - hv), g> = 2h <v, gradient of p> for all inputs p together, up to h^2",
            checks.has_the_derivative_of_differences,
            smooth or draws,
            needs_gradients=True,
        ),
        of(
            second.NAME,
            "bounded",
            second.STATEMENT,
            second.is_twice_differentiable(oracle),
            smooth or draws,
            needs_gradients=True,
            tier="fragile",
        ),
    )


def thin(draws: Draws) -> Draws:
    """Examples of one row or of one column, as far as the space leaves that open."""

    def drawn(space: Space) -> st.SearchStrategy[Example]:
        spaces = [narrowed(space, H=1), narrowed(space, W=1)]
        return st.one_of([draws(space) for space in spaces if space is not None])

    return drawn


def in_batches(draws: Draws) -> Draws:
    """Examples of two images, as far as the space leaves that open."""

    def drawn(space: Space) -> st.SearchStrategy[Example]:
        batches = narrowed(space, N=2)
        return st.nothing() if batches is None else draws(batches)

    return drawn
