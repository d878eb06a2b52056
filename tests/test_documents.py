"""Documents on disk: round trips of every kind, and one clear line for whatever is not the one that was asked for."""

import functools
import gzip
import json
import math
import os
import stat

import msgspec
import pytest
from factory import (
    make_deployment,
    make_device_run,
    make_environment,
    make_incorrect,
    make_record,
    make_run,
    make_selfcheck,
    make_verdict,
)
from hostile import make_hostile_run

from opbench import documents
from opbench.analyse.claims.answers import evaluate
from opbench.analyse.claims.nouns import Answers
from opbench.analyse.compare.runs import compare
from opbench.analyse.history.digest import digest
from opbench.conformance.findings import Conformance
from opbench.conformance.findings import Request as Check
from opbench.conformance.promises.findings import PromiseRequest, Promises
from opbench.contributed.nouns import BundleManifest, Verification
from opbench.decision.nouns import NetworkDecision
from opbench.documents import KINDS, DocumentKind, files
from opbench.documents.kinds import STUDY_VERSION
from opbench.documents.selfchecks import selfcheck_near, selfcheck_of
from opbench.models.costs import Costs
from opbench.schema import SCHEMA_VERSION, CoreShare, OpbenchError, Record, Run, Selfcheck
from opbench.study.document import StudyDocument


def test_a_document_comes_back_as_it_was_saved(tmp_path):
    run = make_run()
    documents.save(run, tmp_path / "deep" / "run.json")
    assert documents.read(tmp_path / "deep" / "run.json") == run


def test_the_same_run_is_the_same_bytes():
    assert documents.render(make_run()) == documents.render(make_run())


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_floats_that_json_lacks_survive(value):
    record = make_incorrect()
    worst = msgspec.structs.replace(record.verdict.worst, got=value)
    record = msgspec.structs.replace(record, verdict=msgspec.structs.replace(record.verdict, worst=worst))
    back = documents.parse(documents.render(make_run([record])), Run).records[0].verdict.worst.got
    assert back == value or (math.isnan(back) and math.isnan(value))


def test_they_are_written_as_names_that_any_reader_understands():
    data = documents.encode(make_verdict(worst_ratio=math.inf, max_error=math.nan))
    assert json.loads(data)["worst_ratio"] == "Infinity"
    assert json.loads(data)["max_error"] == "NaN"


def test_one_record_is_one_line_that_decodes_alone():
    record = make_incorrect(worst_ratio=math.inf)
    line = documents.encode(record)
    assert b"\n" not in line
    assert documents.decode(line, Record) == record
    assert line in documents.render(make_run([record])).splitlines()


def test_text_that_names_a_number_stays_text():
    record = make_record(message="Infinity")
    assert documents.decode(documents.encode(record), Record).message == "Infinity"


def test_undecodable_output_of_a_worker_does_not_stop_the_save():
    record = make_record(message=b"\xff\xfe says gr\xc3\xbc\xc3\x9fe".decode("utf-8", "surrogateescape"))
    assert documents.decode(documents.encode(record), Record).message == "\\udcff\\udcfe says grüße"


def text_of(run=None):
    return documents.render(run or make_run([make_record()])).decode()


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
        documents.read(path, Run)
    message = str(caught.value)
    assert expected in message
    assert message.startswith(str(path))
    assert "\n" not in message


def test_a_newer_document_says_what_to_do(tmp_path):
    (tmp_path / "run.json").write_text(broken(schema_version=NEWER))
    with pytest.raises(OpbenchError, match="upgrade opbench"):
        documents.read(tmp_path / "run.json", Run)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(OpbenchError, match="no such file"):
        documents.read(tmp_path / "absent.json", Run)
    with pytest.raises(OpbenchError, match=r"is a folder without run\.json; expected a run document"):
        documents.read(tmp_path, Run)


def test_a_failed_save_leaves_the_old_document_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    documents.save(make_run([]), path)
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OpbenchError, match=r"run\.json: can't be written: No space left on device"):
        documents.save(make_run(), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]


