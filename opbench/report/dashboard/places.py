"""Where runs were taken: the setups whose times may stand side by side, and which panels are the newest of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from opbench.analyse.history.digest import machine_key
from opbench.plural import counted
from opbench.schema import Case, Environment


def labels(environments: Iterable[Environment]) -> dict[str, str]:
    """Machine key -> the setup in words, `Xeon (2 threads)`, the GPU first; distinct where two read alike."""
    found: dict[str, str] = {}
    for where in environments:
        key = machine_key(where)
        if key not in found:
            name = f"{where.cpu} ({counted(where.threads, 'thread')})"
            name = f"{where.gpu}, {name}" if where.gpu else name
            found[key] = f"{name} {key.rpartition('-')[2]}" if name in found.values() else name
    return found


def newest(panels: Sequence[tuple[str, Case]]) -> set[int]:
    """The places, oldest first, of the panels that no later run measured again on the same machine and dimensions."""
    last = {
        (machine, case.panel_id, tuple(sorted(case.dims.items()))): place
        for place, (machine, case) in enumerate(panels)
    }
    return set(last.values())
