"""What a core found inside a module is held to, and how a module is convicted in a sentence."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from opbench.anatomy import CHANNELS, OUTPUT
from opbench.conformance.comparing import record
from opbench.conformance.cores import cores, relations_of
from opbench.conformance.inside.finding import Found
from opbench.conformance.inside.layouts import shape
from opbench.conformance.oracle import answers
from opbench.conformance.strategies import example, noise
from opbench.relations import Core, Example, Relation, Space, Violation
from opbench.schema import Operator, Tensors
from opbench.verify.bounds import judge
from opbench.verify.rounding.terms import rounding_terms

CORE = "core-inside"
_INCOMING = "gradient of the output"


def core_relations(operator: Operator, found: Found) -> tuple[Relation, ...]:
    """The relations of the operator's core where it has them, else that it is its definition."""
    named = next((one for one in cores().values() if operator.counting and one.counting is operator.counting), None)
    return relations_of(named) if named is not None else (_is_its_definition(found),)


def convicting(statement: str, sentence: str, name: str = CORE) -> tuple[Relation, ...]:
    """A relation that doesn't hold, as the sentence says."""

    def check(core: Core, call: Example) -> None:
        raise Violation(sentence, call)

    return (Relation(name, "bounded", statement, check, lambda space: st.just(Example({}, {}))),)


def _is_its_definition(found: Found) -> Relation:
    anatomy = found.anatomy

    @st.composite
    def draws(draw: st.DrawFn, space: Space) -> Example:
        rows, columns = draw(st.integers(2, 9)), draw(st.integers(2, 9))
        N, seed = draw(st.integers(1, 2)), draw(st.integers(0, 2**16))
        reading = next(
            (
                one
                for one in anatomy.readings(rows, columns, range(10**9), {})
                if one.options == found.options
                and all(one.lengths[part] == found.lengths[part] for part in one.lengths if part not in "nhwvu")
            ),
            None,
        )
        if reading is None:
            return draw(st.nothing())
        lengths = {**found.lengths, **reading.lengths, "n": N, CHANNELS: found.lengths[CHANNELS]}
        tensors = {
            name: noise(shape(layout, lengths), seed + index)
            for index, (name, layout) in enumerate(anatomy.layouts.items())
            if name != OUTPUT
        }
        return example(space, dict(found.options), **tensors)

    def check(core: Core, call: Example) -> None:
        names = tuple(call.tensors)
        exact = {name: value.detach().to("cpu", torch.float64) for name, value in call.tensors.items()}
        with torch.no_grad():
            incoming = noise(tuple(anatomy.definition(**exact, **call.options).shape), 1)
        incoming = incoming.to(call.tensors[names[0]].dtype).double()

        def evaluate(given: Tensors) -> dict[str, Tensor]:
            held = {name: value.detach().requires_grad_(name in names) for name, value in given.items()}
            grad_output = held.pop(_INCOMING)
            output = anatomy.definition(**held, **call.options)
            gradients = torch.autograd.grad(output, [held[name] for name in names], grad_output)
            return {"output": output.detach(), **dict(zip(names, gradients, strict=True))}

        exact[_INCOMING] = incoming
        dtype: Any = str(call.tensors[names[0]].dtype).removeprefix("torch.")
        expected = evaluate(exact)
        counts = {name: incoming[:, 0].numel() for name in anatomy.parameters}
        terms, basis = rounding_terms(evaluate, exact, expected, dtype, counts)
        verdict = judge(answers(core, call, incoming.to(call.tensors[names[0]])), expected, terms, dtype, basis)
        record(verdict.worst_ratio)
        if not verdict.correct:
            raise Violation(verdict.reason, call)

    return Relation(
        "definition",
        "bounded",
        f"inside the module, output and gradients are those of {anatomy.function}",
        check,
        draws,
        needs_gradients=True,
    )