def test_a_saved_document_is_readable_as_the_umask_says(tmp_path):
    documents.save(make_run([]), tmp_path / "run.json")
    (tmp_path / "plain").touch()
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("run.json", "plain")]
    assert modes[0] == modes[1]


def test_a_target_that_is_a_folder_is_an_error_of_usage(tmp_path):
    (tmp_path / "run.json").mkdir()
    with pytest.raises(OpbenchError, match="can't be written"):
        documents.save(make_run([]), tmp_path / "run.json")


def test_a_document_of_version_1_opens_without_dispatched_operations():
    raw = msgspec.json.decode(text_of())
    raw["schema_version"] = 1
    for record in raw["records"]:
        assert "dispatched" in record["counts"]
        del record["counts"]["dispatched"]
    found = documents.parse(msgspec.json.encode(raw), Run)
    assert found.schema_version == 1
    assert found.records[0].counts.dispatched is None


@functools.cache
def nouns():
    """One noun of every kind."""
    run = make_run()
    return {
        "run": run,
        "selfcheck": make_selfcheck(),
        "study": StudyDocument(STUDY_VERSION, make_environment(), "opbench study", "2026-01-01", 1.0, True, ()),
        "digest": digest(run, documents.render(run)),
        "conformance": Conformance(Check("a.py:f", "carafe"), "carafe (function)", (), (), "", (), math.inf),
        "promises": Promises(PromiseRequest("a.py:M"), "M()", ((2, 64, 4, 4),), (), (), math.inf),
        "model": Costs("a.py:Net", "Net", (1, 3, 64, 64), "float32", "cpu", "inference", math.inf, 2, None, (), ()),
        "comparison": compare(run, run),
        "decision": NetworkDecision(
            "yolo11n.yaml",
            "YOLO11n",
            (1, 3, 64, 64),
            "float32",
            "cpu",
            "inference",
            2.0,
            2,
            "a machine",
            "2026-01-01",
            "opbench decide yolo11n.yaml",
            "quiet",
            (),
        ),
        "deployment": make_deployment(),
        "device": make_device_run(),
        "bundle": BundleManifest({"run.json": "0" * 64}, "a machine", make_environment(), {"a/b": "0/a/b"}, "0.1.0"),
        "verification": Verification(
            "0" * 64, "a machine", "smoke", "2026-01-01", "checked", "0.1.0", None, (), (), ()
        ),
        "claims": Answers(evaluate()[:3]),
    }


EVERY_KIND = pytest.mark.parametrize("name", KINDS)


@EVERY_KIND
def test_a_document_of_every_kind_says_what_it_is_and_comes_back(name, tmp_path):
    noun = nouns()[name]
    documents.save(noun, tmp_path / "document.json")
    raw = json.loads((tmp_path / "document.json").read_bytes())
    assert next(iter(raw)) == "kind"
    assert (raw["kind"], raw[KINDS[name].version_field]) == (name, KINDS[name].version)
    assert documents.read(tmp_path / "document.json") == noun
    assert documents.read(tmp_path / "document.json", type(noun)) == noun


@EVERY_KIND
def test_a_document_from_before_there_were_kinds_is_told_by_its_fields(name):
    noun = nouns()[name]
    raw = json.loads(documents.render(noun))
    del raw["kind"]
    if KINDS[name].version_field not in type(noun).__struct_fields__:
        del raw["schema_version"]
    assert documents.parse(json.dumps(raw).encode()) == noun


@EVERY_KIND
def test_another_kind_than_the_wanted_one_is_named_with_the_commands_that_write_them(name, tmp_path):
    other = Selfcheck if name == "run" else Run
    documents.save(nouns()[name], tmp_path / "document.json")
    with pytest.raises(documents.OtherKindError) as caught:
        documents.read(tmp_path / "document.json", other)
    found, expected = KINDS[name], documents.kind_of(other)
    assert str(caught.value) == (
        f"{tmp_path}/document.json: this is a {name} document (`{found.command}` writes one); "
        f"expected a {expected.name} document (`{expected.command}` writes one)"
    )


class Recipe(msgspec.Struct, frozen=True):
    """The noun of a kind that is added here alone."""

    schema_version: int
    title: str
    steps: tuple[str, ...] = ()


