"""For the tests of a repository of one's own: cases that are proven before they are timed, relations, and draws.

With pytest installed this is a plugin (`opbench.testing.plugin`): the fixtures `opbench_case` and `opbench_check`, and
`pytest --opbench SUITE`. The names below are public; nothing heavy is imported before one of them is used.

>>> from opbench.operators.carafe import IMPLEMENTATIONS
>>> from opbench.testing import assert_holds, relations
>>> assert_holds(relations("carafe")[0], IMPLEMENTATIONS["shift-add"].function, examples=5)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opbench.conformance.comparing import close as close
    from opbench.conformance.comparing import run as run
    from opbench.conformance.comparing import same as same
    from opbench.conformance.cores import relations as relations
    from opbench.conformance.general import general as general
    from opbench.conformance.strategies import example as example
    from opbench.conformance.strategies import laid_out as laid_out
    from opbench.conformance.strategies import narrowed as narrowed
    from opbench.conformance.strategies import noise as noise
    from opbench.conformance.strategies import seeds as seeds
    from opbench.conformance.strategies import values as values
    from opbench.relations import Example as Example
    from opbench.relations import Relation as Relation
    from opbench.relations import Space as Space
    from opbench.relations import Violation as Violation
    from opbench.testing.checking import assert_right as assert_right
    from opbench.testing.holding import assert_holds as assert_holds
    from opbench.testing.holding import calls as calls
    from opbench.testing.marking import cases as cases
    from opbench.testing.proven import ProvenCase as ProvenCase

_HOMES = {
    "cases": "opbench.testing.marking",
    "ProvenCase": "opbench.testing.proven",
    "assert_right": "opbench.testing.checking",
    **dict.fromkeys(("assert_holds", "calls"), "opbench.testing.holding"),
    **dict.fromkeys(("Example", "Relation", "Space", "Violation"), "opbench.relations"),
    **dict.fromkeys(("close", "run", "same"), "opbench.conformance.comparing"),
    **dict.fromkeys(("example", "laid_out", "narrowed", "noise", "seeds", "values"), "opbench.conformance.strategies"),
    "general": "opbench.conformance.general",
    "relations": "opbench.conformance.cores",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Loaded on first use."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
