"""Which candidate was fastest, kept in the user's cache folder: what was timed once on a machine is not timed again.

One small file a kind of call, named by what it is a call of: the device, the kernel, its arguments and candidates, the
versions of Triton and of the kernels' sources.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path

from opbench import user_cache


def read(call: str) -> int | None:
    """The number of the candidate that was fastest for a call, or None where it was not timed or can't be read."""
    file = _file(call)
    content = user_cache.read(file) if file else None
    try:
        return None if content is None else int(content)
    except ValueError:
        return None


def write(call: str, fastest: int) -> None:
    """Keeps it; readers see the whole file or none. Without a writable folder nothing is kept."""
    file = _file(call)
    if file is not None:
        user_cache.write(file, str(fastest).encode())


def _file(call: str) -> Path | None:
    folder = user_cache.folder("triton")
    if folder is None:
        return None
    name = hashlib.sha256("\n".join((call, version("triton"), _sources())).encode()).hexdigest()[:32]
    return folder / f"{name}.tile"


@cache
def _sources() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*_kernels.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
