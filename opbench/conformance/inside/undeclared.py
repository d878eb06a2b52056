"""What a core found inside a module is held to where its operator declares no relations of a core: its definition.

The bound is derived from the definition (`opbench.verify.rounding`). The calls are the module's own options at images
of several sizes; beside them stand the general relations of calling, and a walk through sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from opbench.anatomy import BATCH, CHANNELS, COLUMNS, OUTPUT, ROWS
from opbench.conformance import second
from opbench.conformance.comparing import record, run
from opbench.conformance.general import general
from opbench.conformance.inside.found import Found
from opbench.conformance.inside.layouts import shape
from opbench.conformance.oracle import answers, titled
from opbench.conformance.sizes import LADDER, NAME
from opbench.conformance.strategies import example, noise
from opbench.relations import Core, Example, Relation, Sizes, Space, Violation
from opbench.schema import DType, Tensors, Terms
from opbench.verify.bounds import judge
from opbench.verify.rounding.terms import rounding_terms

_INCOMING = "gradient of the output"
_IN_A_ROW = "calls-in-a-row"
# Of what is asked of any core, what is asked of this one.
_GENERAL = (
    "inputs-unchanged", "repeatable", _IN_A_ROW, "gradient-modes", "graphs-apart", "many-calls", second.NAME,
)  # fmt: skip


def undeclared_relations(found: Found) -> tuple[Relation, ...]:
    """The definition at drawn sizes, the general relations of any core, and a walk through sizes."""
    held = _Held(found)

    def of(dtype: DType) -> dict[str, Relation]:
        definition, magnitude = found.anatomy.definition, partial(held.magnitude, dtype)
        return {one.name: one for one in general(held.draws, definition, magnitude, linear=("x",))}

    def asked(relation: Relation) -> Relation:
        """The same in bounds that are of each call's own dtype."""

        def check(core: Core, call: Example) -> None:
            of(_dtype(call))[relation.name].check(core, call)

        return replace(relation, check=check, needs_gradients=True)

    relations = of("float64")
    function = found.anatomy.function
    return (
        Relation(
            "definition",
            "bounded",
            f"inside the module, output and gradients are those of {function}",
            held.is_the_definition,
            held.draws,
            needs_gradients=True,
            without_gradients=held.output_is_the_definition,
        ),
        # A batch is doubled by doubling every tensor, which a weight is not to be.
        *(asked(relations[name]) for name in _GENERAL if name != _IN_A_ROW or not found.anatomy.parameters),
        Relation(
            NAME,
            "bounded",
            f"at any size, each dimension alone and two at a time: output and gradients are those of {function}",
            held.is_the_definition,
            held.draws,
            needs_gradients=True,
            sizes=held.sizes,
            without_gradients=held.output_is_the_definition,
        ),
    )


