"""Verdicts as other tools read them: the same things are bad in each format, and nothing else is."""

import json
import re
from xml.etree import ElementTree as ET

import msgspec
import pytest
from exported import PANEL, small_run
from factory import make_case, make_failure, make_record, make_run
from judging_examples import BAD, EVERY, GOOD, broken_module, convicted, fragile, refusing, regressed, unchanged
from typer.testing import CliRunner

from opbench import documents
from opbench.cli import app
from opbench.exit_codes import Exit
from opbench.report.exports import FORMATS, VERDICTS, export, readable
from opbench.report.exports.verdicts.annotations import github_annotations
from opbench.report.exports.verdicts.badge import badge
from opbench.report.exports.verdicts.judging import JUDGES, judged
from opbench.report.exports.verdicts.junit import junit
from opbench.report.exports.verdicts.sarif import sarif
from opbench.schema import Settings

NAMES = [name for name, format_ in FORMATS.items() if format_.verdicts]
each = pytest.mark.parametrize


def suites(document):
    return list(ET.fromstring(junit(judged(document))))


def endings(document):
    """{name: how it ended} by the JUnit document."""
    return {
        case.get("name"): next((child.tag for child in case), "passed")
        for suite in suites(document)
        for case in suite.findall("testcase")
    }


def results(document, **asked):
    (run,) = json.loads(sarif(judged(document, **asked)))["runs"]
    return run["results"]


def lines(document, **asked):
    return github_annotations(judged(document, **asked)).decode().splitlines()


def test_every_kind_that_judges_can_be_exported():
    assert set(JUDGES) == set(VERDICTS)
    assert {kind for name in NAMES for kind in readable(name)} == set(VERDICTS)
    assert readable("csv") == (type(small_run()),)


@each("name", GOOD)
def test_what_is_right_is_bad_nowhere(name):
    document = GOOD[name]()
    assert "failure" not in endings(document).values()
    assert "error" not in endings(document).values()
    assert not results(document)
    assert not [line for line in lines(document) if not line.startswith("::notice ")]
    assert json.loads(badge(judged(document)))["color"] == "brightgreen"


@each("name", BAD)
def test_what_is_bad_is_so_everywhere(name):
    document = BAD[name]()
    assert {"failure", "error"} & set(endings(document).values())
    assert "error" in {one["level"] for one in results(document)}
    assert any(line.startswith("::error ") for line in lines(document))
    assert json.loads(badge(judged(document)))["color"] == "red"


def test_a_run_says_what_became_of_each_case():
    cases = ["nearest[torch]", "carafe[cpu]", "carafe[mine]", "carafe[triton]"]
    records = [
        make_record(make_case(cases[0])),
        make_failure(make_case(cases[1]), "crashed", "SIGSEGV"),
        make_failure(make_case(cases[2]), "incorrect", "output differs"),
        make_failure(make_case(cases[3]), "disturbed", "waited in 9 of 10 rounds"),
    ]
    found = {name.rpartition("/")[2]: ended for name, ended in endings(make_run(records, skipped=())).items()}
    assert list(found.values()) == ["passed", "error", "failure", "skipped"]


def test_a_suite_counts_its_cases_and_the_time_of_a_call_is_that_of_its_case():
    (suite,) = suites(small_run())
    assert {key: suite.get(key) for key in ("name", "tests", "failures", "errors", "skipped")} == {
        "name": PANEL, "tests": "4", "failures": "1", "errors": "0", "skipped": "1",
    }  # fmt: skip
    assert float(suite[2].get("time")) == pytest.approx(3e-3, rel=0.1)
    assert suite.get("timestamp") == "2025-01-02T03:04:05"


def test_a_comparison_has_a_finding_for_each_quantity_that_got_worse():
    found = results(regressed())
    assert {one["ruleId"] for one in found} == {"regressed/time", "regressed/peak"}
    assert any("1,048,576 -> 1,048,580" in one["message"]["text"] for one in found)
    assert list(endings(regressed()).values()) == ["passed", "failure"]
    assert judged(regressed()).answer == "1 regressed"
    assert judged(unchanged()).answer == "no regression"


def test_a_comparison_without_a_time_is_no_answer():
    found = msgspec.structs.replace(unchanged(), paired=True)
    rows = tuple(msgspec.structs.replace(row, times=(), disturbed="waited") for row in found.rows)
    found = msgspec.structs.replace(found, rows=rows)
    assert judged(found).exit == Exit.NO_ANSWER
    assert json.loads(badge(judged(found)))["color"] == "lightgrey"
    assert set(endings(found).values()) == {"skipped"}


