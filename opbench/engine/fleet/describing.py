"""What the nodes of a fleet say that they are, and which can take part."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Iterator, Sequence

from opbench.documents import decode
from opbench.engine.fleet.cluster import NodeGone
from opbench.engine.fleet.node import NodeDescribed
from opbench.engine.fleet.slots import Crew, Slot
from opbench.engine.log import Write
from opbench.schema import OpbenchError

# Nodes that haven't said by then what they are take part when they have.
DESCRIBE_SECONDS = 90.0
# Clocks further apart are told of. No figure depends on them: durations are of a node's own monotonic clock.
SKEW_SECONDS = 5.0


def described_by(
    crew: Crew, slots: Sequence[Slot], accelerator: str | None, say: Write
) -> list[tuple[Slot, NodeDescribed]]:
    """What the slots say that they are: all of them, or those that have said it in time, one at least."""
    waiting = {slot.actor.describe.remote(): slot for slot in slots}
    found: list[tuple[Slot, NodeDescribed]] = []
    failed: list[str] = []
    until, told = time.monotonic() + DESCRIBE_SECONDS, False
    while waiting and (time.monotonic() < until or not found):
        ready = crew.cluster.first_ready(list(waiting), 1.0)
        if ready is None:
            if time.monotonic() > until and not told:
                told = True
                say(f"waiting for a free node: {len(waiting)} are taken, or take long to start")
            continue
        slot = waiting.pop(ready)
        try:
            text = crew.cluster.answer(ready)
            assert text is not None
            described = decode(text, NodeDescribed)
        except (NodeGone, RuntimeError) as error:
            failed.append(f"{slot.name}: {str(error).splitlines()[-1]}")
            crew.release(slot, failed=failed[-1])
            continue
        if why := _unusable(described):
            failed.append(f"{slot.name}: {why}")
            say(f"node {slot.name} is left out: {why}")
            crew.release(slot)
            continue
        for sentence in (*described.said, *_skew(described.clock)):
            say(f"node {slot.name}: {sentence}")
        found.append((slot, described))
    for slot in waiting.values():
        crew.release(slot)
    if not found:
        asked = f" with accelerator {accelerator}" if accelerator else ""
        raise OpbenchError(f"no node{asked} can take part: {'; '.join(failed) or 'there is none'}")
    return found


def _unusable(described: NodeDescribed) -> str:
    """Why a node's results could not be told of by this opbench."""
    there, here = described.environment.versions.get("opbench"), importlib.metadata.version("opbench")
    return f"opbench {there} is installed there, {here} here" if there not in (None, here) else ""


def _skew(clock: float) -> Iterator[str]:
    apart = clock - time.time()
    if abs(apart) > SKEW_SECONDS:
        which = "ahead of" if apart > 0 else "behind"
        yield f"its clock is {abs(apart):.0f} s {which} this machine's; no time that is measured depends on it"
