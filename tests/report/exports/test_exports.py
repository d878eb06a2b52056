"""What holds for every export: wrong use is told, the same run gives the same bytes, hostile text is inert."""

import msgspec
import pytest
from exported import evil_run, failed_run, one_round_run, small_run
from factory import make_case, make_record, make_run
from hostile import EVIL, make_hostile_run
from typer.testing import CliRunner

from opbench.cli import app
from opbench.commands.export import ExportRequest
from opbench.commands.export import export as run
from opbench.documents import save
from opbench.report.exports import FORMATS, export
from opbench.report.exports.rows import name_of
from opbench.schema import OpbenchError

NAMES = sorted(FORMATS)
FILES = sorted(name for name, format_ in FORMATS.items() if not format_.folder)
NEEDS_OK = sorted(name for name, format_ in FORMATS.items() if format_.needs_ok)


def contents(written):
    return {path.name: path.read_bytes() for path in written[0]}


@pytest.mark.parametrize("name", NAMES)
def test_the_same_run_gives_the_same_bytes(name, tmp_path):
    first = contents(export([small_run()], name, tmp_path / "a" / "out"))
    assert first == contents(export([small_run()], name, tmp_path / "b" / "out"))
    assert all(first.values())


@pytest.mark.parametrize("name", NAMES)
def test_hostile_text_is_exported_without_a_control_character(name, tmp_path):
    """Parquet is no text: there a string is what it is, and nothing reads it as more."""
    for content in contents(export([evil_run()], name, tmp_path / "out")).values():
        if name != "parquet":
            text = content.decode("utf-8")
            assert not {"\x1b", "\x07", "\u202e", "\r"} & set(text)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"asv", "openmetrics-backfill"}))
def test_a_run_whose_every_text_is_hostile_is_exported(name, tmp_path):
    assert contents(export([make_hostile_run()], name, tmp_path / "out"))


@pytest.mark.parametrize("name", NAMES)
def test_an_interval_that_is_not_known_is_no_fault(name, tmp_path):
    assert contents(export([one_round_run()], name, tmp_path / "out"))


@pytest.mark.parametrize("name", NEEDS_OK)
def test_a_run_without_an_ok_case_is_refused_where_the_format_cannot_say_so(name, tmp_path):
    with pytest.raises(OpbenchError, match=r"nothing to export: no case ended ok \(crashed\)"):
        export([failed_run()], name, tmp_path / "out")
    with pytest.raises(OpbenchError, match="no record at all"):
        export([make_run([])], name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(NEEDS_OK)))
def test_elsewhere_a_run_of_failures_is_exported_as_such(name, tmp_path):
    assert contents(export([failed_run()], name, tmp_path / "out"))


@pytest.mark.parametrize("name", NAMES)
def test_two_records_of_one_case_are_refused_rather_than_one_dropped(name, tmp_path):
    twice = make_run([make_record(), make_record()])
    with pytest.raises(OpbenchError, match="2 records that go by 1 names"):
        export([twice], name, tmp_path / "out")


@pytest.mark.parametrize("name", sorted(name for name, format_ in FORMATS.items() if format_.one or format_.verdicts))
def test_a_format_of_one_run_says_which_hold_several(name, tmp_path):
    said = rf"{name} holds one (run|document) and got 2: .* one of asv, openmetrics-backfill, csv, parquet"
    with pytest.raises(OpbenchError, match=said):
        export([small_run(), small_run()], name, tmp_path / "out")


@pytest.mark.parametrize("name", FILES)
def test_a_folder_where_a_file_is_written_is_told(name, tmp_path):
    with pytest.raises(OpbenchError, match=r"is a folder: .* writes one file"):
        export([small_run()], name, tmp_path)


def test_a_file_where_a_folder_is_written_is_told(tmp_path):
    (tmp_path / "out").write_text("kept")
    with pytest.raises(OpbenchError, match="is a file: asv writes a folder"):
        export([small_run()], "asv", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "kept"


@pytest.mark.parametrize("name", NAMES)
def test_a_place_that_cannot_be_written_is_told(name, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OpbenchError, match="can't be written"):
        export([small_run()], name, tmp_path / "file" / "out")


def test_an_unknown_format_lists_the_known_ones(tmp_path):
    with pytest.raises(
        OpbenchError, match=r"unknown format 'parket'; did you mean 'parquet'\? \(known: asv, badge, bencher"
    ):
        run(ExportRequest(runs=(tmp_path / "run.json",), format_="parket", output=tmp_path / "out"))


def test_the_help_names_every_format():
    shown = CliRunner().invoke(app, ["export", "--help"], terminal_width=200).stdout
    assert all(name in shown for name in FORMATS)


def test_the_command_writes_and_names_the_file(tmp_path, capsys):
    save(small_run(), tmp_path / "run.json")
    assert run(ExportRequest(runs=(tmp_path / "run.json",), format_="csv", output=tmp_path / "new" / "out.csv")) == 0
    assert capsys.readouterr().out == f"written: {tmp_path / 'new' / 'out.csv'}\n"
    assert (tmp_path / "new" / "out.csv").exists()


def test_a_name_longer_than_readers_take_ends_in_a_hash(tmp_path):
    long = [make_case(workload="w" * 2000 + end) for end in "ab"]
    names = [name_of(case) for case in long]
    assert len(set(names)) == 2
    assert max(map(len, names)) < 1000


def test_hostile_text_keeps_its_visible_part():
    case = msgspec.structs.replace(make_case(), workload=EVIL)
    assert "<script>alert(1)</script>" in name_of(case)
    assert "\n" not in name_of(case)
