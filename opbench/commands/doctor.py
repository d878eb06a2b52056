"""`opbench doctor`."""

from __future__ import annotations

import msgspec

from opbench.commands import Command
from opbench.exit_codes import Exit
from opbench.options import AsJson


class DoctorRequest(msgspec.Struct, frozen=True, kw_only=True):
    """How what was found is shown."""

    as_json: AsJson = False


def doctor(request: DoctorRequest) -> Exit:
    """Say what is missing for what, and whether times on this machine can be trusted now: a line each, with the cure.

    Exit code 1 where something is missing or broken without which opbench doesn't run.
    """
    from opbench.doctor.diagnosis import diagnose
    from opbench.report.doctor import as_json, lines
    from opbench.report.lines import say_json, say_lines
    from opbench.report.screen import status

    with status("looking") as tell:
        found = diagnose(lambda part: tell(f"looking at: {part}"))
    if request.as_json:
        say_json(as_json(found))
    else:
        say_lines(lines(found))
    return Exit.BAD_NEWS if found.lacking else Exit.FINE


COMMAND = Command("doctor", DoctorRequest, doctor)
