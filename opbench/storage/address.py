"""Addresses and paths. A command takes both in one place: an option that names a folder may name `s3://bucket/runs`.

Options are read as paths, which make one slash of two (`s3:/bucket/runs`); `address_of` gives them back. What stands
before the colon has two letters at least, so that a drive of Windows is none, and a colon that no slash follows is a
file's own.
"""

from __future__ import annotations

import os
import re

_ADDRESS = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]+):/{1,2}(?P<rest>.*)", re.DOTALL)
# What follows is a path of this machine's, from its root.
ROOTED = ("file", "local")


def address_of(path: str | os.PathLike[str]) -> str | None:
    """The address that is meant, with both slashes; None for a path of this machine.

    >>> address_of("s3:/bucket/runs"), address_of("results/run.json"), address_of("C:/runs")
    ('s3://bucket/runs', None, None)
    """
    found = _ADDRESS.fullmatch(os.fspath(path))
    if found is None:
        return None
    rest = found["rest"].lstrip("/")
    return f"{found['scheme']}://{'/' if found['scheme'] in ROOTED else ''}{rest}".rstrip("/")


def split(address: str) -> tuple[str, str]:
    """What an address lies in, and its last name.

    >>> split("s3://bucket/runs/run.json")
    ('s3://bucket/runs', 'run.json')
    """
    folder, _, name = address.rpartition("/")
    return folder, name
