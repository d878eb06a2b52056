"""Whether a command in a page is one that exists, with options that exist: opbench's, nox's sessions, pip's extras."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from functools import cache
from typing import NamedTuple

from pages import ROOT, Block

sys.path.append(str(ROOT / "docs"))

import declared

# Options in the text that are pytest's, pip's or nox's own.
FOREIGN = {
    "--benchmark-disable",
    "--benchmark-only",
    "--codspeed",
    "--opbench",
    "--opbench-suite",
    "--opbench-with",
    "--nightly",
    "--strict",
}


class Call(NamedTuple):
    """One command of a page and the line it begins in."""

    line: int
    text: str


def calls(block: Block) -> list[Call]:
    """The commands of a bash block: lines, joined where a backslash ends them, without comments."""
    found, begun, start = [], "", 0
    for number, line in enumerate(block.text.splitlines(), block.line):
        start = start if begun else number
        begun += line.removesuffix("\\") + " " if line.endswith("\\") else line
        if not line.endswith("\\"):
            parts = map(str.strip, re.split(r"&&|\|\||;|\|", begun.split(" #")[0]))
            found += [Call(start, part) for part in parts if part and not part.startswith("#")]
            begun = ""
    return found


def fault(text: str) -> str | None:
    """What is wrong with a command of opbench, nox or pip; None for a right one, and for any other program's."""
    if not re.match(r"(?:[A-Z_]+=\S+ )*(?:opbench|python -m opbench|nox|pip install)\b", text):
        return None
    try:
        words = shlex.split(text)
    except ValueError as error:
        return f"{text}: {error}"
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    if words[:3] == ["python", "-m", "opbench"]:
        words = words[2:]
    if words[:1] == ["opbench"]:
        return _opbench(words[1:])
    if words[:1] == ["nox"]:
        return _nox(words[1:])
    if words[:2] == ["pip", "install"]:
        return _pip(words[2:])
    return None


def option_fault(word: str) -> str | None:
    """Whether an option that stands alone in the text belongs to some command."""
    name = word.split("=")[0]
    return None if name in every_option() | FOREIGN | program_options() else f"no command has the option {name}"


@cache
def every_option() -> set[str]:
    """Options of all commands."""
    return {name for command in declared.commands().values() for one in command.params for name in one.opts}


@cache
def program_options() -> set[str]:
    """Options of the program itself, before any command."""
    return {"--help", *(name for one in declared.application().params for name in one.opts)}


def _opbench(words: list[str]) -> str | None:
    if not words:
        return None
    name, *rest = words
    if name.startswith("-"):
        return None if name in program_options() else f"`opbench` has no option {name}"
    if name.isupper():  # `opbench COMMAND`
        return None
    known = declared.commands()
    if name not in known:
        return f"there is no command `opbench {name}`"
    options = {opt: one for one in known[name].params if one.param_type_name == "option" for opt in one.opts}
    given = {word.split("=")[0] for word in rest if re.match(r"--?[A-Za-z]", word)}
    unknown = sorted(given - set(options) - {"--help"})
    return f"`opbench {name}` has no option {unknown[0]}" if unknown else None


@cache
def sessions() -> frozenset[str]:
    """The names of the noxfile's sessions."""
    text = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    return frozenset(re.findall(r"@nox\.session\ndef (\w+)", text))


@cache
def extras() -> frozenset[str]:
    """The extras that can be installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return frozenset(project["optional-dependencies"])


def _nox(words: list[str]) -> str | None:
    for at, word in enumerate(words):
        if word == "--":
            break
        if word == "-s" and words[at + 1 :] and words[at + 1].islower() and words[at + 1] not in sessions():
            return f"there is no session `nox -s {words[at + 1]}`"
    return None


def _pip(words: list[str]) -> str | None:
    lists = [found for word in words for found in re.findall(r"^(?:opbench|\.)\[([\w,]+)\]", word)]
    asked = [name for found in lists for name in found.split(",")]
    unknown = sorted(set(asked) - extras())
    return f"there is no extra {unknown[0]!r} (known: {', '.join(sorted(extras()))})" if unknown else None
