"""Conformance: what `opbench check` runs. Relations that every right core or module meets, tried on drawn examples.

The one package that needs Hypothesis. `check.py` watches, `worker.py` runs the target in a process of its own.

For tests of one's own: `relations("carafe")` are the relations of a core, `Space` says where examples are drawn from;
`opbench.conformance.search.search` tries a relation on a core and shrinks what it finds.

>>> from opbench.operators.carafe import IMPLEMENTATIONS
>>> from opbench.conformance import Space, relations
>>> from opbench.conformance.search import search
>>> definition = relations("carafe")[0]
>>> search(definition, IMPLEMENTATIONS["shift-add"].function, Space("float32"), examples=5, seed=0).finding is None
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opbench.conformance.cores import relations
    from opbench.conformance.search import Searched, SearchFinding
    from opbench.relations import Example, Relation, Space, Violation

__all__ = ["Example", "Relation", "SearchFinding", "Searched", "Space", "Violation", "relations"]

_HOMES = {
    **dict.fromkeys(("Example", "Relation", "Space", "Violation"), "opbench.relations"),
    **dict.fromkeys(("SearchFinding", "Searched"), "opbench.conformance.search"),
    "relations": "opbench.conformance.cores",
}


def __getattr__(name: str) -> Any:
    """Loaded on first use: torch and Hypothesis are not needed by the side of the checker that only watches."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
