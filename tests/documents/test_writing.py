"""What is written is whole, under its own name and nowhere else, whoever writes beside it and whatever stands there."""

import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest

from opbench.documents import content, read, replace_file, writing
from opbench.schema import OpbenchError, Run


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_device_takes_the_content_and_stays_a_device(tmp_path):
    device = tmp_path / "null"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        device.write_bytes(b"")
    except OSError:
        pytest.skip("may not make devices here")
    replace_file(device, b"text")
    assert stat.S_ISCHR(device.stat().st_mode)
    assert names(tmp_path) == ["null"]


def test_a_pipe_hands_the_content_to_its_reader_and_stays_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    got = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    text = b"x" * 300_000
    for _ in range(100):  # until the reader has opened it
        try:
            replace_file(tmp_path / "pipe", text)
            break
        except OpbenchError:
            time.sleep(0.05)
    reader.join(10)
    assert got == [text]
    assert names(tmp_path) == ["pipe"]


def test_a_pipe_that_nobody_reads_is_an_error_and_no_wait(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OpbenchError, match="can't be written: a pipe that nobody reads"):
        replace_file(tmp_path / "pipe", b"text")


def test_a_link_is_followed_and_stays(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there/file")
    for text in (b"first", b"second"):
        replace_file(tmp_path / "link", text)
        assert (tmp_path / "there" / "file").read_bytes() == text
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "there") == ["file"]


def test_a_link_to_nowhere_and_a_circle_are_errors_in_a_line(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "missing" / "file")
    (tmp_path / "circle").symlink_to("circle")
    for name in ("link", "circle"):
        with pytest.raises(OpbenchError, match="can't be written: "):
            replace_file(tmp_path / name, b"text")


def test_the_longest_name_can_be_written(tmp_path):
    replace_file(tmp_path / ("ü" * 127), b"text")
    assert (tmp_path / ("ü" * 127)).read_bytes() == b"text"


def test_two_processes_of_one_number_write_under_names_of_their_own(tmp_path, monkeypatch):
    """As in two containers that share a folder, each with a process 1."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    seen, real = [], os.replace
    monkeypatch.setattr(os, "replace", lambda old, new: (seen.append(str(old)), real(old, new)))
    for _ in range(2):
        replace_file(tmp_path / "file", b"text")
    assert len(set(seen)) == 2


WRITER = """
import os, sys, time
from opbench.documents import replace_file
real = os.replace
def slow(old, new):
    print("written", flush=True)
    time.sleep(60)
os.replace = slow
replace_file(sys.argv[1], b"half")
"""


def test_what_a_killed_writer_left_is_taken_away_and_what_a_living_one_has_is_not(tmp_path):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path / "file"], stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout.readline() == "written\n"
        replace_file(tmp_path / "other", b"text")
        assert [name for name in names(tmp_path) if re.fullmatch(r"\.file\.[0-9a-f]{16}\.tmp", name)]
    finally:
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
    replace_file(tmp_path / "other", b"text")
    assert names(tmp_path) == ["other"]


def test_the_kernel_s_endless_files_are_read_to_their_limit_and_not_waited_for(tmp_path):
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    with pytest.raises(OpbenchError, match="neither a file nor a folder"):
        read(tmp_path / "zero.json", Run)
    if os.access("/proc/kmsg", os.R_OK):
        (tmp_path / "kmsg.json").symlink_to("/proc/kmsg")
        with pytest.raises(OpbenchError):
            read(tmp_path / "kmsg.json", Run)


def test_a_document_comes_through_a_pipe_where_a_person_named_one(tmp_path):
    source, sink = os.pipe()
    try:
        os.write(sink, b"[1]")
        os.close(sink)
        assert content(f"/dev/fd/{source}", pipes=True) == b"[1]"
        with pytest.raises(OpbenchError, match="neither a file nor a folder"):
            content(f"/dev/fd/{source}")
    finally:
        os.close(source)


def test_processes_that_write_one_file_leave_one_of_their_texts(tmp_path):
    children = []
    for number in range(20):
        if (child := os.fork()) == 0:
            status = 1
            try:
                for _ in range(10):
                    replace_file(tmp_path / "file", bytes([65 + number]) * 50_000)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 20
    found = (tmp_path / "file").read_bytes()
    assert len(found) == 50_000
    assert len(set(found)) == 1
    assert names(tmp_path) == ["file"]


def test_a_new_file_that_another_takes_for_a_left_one_is_not_written(tmp_path, monkeypatch):
    """Whoever takes away what killed writers left may have the new file locked before its own writer has."""
    real, replace, taken = writing.lock, os.replace, []

    def lock(descriptor):
        if not taken:
            taken.extend(tmp_path.glob(".*.tmp"))
            raise BlockingIOError
        real(descriptor)

    def replaces(old, new):
        taken[0].unlink()
        replace(old, new)

    monkeypatch.setattr(writing, "lock", lock)
    monkeypatch.setattr(os, "replace", replaces)
    replace_file(tmp_path / "file", b"text")
    assert (tmp_path / "file").read_bytes() == b"text"
    assert names(tmp_path) == ["file"]
