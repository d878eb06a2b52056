"""The journal: on disk at once, whole or refused, one writer at a time."""

import errno
import math
import os
import subprocess
import sys

import pytest
from factory import make_environment, make_incorrect, make_record
from msgspec.structs import replace

from opbench.engine import journal as module
from opbench.engine.entries import Header, Lost, PanelFinished, Surroundings, read, session
from opbench.engine.journal import Journal
from opbench.engine.resuming import differences
from opbench.schema import OpbenchError, Settings

HEADER = Header(
    settings=Settings(suite="toy", precision=0.01, budget_seconds=1.0),
    panels={"a": "00000001", "b": "00000002"},
    extensions={},
    threads=None,
    started="2026-01-01T00:00:00+00:00",
)
SURROUNDINGS = Surroundings(make_environment(), (), 1.0, 2.0)


def open_journal(folder, *, header=HEADER, resume=False):
    return Journal(folder, header, session("toy", "now"), resume=resume)


def finished(panel="a", replica=0):
    return PanelFinished(replica, panel, (make_record(), make_incorrect(worst_ratio=math.inf)), 1.0, 2.0)


def written(folder):
    """A journal with one finished panel and one lost contender, and its entries after the header."""
    entries = [SURROUNDINGS, finished(), Lost(0, "b", make_incorrect())]
    with open_journal(folder) as journal:
        for entry in entries:
            journal.append(entry)
    return entries


def test_every_entry_is_on_disk_while_the_journal_is_still_open(tmp_path):
    with open_journal(tmp_path) as journal:
        journal.append(finished())
        entries, end = read(journal.path)
        assert entries[0] == HEADER
        assert entries[-1] == finished()
        assert end == journal.path.stat().st_size


def test_a_resumed_journal_has_what_was_appended(tmp_path):
    written(tmp_path)
    with open_journal(tmp_path, resume=True) as journal:
        assert journal.surroundings == SURROUNDINGS
        assert journal.finished == {(0, "a"): finished()}
        assert journal.lost == {(0, "b"): [make_incorrect()]}


def test_a_journal_cut_off_anywhere_has_the_entries_before_the_cut(tmp_path):
    written(tmp_path)
    path = tmp_path / module.NAME
    whole, entries = path.read_bytes(), read(path)[0]
    ends = [position + 1 for position, byte in enumerate(whole) if byte == ord("\n")]
    # Every place about the end of a line, and others between.
    for cut in sorted({*range(0, len(whole), 97), *(end + near for end in ends for near in range(-9, 10))}):
        path.write_bytes(whole[:cut])
        found, kept = read(path)
        complete = sum(end <= cut for end in ends)
        assert found == entries[:complete]
        assert kept == ([0, *ends])[complete]


def test_a_resumed_journal_goes_on_after_a_torn_line(tmp_path):
    written(tmp_path)
    path = tmp_path / module.NAME
    path.write_bytes(path.read_bytes()[:-20])  # the last entry is the lost contender
    with open_journal(tmp_path, resume=True) as journal:
        assert not journal.lost
        journal.append(finished("b"))
    with open_journal(tmp_path, resume=True) as journal:
        assert set(journal.finished) == {(0, "a"), (0, "b")}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_changed_byte_is_refused_with_its_line(tmp_path, share):
    written(tmp_path)
    path = tmp_path / module.NAME
    data = bytearray(path.read_bytes())
    position = int(share * len(data))
    data[position] ^= 1
    path.write_bytes(data)
    line = data[:position].count(b"\n") + 1
    with pytest.raises(OpbenchError, match=rf"line {line} is damaged .*\(the checksum is wrong\)"):
        open_journal(tmp_path, resume=True)
    assert path.read_bytes() == data


@pytest.mark.parametrize("content", [b"{}\n", b"a diary\n", b'{"case": 1}\n{"case": 2}\n'])
def test_what_is_no_journal_is_refused_and_left_alone(tmp_path, content):
    (tmp_path / module.NAME).write_bytes(content)
    for resume in (False, True):
        with pytest.raises(OpbenchError, match="line 1 is damaged or was not written by this opbench"):
            open_journal(tmp_path, resume=resume)
    assert (tmp_path / module.NAME).read_bytes() == content