def test_what_is_fragile_warns_and_fails_only_a_strict_check():
    (one,) = results(fragile())
    assert one["level"] == "warning"
    assert set(endings(fragile()).values()) == {"passed"}
    assert json.loads(badge(judged(fragile())))["color"] == "yellow"
    (one,) = results(fragile(strict=True))
    assert one["level"] == "error"
    assert "failure" in endings(fragile(strict=True)).values()


def test_a_target_that_refuses_every_call_is_not_judged():
    assert judged(refusing()).exit == Exit.NO_ANSWER
    assert endings(refusing()) == {"any call": "error"}


def test_a_finding_of_a_check_stands_at_the_file_that_was_checked():
    def places(document, **asked):
        physical = [one["locations"][0]["physicalLocation"] for one in results(document, **asked)]
        return [(place["artifactLocation"]["uri"], place["region"]["startLine"]) for place in physical]

    assert places(convicted()) == [("ops/my_carafe.py", 1)] * 2
    assert places(broken_module()) == [("ops/block.py", 12)]
    assert places(convicted(), at="other file.py") == [("other%20file.py", 1)] * 2
    extended = Settings(suite="smoke", precision=0.01, budget_seconds=6.0, extensions=("my_ops.py",))
    assert places(small_run(settings=extended)) == [("my_ops.py", 1)]
    assert places(regressed())[0] == ("opbench-allow.toml", 1), "no file is known: that of the waivers"
    assert "file=" not in lines(regressed())[0]
    assert lines(broken_module())[0].startswith("::error file=ops/block.py,line=12,title=promise/mixes-no-images::")


def test_a_package_s_module_is_its_file():
    request = msgspec.structs.replace(convicted().request, target="my.ops:core")
    (finding, *_) = judged(msgspec.structs.replace(convicted(), request=request)).findings
    assert finding[1].place.file == "my/ops.py"


def test_the_same_finding_of_another_run_has_the_same_fingerprint():
    def prints(document):
        return [one["partialFingerprints"] for one in results(document)]

    later = small_run(started="2026-01-01T00:00:00+00:00")
    assert prints(small_run()) == prints(later)
    assert len({str(one) for one in prints(regressed())}) == 2


def test_no_more_findings_are_shown_than_github_shows_and_the_rest_is_counted():
    cases = [make_case(f"carafe[variant-{at}]") for at in range(25)]
    said = lines(make_run([make_failure(case, "raised") for case in cases]))
    assert sum(line.startswith("::error ") for line in said) == 10
    assert "::notice title=opbench::15 more findings of the level error are not shown" in said


@each("name", EVERY)
def test_no_text_of_a_document_is_a_command_or_markup(name):
    found = judged(EVERY[name]())
    for line in github_annotations(found).decode().splitlines():
        assert re.match(r"::(error|warning|notice) [^:]*::", line), line
    root = ET.fromstring(junit(found))
    allowed = {"testsuites", "testsuite", "properties", "testcase", "failure", "error", "skipped", "system-out"}
    assert {element.tag for element in root.iter()} <= allowed | {"system-err"}
    for written in (github_annotations(found), junit(found), sarif(found), badge(found)):
        assert not {"\x1b", "\x07", "\u202e", "\r", "\x00"} & set(written.decode())


@each("name", NAMES)
@each("kind", ["run", "comparison", "check", "module"])
def test_the_command_reads_what_the_commands_print(name, kind, tmp_path):
    document = tmp_path / "document.json"
    document.write_bytes(documents.render(BAD[kind]()))
    done = CliRunner().invoke(app, ["export", str(document), "--format", name, "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    ((path,), _) = export([BAD[kind]()], name, tmp_path / "direct")
    assert (tmp_path / "out").read_bytes() == path.read_bytes()


def test_a_relation_can_be_selected(tmp_path):
    (tmp_path / "check.json").write_bytes(documents.render(convicted()))
    words = ["export", str(tmp_path / "check.json"), "--format", "junit", "-o", "-", "--select", "groups"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    (suite,) = ET.fromstring(done.stdout)
    assert [case.get("name") for case in suite.findall("testcase")] == ["groups in float32"]


def test_figures_are_made_of_runs_alone(tmp_path):
    (tmp_path / "check.json").write_bytes(documents.render(convicted()))
    done = CliRunner().invoke(app, ["export", str(tmp_path / "check.json"), "--format", "csv", "-o", "-"])
    assert done.exit_code == 2
    assert "this is a conformance document" in done.output
