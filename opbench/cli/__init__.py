"""The command line: arguments -> calls, no logic. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys

# Each of these modules adds its commands; `opbench --help` lists them in this order.
# isort: off
from opbench.cli import running, checking, models, study  # noqa: F401
from opbench.cli import reporting, dashboard, exporting, claims, show  # noqa: F401
from opbench.cli import comparing, keeping  # noqa: F401

# isort: on
from opbench.cli.app import app
from opbench.schema import OpbenchError


def main() -> None:
    """The `opbench` command. Exit codes: 0 fine, 1 bad news, 2 wrong usage or unreadable input, 130 Ctrl-C."""
    try:
        app()
    except OpbenchError as error:
        print(f"opbench: {error}", file=sys.stderr)
        sys.exit(2)
    finally:
        # Whatever the command was: an operator that is missing from it may be one that couldn't be loaded.
        registry = sys.modules.get("opbench.registry")
        for sentence in registry.broken_so_far() if registry else ():
            print(f"opbench: {sentence}", file=sys.stderr)
