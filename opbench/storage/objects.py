"""What lies at an address: objects by name, each written whole, and held to be there only once it was read back.

A store over a network says little for sure. A write whose acknowledgement was lost may have happened; one that was
acknowledged may have been cut short; a listing may be older than what was written before it. So what is written is read
back and written again until it is what it should be; what is read by a name is read by that name, never found in a
listing first. Whatever a store's library raises is tried again a few times, and then said in a sentence.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from opbench.errors import OpbenchError, said
from opbench.storage.address import ROOTED, address_of

T = TypeVar("T")

TRIES = 6
# Doubled each time: 3 seconds in all.
FIRST_PAUSE_SECONDS = 0.1
# A document of 100,000 records has 1 to 2 GB.
LARGEST_BYTES = 4 << 30
AT_ONCE = 256


class ObjectStore:
    """The objects below an address. `files` is fsspec's file system, `root` the address as that one spells it."""

    def __init__(self, address: str, files: Any, root: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self.address, self.root = address, root.rstrip("/")
        self._files, self._sleep = files, sleep

    @classmethod
    def at(cls, address: str) -> ObjectStore:
        """The store at an address. Raises `OpbenchError` where fsspec, or its part for this kind of address, lacks."""
        whole = address_of(address)
        if whole is None:
            raise OpbenchError(f"{address}: not an address (expected SCHEME://..., as in s3://bucket/runs)")
        try:
            import fsspec
        except ImportError:
            raise OpbenchError(f"{whole}: addresses need fsspec: pip install 'opbench[store]'") from None
        try:
            files, root = fsspec.core.url_to_fs(whole, **_options(whole))
        except (ImportError, ValueError) as error:
            raise OpbenchError(f"{whole}: {error}; pip install 'opbench[store]' brings that of s3://") from None
        except Exception as error:  # a store's library may raise anything
            raise OpbenchError(f"{whole}: can't be used: {said(error, 300)}") from None
        return cls(whole, files, root)

    def read(self, name: str, most: int = LARGEST_BYTES) -> bytes | None:
        """The object of a name, or None where there is none. A store that can't be asked is an error, never a None."""

        def once() -> bytes | None:
            try:
                found: bytes = self._files.cat_file(self._path(name), start=None, end=most + 1)
            except (FileNotFoundError, IsADirectoryError):
                return None
            return found

        found = self._tried(once, f"{self.address}/{name}", "read")
        if found is not None and len(found) > most:
            raise OpbenchError(f"{self.address}/{name}: more than {most >> 20} MiB")
        return found

    def read_all(self, names: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
        """Each object of many, in their order; a store that can is asked for hundreds at once."""
        for begin in range(0, len(names), AT_ONCE):
            some = names[begin : begin + AT_ONCE]
            try:
                found = self._files.cat([self._path(name) for name in some], on_error="return")
            except Exception:  # then one by one, each tried again
                found = {}
            for name in some:
                data = found.get(self._path(name))
                yield name, data if isinstance(data, bytes) else self.read(name)

    def write(self, name: str, data: bytes) -> None:
        """Puts an object there and returns once it was read back; the same again changes nothing."""

        def once() -> None:
            try:
                self._files.pipe_file(self._path(name), data)
            except PermissionError:
                raise
            except Exception as error:  # perhaps only its acknowledgement was lost: what is there decides
                if self._now(name) != data:
                    raise _NotThere(said(error, 200)) from None
                return
            if self._now(name) != data:
                raise _NotThere("what was written is not what can be read back")

        self._tried(once, f"{self.address}/{name}", "written")

    def add(self, name: str, data: bytes) -> bool:
        """Puts an object there that is never changed; whether it wasn't there before. A cut-short one is replaced."""
        if self.read(name) == data:
            return False
        self.write(name, data)
        return True

    def names(self, under: str = "") -> list[str]:
        """The names below a folder, sorted, as the store lists them now, which may be without the newest."""
        return list(self.sizes(under))

    def sizes(self, under: str = "") -> dict[str, int]:
        """The names of objects below a folder, sorted, with their bytes, as the store lists them now."""

        def once() -> dict[str, int]:
            self._files.invalidate_cache()
            try:
                found = self._files.find(self._path(under), detail=True)
            except FileNotFoundError:
                return {}
            return {str(path): int(about["size"] or 0) for path, about in found.items()}

        begin = f"{self.root}/"
        listed = self._tried(once, self.address, "listed")
        found = {path if path.startswith(begin) else f"/{path}": size for path, size in listed.items()}
        return {path.removeprefix(begin): size for path, size in sorted(found.items()) if path.startswith(begin)}

    def _now(self, name: str) -> bytes | None:
        try:
            self._files.invalidate_cache()
            found: bytes = self._files.cat_file(self._path(name))
        except FileNotFoundError:
            return None
        return found

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root

    def _tried(self, work: Callable[[], T], what: str, done: str) -> T:
        """The work's result; whatever it raises is tried again, longer and longer apart."""
        pause = FIRST_PAUSE_SECONDS
        for left in reversed(range(TRIES)):
            try:
                return work()
            except PermissionError as error:
                raise OpbenchError(f"{what}: can't be {done}: {said(error, 300)}") from None
            except OpbenchError:
                raise
            except Exception as error:  # a store's library may raise anything
                if not left:
                    raise OpbenchError(f"{what}: can't be {done}, in {TRIES} tries: {said(error, 300)}") from None
            self._sleep(pause)
            pause *= 2
        raise AssertionError("unreachable")


class _NotThere(Exception):
    """What was written isn't there."""


def _options(address: str) -> dict[str, Any]:
    """A listing that is kept would be older than the store's own; a folder is made where a file is put."""
    scheme = address.partition("://")[0]
    if scheme in ROOTED:
        return {"auto_mkdir": True}
    return {"use_listings_cache": False, "skip_instance_cache": True} if scheme == "s3" else {}