def test_finished_work_is_never_overwritten_unasked(tmp_path):
    written(tmp_path)
    with pytest.raises(OpbenchError, match="resume it with --resume, or delete the file"):
        open_journal(tmp_path)
    with open_journal(tmp_path, resume=True) as journal:
        assert journal.finished


def test_a_journal_without_finished_work_is_begun_anew(tmp_path):
    open_journal(tmp_path).__exit__(None, None, None)
    other = replace(HEADER, threads=7)
    with open_journal(tmp_path, header=other) as journal:
        assert journal.header.threads == 7


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"settings": replace(HEADER.settings, suite="other")}, "suite 'toy' there, 'other' here"),
        ({"settings": replace(HEADER.settings, precision=0.05)}, "precision 0.01 there, 0.05 here"),
        ({"settings": replace(HEADER.settings, replicas=3)}, "replicas 1 there, 3 here"),
        ({"panels": {"a": "00000001", "b": "ffffffff"}}, "panel b is not what it was"),
        ({"panels": {"a": "00000001"}}, "panel b is not what it was"),
        ({"extensions": {"mine.py": "00000003"}}, "file mine.py is not what it was"),
        ({"threads": 2}, "--threads None there, 2 here"),
        ({"version": 2}, "format 1 there, 2 here"),
    ],
)
def test_the_journal_of_another_run_is_refused_with_the_difference(tmp_path, change, said):
    written(tmp_path)
    with pytest.raises(OpbenchError) as error:
        open_journal(tmp_path, header=replace(HEADER, **change), resume=True)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_another_machine_or_version_is_a_difference_and_the_load_is_none():
    here = make_environment(details={"load before": "0.1"})
    assert differences(here, replace(here, details={"load before": "7.5"})) == []
    other = replace(here, cpu="Another CPU", versions={**here.versions, "torch": "2.7.0", "triton": "3"})
    assert differences(here, other) == [
        "cpu: Example CPU @ 2.10GHz there, Another CPU here",
        "torch 2.6.0 there, 2.7.0 here",
        "triton none there, 3 here",
    ]


def test_two_runs_never_share_a_journal_and_the_holder_is_named(tmp_path):
    with open_journal(tmp_path) as journal:
        journal.append(finished())
        for resume in (False, True):
            with pytest.raises(OpbenchError, match=f"process {os.getpid()} on .* is writing there"):
                open_journal(tmp_path, resume=resume)
    with open_journal(tmp_path, resume=True) as journal:
        assert journal.finished


def test_the_lock_of_a_dead_process_is_no_lock(tmp_path):
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from test_journal import open_journal, finished\n"
        "journal = open_journal(Path(sys.argv[1]))\n"
        "journal.append(finished())\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = os.pathsep.join(sys.path)
    subprocess.run([sys.executable, "-c", code, tmp_path], env={**os.environ, "PYTHONPATH": path}, check=False)
    with open_journal(tmp_path, resume=True) as journal:
        assert set(journal.finished) == {(0, "a")}


def test_a_full_disk_keeps_what_was_finished(tmp_path, monkeypatch):
    really = os.write
    with open_journal(tmp_path) as journal:
        journal.append(finished("a"))

        def full(file, data):
            if len(data) > 100:
                return really(file, data[:100])  # the disk takes some of it
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(OpbenchError, match="No space left on device; what was finished is kept"):
            journal.append(Lost(0, "b", make_incorrect()))
        assert journal.path.read_bytes().endswith(b"\n"), "half a line was left behind"
    monkeypatch.undo()
    with open_journal(tmp_path, resume=True) as journal:
        assert set(journal.finished) == {(0, "a")}
        assert not journal.lost


def test_a_short_write_is_completed(tmp_path, monkeypatch):
    really = os.write
    with open_journal(tmp_path) as journal:
        monkeypatch.setattr(os, "write", lambda file, data: really(file, data[:7]))
        journal.append(finished())
        monkeypatch.undo()
        assert read(journal.path)[0][-1] == finished()


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_folder_that_can_not_be_written_is_refused_before_anything_is_measured(tmp_path, monkeypatch, code):
    def refuse(*arguments):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OpbenchError, match=f"cannot be written: {os.strerror(code)}"):
        open_journal(tmp_path)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OpbenchError, match="cannot be written"):
        open_journal(tmp_path / "file" / "out")