@dataclass(frozen=True)
class _Held:
    """The calls of one core, and its definition."""

    found: Found

    def lengths(self, N: int, rows: int, columns: int, channels: int) -> dict[str, int] | None:
        """The length of every part in a call of this size; None where the core has no such call."""
        found = self.found
        for one in found.anatomy.readings(rows, columns, range(10**12), {}):
            same = (one.lengths[part] == found.lengths[part] for part in one.lengths if part not in "nhwvu")
            if dict(one.options) == dict(found.options) and all(same):
                return {**found.lengths, **one.lengths, BATCH: N, CHANNELS: channels}
        return None

    def call(self, lengths: Mapping[str, int], space: Space, seed: int) -> Example:
        """Normal values in every tensor."""
        tensors = {
            name: noise(shape(layout, lengths), seed + index)
            for index, (name, layout) in enumerate(self.found.anatomy.layouts.items())
            if name != OUTPUT
        }
        return example(space, dict(self.found.options), **tensors)

    def draws(self, space: Space) -> st.SearchStrategy[Example]:
        """Images of 2 to 9 rows and columns, one or two of them, of the module's own channels."""

        @st.composite
        def drawn(draw: st.DrawFn) -> Example:
            rows, columns = draw(st.integers(2, 9)), draw(st.integers(2, 9))
            N, seed = draw(st.integers(1, 2)), draw(st.integers(0, 2**16))
            lengths = self.lengths(N, rows, columns, self.found.lengths[CHANNELS])
            return draw(st.nothing()) if lengths is None else self.call(lengths, space, seed)

        return drawn()

    @property
    def sizes(self) -> Sizes:
        """Images, channels of a group, rows and columns; the options are the module's."""
        names = {"N": BATCH, "C": CHANNELS, "H": ROWS, "W": COLUMNS}
        ordinary = {"N": 1, "C": self.found.lengths[CHANNELS], "H": 5, "W": 6}

        def whole(asked: Mapping[str, Any]) -> dict[str, int] | None:
            sizes = {**ordinary, **{name: asked[name] for name in names if name in asked}}
            return self.lengths(sizes["N"], sizes["H"], sizes["W"], sizes["C"])

        def completed(asked: Mapping[str, Any]) -> Mapping[str, Any] | None:
            lengths = whole(asked)
            return None if lengths is None else {name: lengths[part] for name, part in names.items()}

        def call(sizes: Mapping[str, Any], space: Space, seed: int) -> Example:
            lengths = whole(sizes)
            assert lengths is not None
            return self.call(lengths, space, seed)

        return Sizes(dict.fromkeys(names, LADDER), completed, call, areas=(("H", "W"),))

    def magnitude(self, dtype: DType, call: Example, grad_output: Tensor | None) -> Mapping[str, Terms]:
        """What errors are measured against, for bounds of a dtype."""
        _, terms, _ = self._expected(call, grad_output, dtype)
        return terms

    def is_the_definition(self, core: Core, call: Example) -> None:
        """Output and every gradient, each within its bound."""
        first = next(iter(call.tensors.values()))
        with torch.no_grad():
            incoming = noise(tuple(self._output(call).shape), 1)
        incoming = incoming.to(first.dtype).double()
        self._judge(answers(core, call, incoming.to(first)), call, incoming)

    def output_is_the_definition(self, core: Core, call: Example) -> None:
        """Output alone."""
        self._judge({"output": run(core, call).detach()}, call, None)

    def _judge(self, got: Mapping[str, Tensor], call: Example, incoming: Tensor | None) -> None:
        expected, terms, basis = self._expected(call, incoming, _dtype(call))
        verdict = judge(titled(got), titled(expected), titled(terms), _dtype(call), basis)
        record(verdict.worst_ratio)
        if not verdict.correct:
            raise Violation(verdict.reason, call)

    def _output(self, call: Example) -> Tensor:
        tensors = {name: value.detach().to("cpu", torch.float64) for name, value in call.tensors.items()}
        return self.found.anatomy.definition(**tensors, **call.options)

    def _expected(
        self, call: Example, incoming: Tensor | None, dtype: DType
    ) -> tuple[dict[str, Tensor], dict[str, Terms], str]:
        """The definition's answers, what their rounding is measured against, and what that was taken from."""
        anatomy, names = self.found.anatomy, tuple(call.tensors)
        exact = {name: value.detach().to("cpu", torch.float64) for name, value in call.tensors.items()}
        if incoming is not None:
            exact[_INCOMING] = incoming.cpu()

        def evaluate(given: Tensors) -> dict[str, Tensor]:
            held = {name: value.detach().requires_grad_(name in names) for name, value in given.items()}
            grad_output = held.pop(_INCOMING, None)
            output = anatomy.definition(**held, **call.options)
            if grad_output is None:
                return {"output": output.detach()}
            gradients = torch.autograd.grad(output, [held[name] for name in names], grad_output)
            return {"output": output.detach(), **dict(zip(names, gradients, strict=True))}

        expected = evaluate(exact)
        counts = {name: expected["output"][:, 0].numel() for name in anatomy.parameters}
        terms, basis = rounding_terms(evaluate, exact, expected, dtype, counts)
        return expected, terms, basis


def _dtype(call: Example) -> DType:
    found: DType = str(next(iter(call.tensors.values())).dtype).removeprefix("torch.")  # type: ignore[assignment]
    return found
