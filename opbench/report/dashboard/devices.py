"""The machines of a results folder side by side by their yardsticks, each with what a verification has found of it."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from opbench.analyse.history.store import Store, Stored
from opbench.contributed.filing import DEVICES, verification_of
from opbench.contributed.nouns import Verification
from opbench.report import numbers
from opbench.report.dashboard.columns import Strings, number
from opbench.schema import OpbenchError, Run, Yardstick
from opbench.statistics.roofline import usable

OWN = "not contributed"
UNVERIFIED = "not verified"


def devices(store: Store, names: Mapping[str, str], strings: Strings) -> dict[str, Any]:
    """Every machine's newest run, a contributed one that was verified before all others: {"yardsticks", "machines"}."""
    newest: dict[str, tuple[Stored, Verification | None]] = {}
    for one in store.runs:  # the oldest first
        found = verification_of(store.root, one.path, one.digest.sha256)
        before = newest.get(one.digest.machine)
        if before is None or before[1] is None or found is not None:
            newest[one.digest.machine] = one, found
    held = list(_opened(newest.values()))
    known = {_yardstick(one): None for _, run, _ in held for one in run.yardsticks}
    return {
        "yardsticks": [strings.add(name) for name in known],
        "machines": [_machine(*machine, tuple(known), names, strings) for machine in held],
    }


def _opened(
    newest: Iterable[tuple[Stored, Verification | None]],
) -> Iterator[tuple[Stored, Run, Verification | None]]:
    """Without those that changed while they were read: they are among the page's problems."""
    for one, found in newest:
        with contextlib.suppress(OpbenchError):
            yield one, one.held_or_opened(), found


def _yardstick(one: Yardstick) -> str:
    return f"{one.name} {one.device} {one.dtype}"


def _machine(
    one: Stored,
    run: Run,
    found: Verification | None,
    known: tuple[str, ...],
    names: Mapping[str, str],
    strings: Strings,
) -> dict[str, Any]:
    rates: dict[str, tuple[float, str]] = {}
    for yardstick in run.yardsticks:
        if samples := usable(yardstick):
            rates[_yardstick(yardstick)] = statistics.median(samples), yardstick.unit
    status = found.status if found else UNVERIFIED if one.path.startswith(f"{DEVICES}/") else OWN
    unchecked = tuple(dict.fromkeys(f"{part.what}: {part.why}" for part in found.unchecked)) if found else ()
    return {
        "machine": strings.name(names[one.digest.machine]),
        "path": strings.name(one.path),
        "suite": strings.name(run.settings.suite),
        "started": strings.name(run.started),
        "status": strings.add(status),
        "contributor": strings.name(found.contributor if found else ""),
        "note": strings.add(found.note if found else ""),
        "checked": [strings.add(f"{part.what}: {numbers.exactly(part.count)}") for part in found.checked]
        if found
        else [],
        "unchecked": [strings.add(text) for text in unchecked],
        "rates": [number(rates[name][0]) if name in rates else None for name in known],
        "texts": [strings.add(numbers.rate(*rates[name]) if name in rates else numbers.NOT_MEASURED) for name in known],
    }
