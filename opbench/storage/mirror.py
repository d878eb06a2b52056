"""Results at an address, brought to a folder of this machine: what reads a folder then reads them.

Run documents and digests of a store are never changed once written, so what was brought before, at the same size, is
not brought again.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from opbench import user_cache
from opbench.errors import OpbenchError
from opbench.storage.address import address_of
from opbench.storage.objects import ObjectStore

# What a results folder is read for: documents, plain or gzipped.
SUFFIXES = (".json", ".json.gz")
# Below these lie what runs are made of while they last (see `opbench.engine.delivery`).
NOT_DOCUMENTS = ("parts", "index")


def cache_folder(address: str) -> Path:
    """Where what lies at an address is kept on this machine."""
    base = user_cache.folder("store") or Path(tempfile.gettempdir()) / "opbench-store"
    return base / hashlib.sha256(address.encode()).hexdigest()[:16]


def fetched(path: Path, folder: Path | None = None) -> Path:
    """A folder of this machine with the documents of `path`; `path` itself where that is no address."""
    address = address_of(path)
    if address is None:
        return path
    store = ObjectStore.at(address)
    root = folder or cache_folder(address)
    sizes = {name: size for name, size in store.sizes().items() if _wanted(name)}
    if not sizes:
        raise OpbenchError(f"{address}: holds no document (expected run.json that `opbench run -o {address}` wrote)")
    for name, size in sizes.items():
        target = root / name
        with contextlib.suppress(OSError):
            if target.stat().st_size == size:
                continue
        data = store.read(name)
        if data is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    for gone in {str(one.relative_to(root)) for one in root.rglob("*") if one.is_file()} - set(sizes):
        (root / gone).unlink(missing_ok=True)  # another command may do the same
    return root


def _wanted(name: str) -> bool:
    """A document, by a name that can't lead out of a folder."""
    parts = PurePosixPath(name).parts
    if ".." in parts or name.startswith("/") or "\\" in name or any(part.startswith(".") for part in parts):
        return False
    return name.endswith(SUFFIXES) and not set(parts[:-1]) & set(NOT_DOCUMENTS)


@contextlib.contextmanager
def written_through(path: Path) -> Iterator[Path]:
    """A folder to write into; with an address, all that was written is put there at the end.

    Raises `OpbenchError` where it can't be written, and then nothing is half there: objects are written whole.
    """
    address = address_of(path)
    if address is None:
        yield path
        return
    store = ObjectStore.at(address)
    with tempfile.TemporaryDirectory(prefix="opbench-") as held:
        yield Path(held)
        put(Path(held), store)


def put(folder: Path, store: ObjectStore) -> list[str]:
    """Every file of a folder, by its name in there; documents last, because they say that all is there.

    Returns the names that weren't there, or were something else.
    """
    files = [one for one in sorted(folder.rglob("*")) if one.is_file() and not one.name.startswith(".")]
    ordered = sorted(files, key=lambda one: one.name.endswith(SUFFIXES))
    return [name for one in ordered if store.add(name := one.relative_to(folder).as_posix(), one.read_bytes())]
