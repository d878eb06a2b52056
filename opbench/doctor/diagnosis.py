"""All of it, part by part."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from typing import get_args

import opbench
from opbench.doctor.nouns import Diagnosis, DoctorLine, Part

Tell = Callable[[str], None]


def diagnose(tell: Tell = lambda part: None) -> Diagnosis:
    """Looks at everything; `tell` hears which part is next. The machine first: importing packages keeps cores busy."""
    found: dict[Part, tuple[DoctorLine, ...]] = {}
    for part, read in (("machine", _machine), ("needed", _needed), ("optional", _optional), ("extensions", _others)):
        tell(part)
        found[part] = tuple(read())  # type: ignore[index]
    lines = tuple(line for part in get_args(Part) for line in found[part])
    return Diagnosis(
        opbench=opbench.__version__,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        lines=lines,
    )


# Imported one by one: what one of them needs may be what is broken.


def _machine() -> Iterator[DoctorLine]:
    from opbench.doctor.machine import machine

    return machine()


def _needed() -> Iterator[DoctorLine]:
    from opbench.doctor.packages import needed

    return needed()


def _optional() -> Iterator[DoctorLine]:
    from opbench.doctor.packages import optional

    return optional()


def _others() -> Iterator[DoctorLine]:
    from opbench.doctor.extensions import extensions

    return extensions()
