"""The program: finds the commands, reads a command line as a request, runs the body, ends with its exit code."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import typer

import opbench
import opbench.commands as package
from opbench.commands import ORDER, Command
from opbench.exit_codes import Exit
from opbench.help_text import CommandHelp, ProgramHelp
from opbench.options import callback
from opbench.schema import OpbenchError

# What a person is asked for who met a fault of opbench itself.
REPORT_IT = (
    "this is a fault of opbench, not of what it was given: please open an issue where opbench came from, with the "
    "lines above, the command, and what `opbench env` prints"
)


def names() -> list[str]:
    """Every command's name, in the order of the help: a file of opbench/commands is named as its command is."""
    found = [module.name.replace("_", "-") for module in pkgutil.iter_modules(package.__path__)]
    rank = {name: position for position, name in enumerate(ORDER)}
    return sorted(found, key=lambda name: (rank.get(name, len(rank)), name))


def command_named(name: str) -> Command:
    """What the file of that command declares."""
    found: Command = importlib.import_module(f"{package.__name__}.{name.replace('-', '_')}").COMMAND
    assert found.name == name, f"the command of {name}.py is called {found.name!r}"
    return found


def commands() -> tuple[Command, ...]:
    """Every command."""
    return tuple(map(command_named, names()))


class Parsers(Mapping[str, Any]):
    """Click's command of each name, made when it is asked for: to make all of them takes longer than most commands."""

    def __iter__(self) -> Iterator[str]:
        return iter(names())

    def __len__(self) -> int:
        return len(names())

    def __getitem__(self, name: str) -> Any:
        if name not in names():
            raise KeyError(name)
        return _parser(name)


@functools.cache
def _parser(name: str) -> Any:
    command = command_named(name)
    made = typer.Typer(add_completion=False, rich_markup_mode=None)
    made.command(name, cls=CommandHelp)(callback(command.request, _ending(command), command.body.__doc__ or ""))
    return typer.main.get_command(made)


class Program(ProgramHelp):
    """The group of all commands."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = Parsers()  # type: ignore[assignment]  # nothing is added to it


def application() -> typer.Typer:
    """Typer's application of all commands."""
    made = typer.Typer(
        name="opbench",
        cls=Program,
        help="What CARAFE and DCNv3 really cost against Upsample and Conv, and whether your implementation is right.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # plain help: rich's renderer would double the time to print it
    )
    made.callback()(_program)
    return made


def _say_version(asked: bool) -> None:
    if asked:
        from opbench.report.lines import say

        say(f"opbench {opbench.__version__}")
        raise typer.Exit


def _program(
    version: bool = typer.Option(False, "--version", callback=_say_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def _ending(command: Command) -> Callable[[Any], None]:
    def end(request: Any) -> None:
        raise typer.Exit(carry_out(command, request))

    return end


def carry_out(command: Command, request: Any) -> Exit:
    """Runs a command's body; whatever becomes of it is an exit code, and a sentence on standard error."""
    try:
        if files := getattr(request, "with_", ()):
            from opbench.engine.trial_import import try_files
            from opbench.registry import add_files

            try_files(files)
            add_files(files)
        code = command.body(request)
        sys.stdout.flush()  # whether anybody reads the answer shows now, and not when the interpreter ends
        return code
    except OpbenchError as error:
        _say(str(error))
        return Exit.NO_ANSWER
    except KeyboardInterrupt:
        _say("interrupted")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        return _unread()
    except Exception as error:
        return _fault(error)
    finally:
        # Whatever the command was: an operator that is missing from it may be one that couldn't be loaded.
        registry = sys.modules.get("opbench.registry")
        for sentence in registry.broken_so_far() if registry else ():
            _say(sentence)


def _fault(error: Exception) -> Exit:
    """A fault of opbench itself: its traceback, and where to report it."""
    for line in traceback.format_exc().splitlines():
        _say(line, "")
    _say(f"{type(error).__name__}: {REPORT_IT}")
    return Exit.FAULT


def _unread() -> Exit:
    """Whoever read the answer has gone; what is still to be flushed has nowhere to go."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())
    return Exit.NO_ANSWER


def _say(sentence: str, who: str = "opbench: ") -> None:
    from opbench.report.lines import say

    with contextlib.suppress(OSError):  # nobody reads it
        say(f"{who}{sentence}", error=True)


def _open_standard_streams() -> bool:
    """Whether the answer can be written. Of closed streams the numbers are taken, so that no other file gets them."""
    answers = True
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            answers = answers and number != 1
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is this one
            if number == 2:
                sys.stderr = os.fdopen(opened, "w", closefd=False)
    return answers


app = application()


def main() -> None:
    """The `opbench` command: ends with one of the exit codes of `Exit`, whatever happens."""
    if not _open_standard_streams():
        _say("standard output is closed: there is nowhere to write an answer to (> /dev/null for none)")
        raise SystemExit(int(Exit.NO_ANSWER))
    try:
        app(standalone_mode=True)
    except SystemExit as ended:
        raise SystemExit(int(_read(ended))) from None
    except BrokenPipeError:
        raise SystemExit(int(_unread())) from None
    except Exception as error:
        raise SystemExit(int(_fault(error))) from None


def _read(ended: SystemExit) -> int:
    """The exit code; that of help that nobody reads is 1 to click, which would be bad news."""
    code = ended.code if isinstance(ended.code, int) else int(Exit.FAULT) if ended.code else 0
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (BrokenPipeError, ValueError):
        return int(_unread())
    broken = ended.__context__
    while broken is not None and not isinstance(broken, BrokenPipeError):
        broken = broken.__context__
    return int(_unread()) if broken is not None and code == 1 else code
