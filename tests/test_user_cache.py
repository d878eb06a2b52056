"""The user's cache folder: nothing half-written is read, and nothing that a writer left stays."""

import os
import time

import pytest

from opbench import user_cache


def left_by_a_killed_writer(folder, seconds):
    """A temporary file of that age."""
    file = folder / "tmpabcdefgh.tmp"
    file.write_bytes(b"half")
    os.utime(file, (time.time() - seconds, time.time() - seconds))
    return file


@pytest.fixture
def folder(tmp_path):
    tmp_path.chmod(0o700)
    return tmp_path


def test_what_a_killed_writer_left_is_taken_away_and_what_another_writes_now_is_not(folder):
    left = left_by_a_killed_writer(folder, 2 * user_cache.LEFT_SECONDS)
    user_cache.write(folder / "one", b"content")
    assert not left.exists()
    left = left_by_a_killed_writer(folder, 1.0)
    user_cache.write(folder / "one", b"content")
    assert left.exists()
    assert user_cache.read(folder / "one") == b"content"


@pytest.mark.parametrize("error", [OSError("No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_nothing_and_what_was_there(folder, monkeypatch, error):
    user_cache.write(folder / "one", b"before")

    def full(old, new):
        raise error

    monkeypatch.setattr(os, "replace", full)
    try:
        user_cache.write(folder / "one", b"after")
    except KeyboardInterrupt:
        assert isinstance(error, KeyboardInterrupt)
    assert [path.name for path in folder.iterdir()] == ["one"]
    assert user_cache.read(folder / "one") == b"before"
