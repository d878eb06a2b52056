"""A listing that was made before, as long as it would be made again: importing torch and every operator takes seconds.

It is kept in the user's cache folder under everything that it follows from: opbench's own files, every package that is
installed, with its version, the files of packages that declare operators, and what of the machine decides whether an
implementation can run here. A kept listing that somebody else could have written, or that is damaged, is as good as
none. Where a person's own files are listed (`--with`), nothing is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

import opbench
from opbench import user_cache
from opbench.listing.tables import Listing, What, listing

# What no sign tells, as a driver that was updated, is noticed after so long.
MOST_SECONDS = 24 * 3600.0
# Of a package that declares operators: one with more files is not looked through each time.
MOST_FILES = 5_000
# Settings by which implementations decide whether they can run here.
VARIABLES = ("CXX", "CUDA_VISIBLE_DEVICES", "TRITON_INTERPRET", "LD_LIBRARY_PATH", "PYTHONPATH")


class KeptListing(msgspec.Struct, frozen=True):
    """A listing, what it follows from, and when it was made (seconds since 1970)."""

    follows_from: str
    made: float
    listing: Listing


def listed(what: What, suite: str) -> Listing:
    """The listing: a kept one that still holds, else made now, and kept."""
    from opbench import registry

    if registry.begun() or registry.added_files():
        return listing(what, suite)
    signs = _digest(what, suite)
    file = _file(what, suite)
    if signs and file and (found := _read(file, signs)):
        return found
    made = listing(what, suite)
    # What couldn't be loaded is said each time, so that it can be mended.
    if signs and file and not registry.broken_so_far():
        user_cache.write(file, msgspec.json.encode(KeptListing(signs, time.time(), made)))
    return made


def _file(what: What, suite: str) -> Path | None:
    folder = user_cache.folder("listings")
    place = hashlib.sha256(f"{sys.prefix}\0{suite}".encode(errors="surrogatepass")).hexdigest()[:16]
    return folder / f"{what}-{place}.json" if folder else None


def _read(file: Path, signs: str) -> Listing | None:
    content = user_cache.read(file)
    if content is None:
        return None
    try:
        kept = msgspec.json.decode(content, type=KeptListing)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    fresh = kept.follows_from == signs and 0 <= time.time() - kept.made < MOST_SECONDS
    return kept.listing if fresh else None


def _digest(what: What, suite: str) -> str | None:
    """Everything that the listing follows from; None where that can't be told."""
    digest = hashlib.sha256(f"{what}\0{suite}\0{opbench.__version__}".encode(errors="surrogatepass"))
    try:
        for sign in _signs(suite):
            digest.update(sign.encode(errors="surrogatepass") + b"\0")
    except OSError:
        return None
    return digest.hexdigest()


def _signs(suite: str) -> Iterator[str]:
    """Raises OSError where something can't be read."""
    from opbench import registry

    yield sys.version
    yield f"{platform.node()} {platform.machine()} {platform.release()}"
    yield from (f"{name}={os.environ.get(name)}" for name in VARIABLES)
    yield str(shutil.which(os.environ.get("CXX", "g++")))
    yield from sorted(str(device) for device in Path("/dev").glob("nvidia*"))
    yield from _files(Path(opbench.__file__).parent)
    if suite.endswith(".toml"):
        yield Path(suite).read_bytes().hex()
    for place in filter(os.path.isdir, dict.fromkeys(sys.path)):
        with os.scandir(place) as entries:
            # A distribution's folder says its name and version.
            yield from sorted(entry.name for entry in entries if entry.name.endswith((".dist-info", ".egg-info")))
    for entry in registry.entry_points():
        yield f"{entry.name}={entry.value}"
        yield from _files_of(entry.module.partition(".")[0])


def _files_of(package: str) -> Iterator[str]:
    """The files of a package that declares operators; it may be one that its author is working on."""
    found = importlib.util.find_spec(package)
    if found is None:
        return
    for folder in found.submodule_search_locations or ():
        yield from _files(Path(folder))
    if found.origin and not found.submodule_search_locations:
        yield _sign(Path(found.origin))


def _files(folder: Path) -> Iterator[str]:
    """Each file of Python and TOML with its size and when it was written. Raises OSError for too many."""
    for count, file in enumerate(sorted([*folder.rglob("*.py"), *folder.rglob("*.toml")])):
        if count >= MOST_FILES:
            raise OSError(f"{folder}: more than {MOST_FILES} files")
        yield _sign(file)


def _sign(file: Path) -> str:
    with contextlib.suppress(FileNotFoundError):  # a link that leads nowhere, or a file that has gone meanwhile
        status = file.stat()
        return f"{file} {status.st_size} {status.st_mtime_ns}"
    return f"{file} is not there"
