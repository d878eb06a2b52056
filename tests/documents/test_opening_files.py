"""How a file is locked where there is no flock."""

import os

import pytest

from opbench.documents import opening


class Locks:
    """`msvcrt`, as far as it is used: one lock on the byte where the file's position stands."""

    LK_NBLCK = 2

    def __init__(self):
        self.held = None

    def locking(self, descriptor, mode, count):
        assert (mode, count) == (self.LK_NBLCK, 1)
        if self.held is not None:
            raise OSError(13, "Permission denied")
        self.held = os.lseek(descriptor, 0, os.SEEK_CUR)


def test_a_byte_that_no_file_has_is_locked_and_the_position_stays(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    locks = Locks()
    with path.open("rb", buffering=0) as file:
        file.seek(3)
        opening._lock_byte(file.fileno(), locks)
        assert locks.held > 1 << 30
        assert file.tell() == 3
        with pytest.raises(BlockingIOError, match="Permission denied"):
            opening._lock_byte(file.fileno(), locks)
        assert file.tell() == 3


def test_a_file_is_locked_once(tmp_path):
    pytest.importorskip("fcntl", reason="not a Unix")
    path = tmp_path / "file"
    path.touch()
    with path.open("rb") as first, path.open("rb") as second:
        opening.lock(first.fileno())
        with pytest.raises(BlockingIOError):
            opening.lock(second.fileno())
