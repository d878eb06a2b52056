"""`opbench readme`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from opbench.commands import Command
from opbench.exit_codes import Exit
from opbench.options import Argument, Lang, Option, With, command_line
from opbench.schema import OpbenchError


class ReadmeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which file, and whether to write it."""

    file: Annotated[Path, Argument("The file whose marked tables are written anew.")]
    check: Annotated[bool, Option("Change nothing; exit 1 if a table is out of date.", repeats=False)] = False
    lang: Lang = "en"
    with_: With = ()


def readme(request: ReadmeRequest) -> Exit:
    """Write the tables between `<!-- opbench:... -->` markers of a README from the run documents they name."""
    from opbench.documents import replace_file
    from opbench.report.lines import say
    from opbench.report.readme import document, update

    file = request.file
    try:
        before = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OpbenchError(f"{file}: can't be read: {error}") from error
    after = update(before, lambda name: document(file.parent / name), request.lang)
    if before == after:
        say(f"{file}: up to date")
        return Exit.FINE
    if request.check:
        say(f"{file}: out of date; run `{command_line('readme', request)}`")
        return Exit.BAD_NEWS
    replace_file(file, after.encode())
    say(f"{file}: written")
    return Exit.FINE


COMMAND = Command("readme", ReadmeRequest, readme)