@pytest.fixture
def recipes(monkeypatch):
    kind = DocumentKind(
        name="recipe",
        noun=f"{__name__}:Recipe",
        version=2,
        command="opbench cook",
        fields=("title", "steps"),
        file="recipe.json",
        older={1: lambda recipe: msgspec.structs.replace(recipe, title=recipe.title.lower())},
    )
    monkeypatch.setitem(KINDS, "recipe", kind)


RECIPE = Recipe(2, "soup", ("boil",))


@pytest.mark.usefixtures("recipes")
def test_a_kind_is_added_by_one_row(tmp_path):
    documents.save(RECIPE, tmp_path / "recipe.json")
    for place in (tmp_path / "recipe.json", tmp_path):
        assert documents.read(place, Recipe) == RECIPE
    assert documents.read(tmp_path / "recipe.json") == RECIPE
    assert documents.parse(b'{"schema_version": 1, "title": "SOUP", "steps": []}') == Recipe(1, "soup")


@pytest.mark.usefixtures("recipes")
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            documents.encode({"kind": "recipe", "schema_version": 3}),
            "schema_version 3 is newer than this opbench reads",
        ),
        (documents.encode({"kind": "recipe", "schema_version": 0}), "schema_version is 0, expected 1 to 2"),
        (b'{"kind": "recipe", "schema_version": 2}', "not a valid recipe document of schema_version 2: object missing"),
        (b'{"kind":"recipe","schema_version":2,"ti', "the JSON ends too early"),
        (b"title: soup", "not JSON: "),
        (b"", "the file is empty"),
        (documents.render(make_run([])), "this is a run document (`opbench run -o DIR` writes one); expected a recipe"),
        (b'{"kind": "bill", "schema_version": 1}', "a document of kind 'bill', which this opbench doesn't know"),
        (b'{"kind": "recipe", "title": "soup"}', "object missing required field `schema_version`; expected a recipe"),
        (b'{"kind": 3, "schema_version": 1}', "a document of kind 3, which"),
    ],
)
def test_what_is_no_such_document_is_refused_in_one_line(content, expected, tmp_path):
    (tmp_path / "recipe.json").write_bytes(content)
    with pytest.raises(OpbenchError) as caught:
        documents.read(tmp_path / "recipe.json", Recipe)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_which_no_kind_is_known_or_wanted_is_refused():
    with pytest.raises(OpbenchError, match="not a document of opbench: none of its fields say what it is"):
        documents.parse(b'{"benchmarks": []}')


def test_one_of_two_kinds_is_taken_and_a_third_refused(tmp_path):
    for noun in (make_run(), make_selfcheck()):
        documents.save(noun, tmp_path / "document.json")
        assert documents.read(tmp_path / "document.json", Run, Selfcheck) == noun
    documents.save(nouns()["study"], tmp_path / "document.json")
    with pytest.raises(OpbenchError, match=r"this is a study document .* expected a run document .* or a selfcheck"):
        documents.read(tmp_path / "document.json", Run, Selfcheck)


def test_no_kind_has_the_fields_of_another():
    """So that what a document of an earlier version holds tells its kind."""
    for one in KINDS.values():
        held = set(one.type().__struct_fields__)
        assert [other.name for other in KINDS.values() if set(other.fields) <= held] == [one.name]


# --- Gzipped -----------------------------------------------------------------------------------------------------


def test_a_gzipped_document_is_read_whatever_its_name(tmp_path):
    for name in ("run.json.gz", "run.json", "elsewhere"):
        (tmp_path / name).write_bytes(gzip.compress(documents.render(make_run())))
        assert documents.read(tmp_path / name, Run) == make_run()


def test_the_gzipped_file_stands_for_a_plain_one_that_is_not_there(tmp_path):
    (tmp_path / "run.json.gz").write_bytes(gzip.compress(documents.render(make_run([]))))
    for place in (tmp_path / "run.json", tmp_path):
        assert documents.read(place, Run) == make_run([])
    documents.save(make_run(), tmp_path / "run.json")
    for place in (tmp_path / "run.json", tmp_path):
        assert documents.read(place, Run) == make_run(), "the plain one comes first"


