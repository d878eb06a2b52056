"""`opbench merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from opbench.commands import Command
from opbench.exit_codes import Exit
from opbench.options import Argument, folder
from opbench.schema import OpbenchError


class MergeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which run, and where its document goes."""

    address: Annotated[Path, Argument("Where `opbench run -o` puts its parts.", metavar="ADDRESS")]
    output: Annotated[Path | None, folder("Folder or address for run.json and its report [ADDRESS].")] = None


def merge(request: MergeRequest) -> Exit:
    """Make the document of a run out of the parts that lie at an address, whoever has put them there."""
    from opbench.engine.merging import merged
    from opbench.engine.parts import collected, reindexed
    from opbench.report.lines import say
    from opbench.report.saving import save_reported
    from opbench.storage.address import address_of
    from opbench.storage.mirror import written_through
    from opbench.storage.objects import ObjectStore

    address = address_of(request.address)
    if address is None:
        raise OpbenchError(f"{request.address}: not an address; the run in a folder is finished by --resume")
    store = ObjectStore.at(address)
    parts = collected(store)
    for sentence in parts.problems:
        say(f"opbench: {sentence}", error=True)
    missing = 0
    target = request.output or request.address
    with written_through(target) as folder:
        for one in merged(parts, command=f"opbench merge {address}"):
            place = folder / one.type if one.type else folder
            save_reported(one.run, place)
            missing += one.missing
            say(f"{one.type or 'run'}: {len(one.run.records)} records, {one.missing} visits of panels missing")
    reindexed(store)
    say(f"report: {target if request.output else address}/report.md")
    return Exit.NO_ANSWER if missing else Exit.FINE


COMMAND = Command("merge", MergeRequest, merge)
