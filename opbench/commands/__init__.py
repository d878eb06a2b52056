"""One file a command: its request (the options, each declared once), its body, and `COMMAND`, which names both.

A file added here is the command of its name: `opbench.main` finds it, and nothing else lists it. Heavy packages are
imported inside of bodies, because `opbench --help` imports every file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from opbench.exit_codes import Exit

# As `opbench --help` lists them; a command that isn't named here comes after these.
ORDER = (
    "run", "list", "env", "doctor", "check", "model", "decide", "deploy", "study", "report", "readme", "dashboard",
    "export", "claims", "show", "compare", "selfcheck", "keep", "history", "floor", "submit", "verify-run", "merge",
)  # fmt: skip


@dataclass(frozen=True)
class Command:
    """A command: `request` holds the options (`opbench.options`); the body's docstring is its help.

    A request with a field `with_` (`opbench.options.With`) has those files loaded before the body begins.
    """

    name: str
    request: type[Any]
    body: Callable[[Any], Exit]
