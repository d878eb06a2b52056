"""What the fields of a selfcheck document say of each other: rounds that pair up."""

from __future__ import annotations

from collections.abc import Iterator

from opbench.documents.checks.flaws import Flaw
from opbench.schema import Selfcheck


def flaws(selfcheck: Selfcheck) -> Iterator[Flaw]:
    """Every contradiction of a selfcheck document."""
    for place, trial in enumerate(selfcheck.trials):
        path, rounds = f"$.trials[{place}]", len(trial.first_nanoseconds)
        if not rounds:
            yield Flaw(f"{path}.first_nanoseconds", "no round at all")
        if len(trial.second_nanoseconds) != rounds:
            yield Flaw(f"{path}.second_nanoseconds", f"{len(trial.second_nanoseconds)} rounds, expected {rounds}")
        if any(at >= rounds for at in trial.interrupted):
            yield Flaw(f"{path}.interrupted", "a round that the samples don't have")
