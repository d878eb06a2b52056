"""What a core found inside a module is held to where its operator declares no relations of a core: its definition.

The bound is derived from the definition (`opbench.verify.rounding`). The calls are the module's own options at images
of several sizes; beside them stand the general relations of calling, and a walk through sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from opbench.anatomy import BATCH, CHANNELS, COLUMNS, OUTPUT, ROWS
from opbench.conformance import second
from opbench.conformance.calling import CallingChecks
from opbench.conformance.comparing import record, run
from opbench.conformance.general_checks import Checks
from opbench.conformance.inside.found import Found
from opbench.conformance.inside.layouts import shape
from opbench.conformance.oracle import Oracle, answers, titled
from opbench.conformance.sizes import LADDER, NAME
from opbench.conformance.strategies import example, noise
from opbench.relations import Core, Example, Relation, Sizes, Space, Tier, Violation
from opbench.schema import DType, Tensors, Terms
from opbench.verify.bounds import judge
from opbench.verify.rounding.terms import rounding_terms

_INCOMING = "gradient of the output"
_IN_A_ROW = "calls-in-a-row"
# What is asked of any core, and by which check; each compares with the definition, or the core with itself.
_GENERAL: Mapping[str, tuple[str, Callable[[Oracle], Callable[[Core, Example], None]]]] = {
    "inputs-unchanged": (
        "a call, forward and backward, leaves its inputs and the gradient it is given as they were",
        lambda oracle: Checks(oracle, ("x",)).leaves_its_inputs_alone,
    ),
    "repeatable": (
        "two calls on the same inputs agree bit for bit",
        lambda oracle: Checks(oracle, ("x",)).is_repeatable,
    ),
    _IN_A_ROW: (
        "five calls with other values and another batch in between: output and gradients are the definition's",
        lambda oracle: CallingChecks(oracle).is_right_in_a_row,
    ),
    "gradient-modes": (
        "with gradients, under no_grad and in inference mode: the output is the definition's",
        lambda oracle: CallingChecks(oracle).has_one_answer_in_every_mode,
    ),
    "graphs-apart": (
        "two graphs at once, each differentiated twice: the gradients are the definition's",
        lambda oracle: CallingChecks(oracle).backs_up_twice,
    ),
    "many-calls": (
        "twenty calls in a row agree bit for bit",
        lambda oracle: CallingChecks(oracle).agrees_with_itself_many_times,
    ),
    second.NAME: (second.STATEMENT, second.is_twice_differentiable),
}
_FRAGILE = frozenset((second.NAME,))
_EXACT = frozenset(("inputs-unchanged", "repeatable", "many-calls"))


def undeclared_relations(found: Found) -> tuple[Relation, ...]:
    """The definition at drawn sizes, the general relations of any core, and a walk through sizes."""
    held = _Held(found)

    def general(name: str) -> Relation:
        statement, of = _GENERAL[name]

        def check(core: Core, call: Example) -> None:
            of(held.oracle(call))(core, call)

        kind: Any = "exact" if name in _EXACT else "bounded"
        tier: Tier = "fragile" if name in _FRAGILE else "wrong"
        return Relation(name, kind, statement, check, held.draws, needs_gradients=True, tier=tier)

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
        *(general(name) for name in _GENERAL if name != _IN_A_ROW or not found.anatomy.parameters),
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

    def oracle(self, call: Example) -> Oracle:
        """The definition, with the bounds of the call's own dtype."""
        return Oracle(self.found.anatomy.definition, partial(self._magnitude, _dtype(call)))

    def _magnitude(self, dtype: DType, call: Example, grad_output: Tensor | None) -> Mapping[str, Terms]:
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
