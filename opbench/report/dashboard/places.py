"""Where runs were taken: the setups whose times may stand side by side, and which panels are the newest of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from opbench.schema import Case, Environment

Setup = tuple[str, str, int, int, str | None]


def setup(where: Environment) -> Setup:
    """What times depend on: runs that share it may be compared in time."""
    return where.machine, where.cpu, where.cores, where.threads, where.gpu


def labels(environments: Iterable[Environment]) -> dict[Setup, str]:
    """Every setup in words, `Xeon (2 threads)`, the GPU first where there is one; distinct where two read alike."""
    found: dict[Setup, str] = {}
    for where in environments:
        key = setup(where)
        if key not in found:
            name = f"{where.cpu} ({where.threads} thread{'' if where.threads == 1 else 's'})"
            name = f"{where.gpu}, {name}" if where.gpu else name
            if name in found.values():
                name = f"{name}, {where.machine}, {where.cores} cores"
            repeated = sum(other.startswith(name) for other in found.values())
            found[key] = f"{name} #{repeated + 1}" if repeated else name
    return found


def newest(panels: Sequence[tuple[Setup, Case]]) -> set[int]:
    """The places, oldest first, of the panels that no later run measured again on the same setup and dimensions."""
    last = {
        (where, case.panel_id, tuple(sorted(case.dims.items()))): place for place, (where, case) in enumerate(panels)
    }
    return set(last.values())
