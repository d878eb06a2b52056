"""What a run will measure, laid out in a process apart where people's own files have a say in it.

The process that judges never imports a `--with` file or an installed entry point: one that exits would end the run as
if all were well, one that hangs would hold it up, and whatever else it does it would do to the judge. A child imports
it and sends the plan as data: `python -m opbench.engine.planner`. Where nobody's code is asked for, no child is needed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import msgspec

from opbench.options import parse, words
from opbench.process.channel import serve
from opbench.process.child import Child
from opbench.process.death import Death
from opbench.run_request import RunRequest, settings
from opbench.schema import OpbenchError, Plan, Settings, Suite

# Importing torch and what opbench itself declares: its own work, however slow the machine is.
OWN_SECONDS = 600.0
# Importing a person's file.
IMPORT_SECONDS = 300.0


class RunToPlan(msgspec.Struct, frozen=True):
    """A run to plan, as the words of its command line."""

    words: tuple[str, ...]


class Importing(msgspec.Struct, frozen=True, tag=True):
    """Foreign code is about to be imported: `what` is the start of a sentence about it."""

    what: str


class LaidOut(msgspec.Struct, frozen=True, tag=True):
    """The plan and its suite, the settings to record, and what a reader is told: of it, before it, and of packages.

    `seconds` are an upper estimate of each panel, by its id.
    """

    suite: Suite
    plan: Plan
    settings: Settings
    said: tuple[str, ...]
    estimate: str = ""
    broken: tuple[str, ...] = ()
    seconds: dict[str, float] = {}


def planned(request: RunRequest) -> LaidOut:
    """The plan of a run. Raises OpbenchError for wrong usage, of which a file that can't be imported is one kind."""
    from opbench import registry

    if not (request.extensions or registry.entry_points() or registry.added_files()):
        return lay_out(request)
    with Child[Importing | LaidOut](
        ["-m", "opbench.engine.planner"], Importing | LaidOut, broken="planning failed, not a contender"
    ) as child:
        child.send(RunToPlan(tuple(words(request))))
        found, what = child.receive(OWN_SECONDS), "planning"
        while isinstance(found, Importing):
            what = found.what
            found = child.receive(request.timeout or IMPORT_SECONDS if what else OWN_SECONDS)
    if isinstance(found, Death):
        raise OpbenchError(f"{what}: its process {found.message}")
    return found


def lay_out(request: RunRequest) -> LaidOut:
    """The plan of a run, by this process."""
    from opbench import baseline_alone, registry, suites
    from opbench import plan as planning
    from opbench.contenders import peers_left_out
    from opbench.engine.estimate import estimate, panel_seconds

    registry.load()
    suite = suites.load(request.suite)
    import torch  # here, so that a misspelt suite is answered at once

    cuda = torch.cuda.is_available()
    laid_out = planning.plan(
        suite,
        request.filters,
        cuda=cuda,
        seed=request.seed,
        settings=request.settings,
        across=request.across_runtimes,
    )
    baseline_alone.refuse(suite, laid_out, request.filters)
    recorded = settings(request, suite, len(laid_out.panels))
    said = [*baseline_alone.sentences(suite, laid_out, request.filters)]
    if request.suite in suites.names():  # whoever wrote a suite of their own knows what it leaves out
        said += peers_left_out(suite, request.filters)
    expected = panel_seconds(laid_out, recorded)
    told = estimate(laid_out, recorded, expected)
    return LaidOut(suite, laid_out, recorded, tuple(said), told, tuple(registry.broken_so_far()), expected)


def answer(wanted: RunToPlan) -> Iterator[Importing | LaidOut]:
    """Imports what the run names, each announced, and lays it out."""
    from opbench import registry

    request = parse(RunRequest, wanted.words)
    registry.load_built_in()
    if names := sorted(entry.name for entry in registry.entry_points()):
        yield Importing(f"installed entry points ({', '.join(names)})")
    with contextlib.chdir(os.getcwd()):  # back to where a relative path means what it did
        registry.load()
    for path in request.extensions:
        yield Importing(f"--with {path}: importing it")
        with contextlib.chdir(os.getcwd()):
            registry.load_file(path)
    yield Importing("")
    yield lay_out(request)


if __name__ == "__main__":
    serve(RunToPlan, answer)
