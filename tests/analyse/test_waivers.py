"""A team's waivers: read strictly, and no longer than agreed."""

import datetime

import pytest

from opbench.analyse.compare.waivers import Waiver, find, load, unused
from opbench.schema import OpbenchError

TODAY = datetime.date(2026, 12, 1)
KNOWN = ("outcome", "peak")
LINE = 'case = "upsample2x/*/carafe[[]cpu]/*"\nquantity = "peak"\nreason = "keeps the mask"\nuntil = 2027-01-31\n'


def written(tmp_path, text):
    file = tmp_path / "opbench-allow.toml"
    file.write_text(text)
    return file


def test_a_waiver_covers_what_it_names(tmp_path):
    (waiver,) = load(written(tmp_path, "[[allow]]\n" + LINE), KNOWN, TODAY)
    assert waiver.covers("upsample2x/p5/carafe[cpu]/float32/cpu/inference", "peak")
    assert not waiver.covers("upsample2x/p5/carafe[cpu]/float32/cpu/inference", "outcome")
    assert not waiver.covers("upsample2x/p5/carafe[unfold]/float32/cpu/inference", "peak")
    assert waiver.said() == (
        "peak of upsample2x/*/carafe[[]cpu]/* was allowed to change until 2027-01-31: keeps the mask"
    )


def test_a_waiver_holds_on_its_last_day_and_not_after(tmp_path):
    file = written(tmp_path, "[[allow]]\n" + LINE)
    load(file, KNOWN, datetime.date(2027, 1, 31))
    with pytest.raises(OpbenchError, match=r"allow 1: allowed peak of .* until 2027-01-31, which has passed"):
        load(file, KNOWN, datetime.date(2027, 2, 1))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[[allow]]\n" + LINE.replace('reason = "keeps the mask"\n', ""), "reason is missing"),
        ("[[allow]]\n" + LINE.replace("keeps the mask", " "), "reason = ' ', expected text"),
        ("[[allow]]\n" + LINE.replace('"peak"', '"speed"'), "unknown quantity 'speed' .expected time, outcome, peak"),
        ("[[allow]]\n" + LINE.replace("2027-01-31", '"2027-01-31"'), "expected a day such as 2027-01-31"),
        ("[[allow]]\n" + LINE.replace("2027-01-31", "2027-01-31T00:00:00"), "expected a day such as 2027-01-31"),
        ("[[allow]]\n" + LINE + "who = 'me'\n", "unknown key 'who'"),
        ("[[allowed]]\n" + LINE, "expected .*allow.* tables alone, got allowed"),
        ("allow = 3\n", "tables alone"),
        ("[[allow\n", "not TOML"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, text, sentence):
    with pytest.raises(OpbenchError, match=sentence):
        load(written(tmp_path, text), KNOWN, TODAY)


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(OpbenchError, match="No such file"):
        load(tmp_path / "none.toml", KNOWN, TODAY)


def test_the_file_is_found_beside_the_documents(tmp_path):
    (tmp_path / "a").mkdir()
    file = written(tmp_path, "")
    assert find([tmp_path / "a", tmp_path]) == file
    assert find([tmp_path / "a"]) is None


def test_a_waiver_that_nothing_needed_is_said():
    idle = Waiver("*", "peak", "once", TODAY)
    assert list(unused([idle], [])) == ["peak of * is allowed to change until 2026-12-01, and nothing did"]
    assert not list(unused([idle], [idle]))
