"""Records are on disk as soon as they are journaled."""

import math

import pytest
from factory import make_incorrect, make_record

from opbench.document import decode
from opbench.engine.journal import Journal
from opbench.schema import OpbenchError, Record


def test_every_record_is_on_disk_while_the_journal_is_still_open(tmp_path):
    records = [make_record(), make_incorrect()]
    with Journal(tmp_path) as journal:
        journal.append(records)
        lines = journal.path.read_bytes().splitlines()
        assert [decode(line, Record) for line in lines] == records


def test_an_infinite_error_survives(tmp_path):
    with Journal(tmp_path) as journal:
        journal.append([make_incorrect(worst_ratio=math.inf)])
        (line,) = journal.path.read_bytes().splitlines()
    assert decode(line, Record).verdict.worst_ratio == math.inf


def test_an_unwritable_folder_is_refused_before_anything_is_measured(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OpbenchError, match="cannot be written"):
        Journal(tmp_path / "file" / "out")
