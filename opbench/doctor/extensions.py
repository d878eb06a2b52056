"""What other packages have installed for opbench: each entry point, whose it is, and whether it can be loaded.

It is anybody's code, so that a child loads it (`python -m` this module): what crashes or hangs costs that child, and
another goes on with the next.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import msgspec

from opbench.doctor.nouns import DoctorLine
from opbench.errors import OpbenchError
from opbench.process.channel import serve
from opbench.process.child import Child
from opbench.process.death import Death

OWN_SECONDS = 600.0
IMPORT_SECONDS = 60.0


class EntryPointsToTry(msgspec.Struct, frozen=True):
    """Their names, in the order in which they are loaded."""

    names: tuple[str, ...]


class EntryPointNext(msgspec.Struct, frozen=True, tag=True):
    """The one that is about to be loaded; "": every one has been."""

    name: str


class EntryPointLoaded(msgspec.Struct, frozen=True, tag=True):
    """What it declares, or why it is left out."""

    name: str
    declares: tuple[str, ...]
    fault: str


def extensions() -> Iterator[DoctorLine]:
    """A line for each entry point of the group `opbench`."""
    from opbench import registry

    found = {entry.name: entry for entry in registry.entry_points()}
    if not found:
        yield DoctorLine("extensions", "entry points", "fine", "no other package declares operators")
        return
    states = _states(tuple(found))
    for name, entry in found.items():
        package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
        loaded = states[name]
        if loaded.fault:
            cure = f"mend {entry.value}, or pip uninstall {entry.dist.name if entry.dist else entry.value}"
            yield DoctorLine("extensions", name, "broken", f"package {package}: {loaded.fault}", entry.value, cure)
        else:
            declares = ", ".join(loaded.declares) or "nothing"
            yield DoctorLine(
                "extensions",
                name,
                "fine" if loaded.declares else "note",
                f"package {package}: declares {declares}",
                entry.value,
            )


def _states(names: tuple[str, ...]) -> dict[str, EntryPointLoaded]:
    """What became of each; one that took its process down is named, and the others are tried without it."""
    states: dict[str, EntryPointLoaded] = {}
    while left := tuple(name for name in names if name not in states):
        before = len(states)
        try:
            _try(left, states)
        except (OpbenchError, RuntimeError) as error:
            fault = f"could not be tried: {str(error).strip().splitlines()[-1]}"
            states |= {name: EntryPointLoaded(name, (), fault) for name in left if name not in states}
        if len(states) == before:  # it said nothing of any of them
            states |= {name: EntryPointLoaded(name, (), "could not be tried") for name in left}
    return states


def _try(names: tuple[str, ...], states: dict[str, EntryPointLoaded]) -> None:
    """Adds what one child finds out to `states`, up to the first that the child doesn't survive."""
    with Child[EntryPointNext | EntryPointLoaded](
        ["-m", __name__], EntryPointNext | EntryPointLoaded, broken="an entry point could not be tried"
    ) as child:
        child.send(EntryPointsToTry(names))
        current = ""
        while True:
            found = child.receive(IMPORT_SECONDS if current else OWN_SECONDS)
            if isinstance(found, EntryPointLoaded):
                states[found.name] = found
                current = ""
            elif isinstance(found, EntryPointNext):
                current = found.name
                if not current:
                    return
            elif isinstance(found, Death):
                if current:
                    states[current] = EntryPointLoaded(current, (), f"its process {found.message}")
                return


def answer(wanted: EntryPointsToTry) -> Iterator[EntryPointNext | EntryPointLoaded]:
    """Loads each, announced before."""
    from opbench import registry

    registry.load_built_in()
    entries = {entry.name: entry for entry in registry.entry_points()}
    for name in wanted.names:
        yield EntryPointNext(name)
        before = registry.contenders()
        with contextlib.chdir(os.getcwd()):  # back to where a relative path means what it did
            fault = registry.load_entry_point(entries[name])
        declares = sorted(f"{task}/{contender}" for task, contender in registry.contenders() - before)
        yield EntryPointLoaded(name, tuple(declares), fault)
    yield EntryPointNext("")


if __name__ == "__main__":
    serve(EntryPointsToTry, answer)
