"""opbench: what CARAFE, DCNv3 and their rivals cost, and whether an implementation of them is right.

The names below are public: what a script calls (`check`, `run`, `swap`, `compare_runs`, `load_run`, `declare`), and
what a file that declares an operator, an implementation or a task of its own needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opbench.api import check as check
    from opbench.api import compare_runs as compare_runs
    from opbench.api import declare as declare
    from opbench.api import load_run as load_run
    from opbench.api import run as run
    from opbench.constructors import Constructor as Constructor
    from opbench.drawings import Drawing as Drawing
    from opbench.drawings import Shot as Shot
    from opbench.models.swap import swap as swap
    from opbench.registry import register_implementation as register_implementation
    from opbench.registry import register_operator as register_operator
    from opbench.registry import register_task as register_task
    from opbench.relations import Example as Example
    from opbench.relations import Relation as Relation
    from opbench.relations import Space as Space
    from opbench.relations import Violation as Violation
    from opbench.schema import Cost as Cost
    from opbench.schema import Implementation as Implementation
    from opbench.schema import OpbenchError as OpbenchError
    from opbench.schema import Operator as Operator
    from opbench.schema import Run as Run
    from opbench.schema import Task as Task
    from opbench.schema import Terms as Terms

__version__ = "0.1.0"

_HOMES = {
    **dict.fromkeys(("check", "compare_runs", "declare", "load_run", "run"), "opbench.api"),
    "swap": "opbench.models.swap",
    **dict.fromkeys(("Cost", "Implementation", "Operator", "OpbenchError", "Run", "Task", "Terms"), "opbench.schema"),
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
