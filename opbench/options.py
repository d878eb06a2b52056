"""An option of a command is declared once, on the field of a request: read from a command line, written back to one.

A request is a frozen, keyword-only `msgspec.Struct`: what a command was asked for. Each field names its type, its
default and its `Option` or `Argument`:

    threads: Annotated[int | None, Option("CPU threads [torch's own choice].", least=1)] = None

A field that may be given several times is a tuple, empty by default. A field without a default must be given.
"""

from __future__ import annotations

import functools
import inspect
import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args, get_origin

import msgspec

from opbench.schema import OpbenchError

Request = TypeVar("Request", bound=msgspec.Struct)

# Under which headings `--help` shows options. What has none of its own stands under OPTIONS.
OPTIONS, CASES, MEASURING, INPUT, OUTPUT, EXTENDING = (
    "Options", "Which cases", "Measuring", "Input", "Output", "Extending opbench",
)  # fmt: skip


@dataclass(frozen=True)
class Option:
    """How a field stands on a command line.

    `flag` is `--name-of-the-field` where none is given, `metavar` follows from the type (N, PATH, the name itself), and
    `group` is the heading under which `--help` shows it. `share` reads `1%` as 0.01, `auto` takes a number of at least
    1 or the word. Of the command line that repeats a request, a field that says where output goes or how it looks is
    no part (`repeats=False`), and a default is left out unless a reader looks for it (`spelled`).
    """

    help: str
    flag: str = ""
    short: str = ""
    group: str = OPTIONS
    metavar: str | None = None
    least: float | None = None
    most: float | None = None
    share: bool = False
    auto: bool = False
    repeats: bool = True
    spelled: bool = False


@dataclass(frozen=True)
class Argument:
    """A field that is given by its position. `repeats` and `spelled` are as an option's."""

    help: str
    metavar: str | None = None
    repeats: bool = True
    spelled: bool = False


Lang = Annotated[Literal["en", "zh"], Option("Language of the sentences that come first.", repeats=False, group=OUTPUT)]
With = Annotated[
    tuple[str, ...], Option("A file whose declarations count.", flag="--with", metavar="FILE.py", group=EXTENDING)
]
Quiet = Annotated[
    bool, Option("Say nothing but the answer: no progress, no notes.", short="-q", repeats=False, group=OUTPUT)
]
Verbose = Annotated[
    bool, Option("Say each step on a line of its own, to a file too.", short="-v", repeats=False, group=OUTPUT)
]
AsJson = Annotated[bool, Option("Print the answer as JSON.", flag="--json", repeats=False, group=OUTPUT)]
# How much a command says of what it is doing, on standard error.
Loudness = Literal["quiet", "usual", "verbose"]


def folder(about: str) -> Option:
    """`-o DIR`."""
    return Option(about, short="-o", metavar="DIR", repeats=False, group=OUTPUT)


def seconds(about: str, least: float) -> Option:
    """A limit of time."""
    return Option(about, metavar="SECONDS", least=least, group=MEASURING)


def loudness(request: Any) -> Loudness:
    """What `-q` and `-v` of a request come to. Raises OpbenchError for both."""
    if request.quiet and request.verbose:
        raise OpbenchError("-q and -v: choose one, nothing but the answer or each step")
    return "quiet" if request.quiet else "verbose" if request.verbose else "usual"


class Field(NamedTuple):
    """One field of a request: its name, its type without the declaration, the declaration, its default."""

    name: str
    type: Any
    declared: Option | Argument
    default: Any  # msgspec.NODEFAULT where it must be given

    @property
    def many(self) -> bool:
        """Whether it may be given several times."""
        return get_origin(self.type) is tuple

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is msgspec.NODEFAULT

    @property
    def flag(self) -> str:
        """As in `--minimum-effect`; "" of an argument."""
        if isinstance(self.declared, Argument):
            return ""
        return self.declared.flag or f"--{self.name.replace('_', '-')}"

    @property
    def metavar(self) -> str | None:
        """What stands for its value in a help text; None of a flag, and of a choice, which lists its words."""
        if isinstance(self.declared, Argument) or self.declared.metavar is not None:
            return self.declared.metavar
        held = get_args(self.type)[0] if self.many else self.type
        kinds = [one for one in get_args(held) or (held,) if one is not type(None)]
        if kinds == [bool] or get_origin(held) is Literal:
            return None
        return {int: "N", float: "NUMBER", Path: "PATH"}.get(kinds[0], self.name.strip("_").upper())


