"""`--help` as plain text: a command's options under the headings that their declarations name, sentences never cut."""

from __future__ import annotations

import inspect
from typing import Any

from typer.core import TyperCommand, TyperGroup

from opbench.options import OUTPUT


class CommandHelp(TyperCommand):
    """A command whose help has a section for each group of options, in the order in which they are declared."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the sections; what goes out comes last, with `--help`."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections.setdefault(_heading(parameter), []).append(record)
        for heading in sorted(sections, key=lambda one: one == OUTPUT):
            with formatter.section(heading):
                formatter.write_dl(sections[heading])


class ProgramHelp(TyperGroup):
    """The program, whose help has the whole first paragraph of each command's."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes the list of commands."""
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                rows.append((name, " ".join(inspect.cleandoc(command.help or "").partition("\n\n")[0].split())))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _heading(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return "Arguments"
    return getattr(parameter, "rich_help_panel", None) or OUTPUT
