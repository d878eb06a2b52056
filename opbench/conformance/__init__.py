"""Conformance: what `opbench check` runs. Relations that every right core or module meets, tried on drawn examples.

The one package that needs Hypothesis. `check.py` watches, `worker.py` runs the target in a process of its own.

For tests of one's own: `PROPERTIES["carafe"]` and `PROPERTIES["dcnv3"]` are the relations of the cores, `Space` says
where examples are drawn from; `opbench.conformance.search.search` tries a relation on a core and shrinks what it finds.

>>> from opbench.operators.carafe import IMPLEMENTATIONS
>>> from opbench.conformance import PROPERTIES, Space
>>> from opbench.conformance.search import search
>>> definition = PROPERTIES["carafe"][0]
>>> search(definition, IMPLEMENTATIONS["shift-add"].function, Space("float32"), examples=5, seed=0).finding is None
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opbench.conformance.property import Example, Property, Space, Violation
    from opbench.conformance.search import Finding, Searched

    PROPERTIES: dict[str, tuple[Property, ...]]

__all__ = ["PROPERTIES", "Example", "Finding", "Property", "Searched", "Space", "Violation"]

_HOMES = {
    **dict.fromkeys(("Example", "Property", "Space", "Violation"), "opbench.conformance.property"),
    **dict.fromkeys(("Finding", "Searched"), "opbench.conformance.search"),
}


def __getattr__(name: str) -> Any:
    """Loaded on first use: torch and Hypothesis are not needed by the side of the checker that only watches."""
    if name == "PROPERTIES":
        modules = (
            importlib.import_module(f"opbench.conformance.{operator}_properties") for operator in ("carafe", "dcnv3")
        )
        return {module.PROPERTIES[0].operator: module.PROPERTIES for module in modules}
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
