"""Verify: is an output what the definition says, within what rounding explains?

For tests of one's own: `PROPERTIES["carafe"]` and `PROPERTIES["dcnv3"]` are the relations of the cores, `Space` says
where examples are drawn from; `opbench.verify.search.search` tries a relation on a core and shrinks what it finds.

>>> from opbench.operators.carafe import IMPLEMENTATIONS
>>> from opbench.verify import PROPERTIES, Space
>>> from opbench.verify.search import search
>>> definition = PROPERTIES["carafe"][0]
>>> search(definition, IMPLEMENTATIONS["shift-add"].function, Space("float32"), examples=5, seed=0).finding is None
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opbench.verify.property import Example, Property, Space, Violation
    from opbench.verify.search import Finding, Searched

    PROPERTIES: dict[str, tuple[Property, ...]]

__all__ = ["PROPERTIES", "Example", "Finding", "Property", "Searched", "Space", "Violation"]

_HOMES = {
    **dict.fromkeys(("Example", "Property", "Space", "Violation"), "opbench.verify.property"),
    **dict.fromkeys(("Finding", "Searched"), "opbench.verify.search"),
}


def __getattr__(name: str) -> Any:
    """Loaded on first use: torch and Hypothesis are not needed by the side of the checker that only watches."""
    if name == "PROPERTIES":
        modules = (importlib.import_module(f"opbench.verify.{operator}_properties") for operator in ("carafe", "dcnv3"))
        return {module.PROPERTIES[0].operator: module.PROPERTIES for module in modules}
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
