"""`--select`: of every format the same cases, with the ratios that they have in the whole run."""

import csv
import io
import json

import pytest
from exported import COMMIT, PANEL, small_run
from factory import make_environment
from typer.testing import CliRunner

from opbench.cli import app
from opbench.documents import save
from opbench.report.exports import FORMATS, contents
from opbench.report.exports.selection import Selection
from opbench.schema import OpbenchError

TEXTS = sorted(name for name, format_ in FORMATS.items() if format_.text)


def run_of_a_commit():
    return small_run(environment=make_environment(commit=COMMIT))


def made(name, folder, *patterns):
    files, _ = contents([run_of_a_commit()], name, folder / "out", Selection(patterns))
    return {path.name: content for path, content in files.items()}


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_what_is_not_selected_is_in_no_format(name, tmp_path):
    for content in made(name, tmp_path, "carafe[cpu]").values():
        assert b"carafe[mine]" not in content
        assert b"carafe[triton]" not in content


@pytest.mark.parametrize("name", sorted(set(TEXTS) - {"grafana", "badge", "sarif", "github-annotations"}))
def test_what_is_selected_is_there(name, tmp_path):
    assert b"carafe[cpu]" in b"".join(made(name, tmp_path, "carafe[cpu]").values())


def test_a_ratio_is_to_the_baseline_though_that_was_not_selected(tmp_path):
    def ratios(*patterns):
        (content,) = made("csv", tmp_path, *patterns).values()
        rows = csv.DictReader(io.StringIO(content.decode(), newline=""))
        return {row["contender"]: row["latency_ratio"] for row in rows}

    assert ratios("carafe[cpu]") == {"carafe[cpu]": ratios()["carafe[cpu]"]}


@pytest.mark.parametrize(
    ("patterns", "contenders"),
    [
        (("carafe",), {"carafe[cpu]", "carafe[mine]"}),
        (("*[cpu]",), {"carafe[cpu]"}),
        ((PANEL,), {"nearest[torch]", "carafe[cpu]", "carafe[mine]"}),
    ],
)
def test_a_part_of_an_id_or_a_pattern_for_all_of_it(patterns, contenders, tmp_path):
    (content,) = made("csv", tmp_path, *patterns).values()
    assert {row["contender"] for row in csv.DictReader(io.StringIO(content.decode(), newline=""))} == contenders


def test_brackets_are_no_set_of_characters(tmp_path):
    with pytest.raises(OpbenchError, match=r"--select \*\[c\]\*: none of the 4 names there has this"):
        made("csv", tmp_path, "*[c]*")


def call(*words):
    return CliRunner().invoke(app, ["export", *map(str, words)])


def test_a_pattern_that_names_nothing_is_told_with_an_example(tmp_path):
    save(small_run(), tmp_path / "run.json")
    done = call(tmp_path / "run.json", "--format", "csv", "-o", tmp_path / "out", "--select", "dcnv4")
    assert done.exit_code == 2
    assert f"--select dcnv4: none of the 4 names there has this, such as {PANEL}/nearest[torch]" in done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_can_be_printed(name, tmp_path):
    save(run_of_a_commit(), tmp_path / "run.json")
    done = call(tmp_path / "run.json", "--format", name, "-o", "-")
    assert done.exit_code == 0
    (expected,) = made(name, tmp_path).values()
    assert done.stdout.encode() == expected


@pytest.mark.parametrize("name", sorted(set(FORMATS) - set(TEXTS)))
def test_what_is_no_text_is_not_printed(name, tmp_path):
    save(run_of_a_commit(), tmp_path / "run.json")
    done = call(tmp_path / "run.json", "--format", name, "-o", "-")
    assert done.exit_code == 2
    assert f"{name} can't be printed: give -o a name" in done.output


def test_a_file_for_findings_belongs_to_formats_that_have_some(tmp_path):
    save(small_run(), tmp_path / "run.json")
    done = call(tmp_path / "run.json", "--format", "csv", "-o", tmp_path / "out", "--at", "a.py")
    assert done.exit_code == 2
    assert "csv places nothing in a file: leave --at out" in done.output


def test_a_badge_of_one_case_says_what_it_costs(tmp_path):
    (content,) = made("badge", tmp_path, "carafe[cpu]").values()
    found = json.loads(content)
    assert found["label"] == "carafe[cpu]"
    assert found["message"].endswith("x the latency of nearest[torch]")
    assert found["color"] == "brightgreen"
