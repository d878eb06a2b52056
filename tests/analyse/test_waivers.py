"""A team's waivers: read strictly, and no longer than agreed."""

import datetime

import pytest
from factory import make_case, make_counts, make_latency, make_record, make_run
from typer.testing import CliRunner

from opbench.analyse.compare.runs import compare
from opbench.analyse.compare.waivers import Waiver, applied, load, unused
from opbench.cli import app
from opbench.documents import save
from opbench.schema import OpbenchError

TODAY = datetime.date(2026, 12, 1)
KNOWN = ("outcome", "peak")
LINE = 'case = "upsample2x/*/carafe[cpu]/*"\nquantity = "peak"\nreason = "keeps the mask"\nuntil = 2027-01-31\n'


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
        "peak of upsample2x/*/carafe[cpu]/* was allowed to change until 2027-01-31: keeps the mask"
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


def test_a_waiver_that_nothing_needed_is_said():
    idle = Waiver("*", "peak", "once", TODAY)
    assert list(unused([idle], [])) == ["peak of * is allowed to change until 2026-12-01, and nothing did"]
    assert not list(unused([idle], [idle]))


def pair(params=5, ratio=1.0):
    """Two runs: the second one's nearest has other parameters and takes `ratio` times as long."""
    baseline, other = make_case(), make_case("bilinear[torch]")

    def run(params, ratio):
        return make_run(
            [
                make_record(baseline),
                make_record(other, counts=make_counts(params=params), latencies=(make_latency(ratio=ratio, seed=1),)),
            ]
        )

    return run(5, 1.0), run(params, ratio)


def test_what_is_waived_is_allowed_and_said_and_nothing_else_is():
    base, head = pair(params=7, ratio=3.0)
    case = head.records[1].case.id
    params = Waiver(case, "params", "grown on purpose", TODAY)
    found = applied(compare(base, head), [params])
    row = next(row for row in found.rows if row.case.id == case)
    assert [(one.name, one.allowed) for one in row.quantities] == [("params", True)]
    assert found.regressed, "its time is not waived"
    assert params.said() in found.notes
    both = applied(compare(base, head), [params, Waiver("*", "time", "slower on purpose", TODAY)])
    assert not both.regressed
    assert [time.decision for row in both.rows for time in row.times] == ["same", "regressed"]


def test_an_improvement_uses_up_no_waiver():
    base, head = pair(ratio=0.3)
    waiver = Waiver("*", "time", "slower on purpose", TODAY)
    found = applied(compare(base, head), [waiver])
    assert found.notes[-1] == "time of * is allowed to change until 2026-12-01, and nothing did"


def test_the_gate_takes_the_file_of_the_folder_it_runs_in_or_the_one_it_is_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, run in zip(("base.json", "head.json"), pair(params=7), strict=True):
        save(run, tmp_path / name)
    compared = ["compare", "base.json", "head.json"]
    assert CliRunner().invoke(app, compared).exit_code == 1
    line = '[[allow]]\ncase = "*"\nquantity = "params"\nreason = "agreed"\nuntil = 2999-01-01\n'
    (tmp_path / "mine.toml").write_text(line)
    assert CliRunner().invoke(app, [*compared, "--waivers", "mine.toml"]).exit_code == 0
    (tmp_path / "opbench-allow.toml").write_text(line)
    done = CliRunner().invoke(app, compared)
    assert done.exit_code == 0
    assert "params of * was allowed to change until 2999-01-01: agreed" in done.stdout
    (tmp_path / "opbench-allow.toml").write_text(line.replace("2999", "2020"))
    done = CliRunner().invoke(app, compared)
    assert done.exit_code == 2
    assert "which has passed" in done.stderr
