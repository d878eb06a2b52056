"""The relations of ways of calling, which every core meets; `calling` has their checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from hypothesis import strategies as st

from opbench.conformance.calling import CallingChecks
from opbench.conformance.oracle import Oracle
from opbench.relations import Core, Example, Relation, Space, Tier

Draws = Callable[[Space], st.SearchStrategy[Example]]


def ways_of_calling(draws: Draws, oracle: Oracle) -> tuple[Relation, ...]:
    """What holds however a core is called, of examples that have values of their own in every tensor."""
    checks = CallingChecks(oracle)

    def of(
        name: str,
        statement: str,
        check: Callable[[Core, Example], None],
        *,
        kind: Literal["exact", "bounded"] = "bounded",
        needs_gradients: bool = False,
        tier: Tier = "wrong",
    ) -> Relation:
        return Relation(name, kind, statement, check, draws, needs_gradients, tier=tier)

    return (
        of(
            "calls-in-a-row",
            "five calls with other values and another batch in between: output and gradients are the definition's",
            checks.is_right_in_a_row,
            needs_gradients=True,
        ),
        of(
            "memory-reused",
            "new values in the memory of an earlier call's inputs give the new call's output",
            checks.is_right_though_memory_is_reused,
        ),
        of(
            "gradient-modes",
            "with gradients, under no_grad and in inference mode: the output is the definition's",
            checks.has_one_answer_in_every_mode,
        ),
        of(
            "graphs-apart",
            "two graphs at once, each differentiated twice: the gradients are the definition's",
            checks.backs_up_twice,
            needs_gradients=True,
        ),
        of(
            "after-a-failed-call",
            "a call that raises, or is interrupted, changes nothing about the next",
            checks.recovers_from_a_failed_call,
        ),
        of(
            "many-calls",
            "twenty calls in a row agree bit for bit",
            checks.agrees_with_itself_many_times,
            kind="exact",
        ),
        of("threads", "called from two threads at once, each has its own output", checks.may_be_called_from_threads),
        of(
            "autocast",
            "under autocast the output is the definition's to bfloat16's precision",
            checks.works_under_autocast,
            tier="fragile",
        ),
    )
