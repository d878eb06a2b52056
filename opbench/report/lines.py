"""A line on the terminal: whatever is in it is shown and obeyed by nothing. Commands print through this alone.

What a command says may hold anybody's text: a suite's or a file's name, the message of an error that a contender
raised, a key of a state dict. See `opbench.report.escape` for what becomes of it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from opbench.report.escape import visible

# Letters of a line: more than any sentence of opbench has, and a screen of somebody else's.
LONGEST = 4_000


def say(text: str, *, error: bool = False) -> None:
    """Prints one line to standard output, or to standard error, at once."""
    print(visible(text, LONGEST), file=sys.stderr if error else sys.stdout, flush=True)


def say_lines(lines: Iterable[str]) -> None:
    """Prints lines to standard output; one that has several is as many."""
    for line in lines:
        for part in line.split("\n"):
            say(part)


def say_json(document: bytes) -> None:
    """Prints a JSON document, the same value for whoever parses it; what a terminal would obey stands as its code."""
    text = document.decode()
    print("".join(one if one == "\n" or one.isprintable() else _code(one) for one in text).rstrip("\n"), flush=True)


def say_text(document: bytes) -> None:
    """Prints a text that is for a program to read, as it would stand in a file: its writer has made it inert."""
    print(document.decode(), end="", flush=True)


def _code(character: str) -> str:
    """As JSON writes a character by its number: outside of the basic plane in two halves."""
    halves = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{halves[at]:02x}{halves[at + 1]:02x}" for at in range(0, len(halves), 2))
