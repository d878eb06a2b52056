"""Run documents on disk: round trips, and one clear line for whatever is not one."""

import json
import math
import os
import stat

import msgspec
import pytest
from factory import make_incorrect, make_record, make_run, make_verdict

from opbench import document
from opbench.schema import SCHEMA_VERSION, OpbenchError, Record


def test_a_document_comes_back_as_it_was_saved(tmp_path):
    run = make_run()
    document.save(run, tmp_path / "deep" / "run.json")
    assert document.load(tmp_path / "deep" / "run.json") == run


def test_the_same_run_is_the_same_bytes():
    assert document.render(make_run()) == document.render(make_run())


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_floats_that_json_lacks_survive(value):
    record = make_incorrect(worst_ratio=value)
    back = document.parse(document.render(make_run([record]))).records[0].verdict.worst_ratio
    assert back == value or (math.isnan(back) and math.isnan(value))


def test_they_are_written_as_names_that_any_reader_understands():
    data = document.encode(make_verdict(worst_ratio=math.inf, max_error=math.nan))
    assert json.loads(data)["worst_ratio"] == "Infinity"
    assert json.loads(data)["max_error"] == "NaN"


def test_one_record_is_one_line_that_decodes_alone():
    record = make_incorrect(worst_ratio=math.inf)
    line = document.encode(record)
    assert b"\n" not in line
    assert document.decode(line, Record) == record
    assert line in document.render(make_run([record])).splitlines()


def test_text_that_names_a_number_stays_text():
    record = make_record(message="Infinity")
    assert document.decode(document.encode(record), Record).message == "Infinity"


def test_undecodable_output_of_a_worker_does_not_stop_the_save():
    record = make_record(message=b"\xff\xfe says gr\xc3\xbc\xc3\x9fe".decode("utf-8", "surrogateescape"))
    assert document.decode(document.encode(record), Record).message == "\\udcff\\udcfe says grüße"


def text_of(run=None):
    return document.render(run or make_run([make_record()])).decode()


def broken(**changes):
    raw = msgspec.json.decode(text_of())
    return json.dumps({**raw, **changes})


NEWER = SCHEMA_VERSION + 1


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "the file is empty"),
        (text_of()[:-9], "the file was cut short"),
        ('{"schema_version": 1,\n "panels": [', "the JSON ends too early, at byte 34 (line 2, column 13)"),
        (
            '{"schema_version": 1,\n "panels": [1, }',
            "not JSON: JSON is malformed: invalid character at byte 37 (line 2",
        ),
        ("[]", "not a run document: expected `object`, got `array`"),
        ('{"benchmarks": []}', "not a run document: object missing required field `schema_version`"),
        ('{"schema_version": "one"}', "not a run document: expected `int`, got `str` - at `$.schema_version`"),
        ('{"schema_version": 0}', f"schema_version is 0, expected 1 to {SCHEMA_VERSION}"),
        (f'{{"schema_version": {NEWER}, "new": 1}}', f"schema_version {NEWER} is newer than this opbench reads"),
        ('{"schema_version": 1}', "not a valid run document of schema_version 1: object missing required field"),
        (broken(records=[{"case": 3}]), "expected `object`, got `int` - at `$.records[0].case`"),
        (broken(wall_seconds="soon"), "expected `float`, got `str` - at `$.wall_seconds`"),
        (broken(command=None), "expected `str`, got `null` - at `$.command`"),
        ('{"schema_version": 1, "new": ' + "[" * 100_000, "nested too deeply"),
        (b'{"schema_version": 1, "command": "\xff"}', "not UTF-8 text"),
    ],
)
def test_what_is_no_run_document_is_refused_in_one_line(tmp_path, content, expected):
    path = tmp_path / "run.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(OpbenchError) as caught:
        document.load(path)
    message = str(caught.value)
    assert expected in message
    assert message.startswith(str(path))
    assert "\n" not in message


def test_a_newer_document_says_what_to_do(tmp_path):
    (tmp_path / "run.json").write_text(broken(schema_version=NEWER))
    with pytest.raises(OpbenchError, match="upgrade opbench"):
        document.load(tmp_path / "run.json")


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(OpbenchError, match="no such file"):
        document.load(tmp_path / "absent.json")
    with pytest.raises(OpbenchError, match=r"is a folder; did you mean .*run\.json"):
        document.load(tmp_path)


def test_a_failed_save_leaves_the_old_document_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    document.save(make_run([]), path)
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OpbenchError, match=r"run\.json: can't be written: No space left on device"):
        document.save(make_run(), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]


def test_a_saved_document_is_readable_as_the_umask_says(tmp_path):
    document.save(make_run([]), tmp_path / "run.json")
    (tmp_path / "plain").touch()
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("run.json", "plain")]
    assert modes[0] == modes[1]


def test_a_target_that_is_a_folder_is_an_error_of_usage(tmp_path):
    (tmp_path / "run.json").mkdir()
    with pytest.raises(OpbenchError, match="can't be written"):
        document.save(make_run([]), tmp_path / "run.json")


def test_a_document_of_version_1_opens_without_dispatched_operations():
    raw = msgspec.json.decode(text_of())
    raw["schema_version"] = 1
    for record in raw["records"]:
        assert "dispatched" in record["counts"]
        del record["counts"]["dispatched"]
    found = document.parse(msgspec.json.encode(raw))
    assert found.schema_version == 1
    assert found.records[0].counts.dispatched is None