@functools.cache
def fields(request: Any) -> tuple[Field, ...]:
    """The fields of a request type, in the order of their declaration."""
    found = []
    for field in msgspec.structs.fields(request):
        type_, declared = get_args(field.type)
        found.append(Field(field.name, type_, declared, field.default))
    return tuple(found)


def share(value: str | float) -> float:
    """`1%` or `0.01`."""
    try:
        found = float(str(value).removesuffix("%")) / (100 if str(value).endswith("%") else 1)
    except ValueError:
        found = 0.0
    if not 0 < found < 1:
        import typer

        raise typer.BadParameter(f"expected a share such as 1% or 0.01, got {value!r}")
    return found


def count_or_auto(value: str) -> str:
    """`2` or `auto`."""
    if value != "auto" and not (value.isascii() and value.isdigit() and int(value) > 0):
        import typer

        raise typer.BadParameter(f"expected a number of at least 1, or auto, got {value!r}")
    return value


# --- from a command line ----------------------------------------------------------------------------------------


def callback(request: type[Request], act: Callable[[Request], Any], about: str) -> Callable[..., Any]:
    """A function that typer reads options from: it makes a request of their values and hands it to `act`."""
    declared = fields(request)

    def call(**values: Any) -> Any:
        given = {one.name: tuple(values[one.name] or ()) if one.many else values[one.name] for one in declared}
        return act(request(**given))

    given = {one.name: _parameter(one) for one in declared}
    call.__signature__ = inspect.Signature(list(given.values()))  # type: ignore[attr-defined]
    call.__annotations__ = {name: one.annotation for name, one in given.items()}
    call.__doc__ = about
    return call


def _parameter(field: Field) -> inspect.Parameter:
    import typer

    declared = field.declared
    shown: Any
    if isinstance(declared, Argument):
        shown = typer.Argument(help=declared.help, metavar=field.metavar)
    else:
        flags = [flag for flag in (declared.short, field.flag) if flag]
        limits: dict[str, Any] = {"min": declared.least, "max": declared.most}
        limits |= {"parser": share} if declared.share else {"parser": count_or_auto} if declared.auto else {}
        shown = typer.Option(
            *flags, help=declared.help, metavar=field.metavar, rich_help_panel=declared.group, **limits
        )
    taken, default = field.type, field.default
    if field.many:
        # What may be given several times is a list to typer, and None where it isn't given.
        several: Any = list[get_args(taken)[0]]  # type: ignore[misc]
        taken, default = (several, default) if field.required else (several | None, default or None)
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if field.required else default,
        annotation=Annotated[taken, shown],
    )


def parse(request: type[Request], words: Sequence[str], *, lenient: bool = False) -> Request:
    """The request that the words after the command's name make; raises OpbenchError for wrong usage.

    `lenient` passes over options and arguments that the request doesn't have: the command line of an older document.
    """
    import typer

    usage_error: Any = typer.BadParameter.__mro__[1]  # typer's newer releases bring a click of their own
    try:
        found = _reader(request, lenient).main(list(words), prog_name="opbench", standalone_mode=False)
    except usage_error as error:
        raise OpbenchError(error.format_message()) from error
    assert isinstance(found, request)
    return found


@functools.cache
def _reader(request: Any, lenient: bool) -> Any:
    """Click's command that returns a request."""
    import typer

    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    lenience = {"ignore_unknown_options": lenient, "allow_extra_args": lenient}
    app.command(add_help_option=False, context_settings=lenience)(callback(request, lambda made: made, ""))
    return typer.main.get_command(app)


# --- back to a command line -------------------------------------------------------------------------------------


def command_line(name: str, request: msgspec.Struct) -> str:
    """The command that repeats a request, as it is pasted into a shell."""
    return shlex.join(["opbench", name, *words(request)])


def words(request: msgspec.Struct, leave_out: Collection[str] = ()) -> list[str]:
    """A request as the words after its command's name, without the fields in `leave_out`.

    An argument can't be said where one before it isn't.
    """
    arguments: list[str] = []
    options: list[str] = []
    for field in fields(type(request)):
        if field.declared.repeats and field.name not in leave_out:
            said = _said(field, getattr(request, field.name))
            (options if field.flag else arguments).extend(said)
    # After `--` nothing is an option, whatever it begins with.
    return [*options, "--", *arguments] if any(one.startswith("-") for one in arguments) else [*arguments, *options]


def _said(field: Field, value: object) -> Iterator[str]:
    if value is None or (value == field.default and not field.declared.spelled and not field.required):
        return
    if isinstance(value, bool):
        yield from [field.flag] if value else []
        return
    for one in value if isinstance(value, tuple) else (value,):
        yield from [field.flag] if field.flag else []
        yield _text(one)


def _text(value: object) -> str:
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value)
