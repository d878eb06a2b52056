"""Where the `opbench` command has always been imported from; `opbench.main` is the program."""

from opbench.main import app, main

__all__ = ["app", "main"]
