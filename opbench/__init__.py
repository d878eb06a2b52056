"""opbench: what CARAFE, DCNv3 and their rivals cost, and whether an implementation of them is right.

The names below are public: what a file that declares an operator, an implementation or a task of its own needs.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    **dict.fromkeys(("Cost", "Implementation", "Operator", "OpbenchError", "Task", "Terms"), "opbench.schema"),
    **dict.fromkeys(("register_implementation", "register_operator", "register_task"), "opbench.registry"),
    **dict.fromkeys(("Example", "Relation", "Space", "Violation"), "opbench.relations"),
    **dict.fromkeys(("Drawing", "Shot"), "opbench.drawings"),
    "Constructor": "opbench.constructors",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Loaded on first use: `import opbench` stays light."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
