"""What `pytest --opbench SUITE` collects. No test file by its name, so that nobody collects it by its place."""

from __future__ import annotations

from typing import Any

from opbench.testing.proven import ProvenCase


def test_timed(opbench_case: ProvenCase, benchmark: Any) -> None:
    """A case, proven and then timed."""
    opbench_case.time(benchmark)


def test_proven(opbench_case: ProvenCase) -> None:
    """A case, proven."""
    opbench_case.prove()