def packed(content=None):
    return gzip.compress(documents.render(make_run([make_record()])) if content is None else content, mtime=0)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (packed()[:-9], "the gzipped data end too early: the file was cut short"),
        (packed()[:5], "the gzipped data end too early: the file was cut short"),
        (packed()[:-8] + bytes(8), "the gzipped data are damaged: CRC check failed"),
        (packed()[:40] + bytes(40) + packed()[80:], "the gzipped data are damaged: "),
        (packed(b""), "the file is empty"),
        (packed(b"[]"), "not a run document"),
    ],
    ids=["trailer cut off", "header alone", "another checksum", "zeros inside", "empty", "no document"],
)
def test_a_damaged_gzip_is_refused_in_one_line(content, expected, tmp_path):
    (tmp_path / "run.json.gz").write_bytes(content)
    with pytest.raises(OpbenchError) as caught:
        documents.read(tmp_path / "run.json.gz", Run)
    assert str(caught.value).startswith(f"{tmp_path}/run.json.gz: {expected}")
    assert "\n" not in str(caught.value)


def test_what_unpacks_to_more_than_a_document_may_have_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LARGEST_BYTES", 1 << 20)
    (tmp_path / "run.json.gz").write_bytes(packed(b" " * (1 << 20) + b"{"))
    with pytest.raises(OpbenchError, match="unpacks to more than the 1 MiB that a document may have"):
        documents.read(tmp_path / "run.json.gz", Run)


# --- The selfcheck of a run --------------------------------------------------------------------------------------


def test_the_selfcheck_of_another_machine_is_refused(tmp_path):
    documents.save(make_selfcheck(), tmp_path / "selfcheck.json")
    here, elsewhere = make_environment(threads=2), make_environment(cpu="Another CPU")
    assert selfcheck_of(tmp_path / "selfcheck.json", here) == make_selfcheck()
    with pytest.raises(OpbenchError, match="another machine"):
        selfcheck_of(tmp_path / "selfcheck.json", elsewhere)


def test_a_selfcheck_with_another_share_of_the_machine_is_refused_and_not_found(tmp_path):
    taken = msgspec.structs.replace(make_selfcheck(), environment=make_environment(share=CoreShare(2)))
    documents.save(taken, tmp_path / "selfcheck.json")
    here, pinned = make_environment(share=CoreShare(2)), make_environment(share=CoreShare(1))
    assert selfcheck_near([tmp_path], here) == selfcheck_near([tmp_path], make_environment()) == taken
    assert selfcheck_near([tmp_path], pinned) is None
    with pytest.raises(OpbenchError, match=r"another share of its machine than the run \(allowed cores 2 -> 1\)"):
        selfcheck_of(tmp_path / "selfcheck.json", pinned)


def test_no_selfcheck_is_looked_for(tmp_path, monkeypatch):
    documents.save(make_selfcheck(), tmp_path / "selfcheck.json")
    monkeypatch.chdir(tmp_path)
    assert selfcheck_of(None, make_environment()) is None


def test_a_folder_stands_for_its_selfcheck(tmp_path):
    (tmp_path / "selfcheck.json.gz").write_bytes(gzip.compress(documents.render(make_selfcheck())))
    assert selfcheck_of(tmp_path, make_environment()) == make_selfcheck()


@pytest.mark.parametrize(
    "value",
    [
        [], [1, 2.5, True, None], [[1e308, 1e308]], {"a": [float("nan")]}, [float("inf"), 1], ["µ", "a"],
        {"µ": "\ud800"}, [1, "x"], [[], [{}]], 2**63, [2**1030], "\udc80", make_run(), make_hostile_run(),
    ],
)  # fmt: skip
def test_what_json_holds_as_it_is_is_written_as_everything_else(value):
    """Most nouns are written as they are; the others by way of builtins, which takes ten times as long."""
    from opbench.documents.text import _storable

    def by_way_of_builtins():
        return msgspec.json.encode(_storable(msgspec.to_builtins(value)))

    try:
        expected = by_way_of_builtins()
    except OverflowError:
        with pytest.raises(OverflowError):
            documents.encode(value)
    else:
        assert documents.encode(value) == expected
