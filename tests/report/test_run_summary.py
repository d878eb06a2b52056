"""What a run says at its end, for a program and for a person."""

import json

from factory import make_case, make_failure, make_record, make_run

from opbench.report.run_summary import run_summary_json, show_plan, show_run
from opbench.report.screen import screen
from opbench.schema import Plan, Skipped

RUN = make_run([make_record(make_case()), make_failure(make_case("carafe[cpu]"), "raised", "no")])


def test_the_summary_has_each_contender_with_its_interval_and_why_there_is_none():
    found = json.loads(run_summary_json(make_run(), "out"))
    assert (found["kind"], found["schema_version"]) == ("run-summary", 1)
    assert (found["run"], found["report"]) == ("out/run.json", "out/report.md")
    rows = [row for panel in found["panels"] for row in panel["contenders"]]
    assert sum(found["outcomes"].values()) == len(rows)
    timed = [timing for row in rows for timing in row["latency"].values() if timing["ratio"]]
    assert all(low <= value <= high for value, low, high in (timing["ratio"] for timing in timed))
    assert timed
    assert all(timing["missing"] for row in rows for timing in row["latency"].values() if not timing["seconds"])
    assert {"params", "peak_bytes"} <= set(rows[0])


def test_a_failure_says_what_it_said():
    rows = json.loads(run_summary_json(RUN, "out"))["panels"][0]["contenders"]
    assert [(row["outcome"], row["message"]) for row in rows if row["contender"] == "carafe[cpu]"] == [("raised", "no")]


def test_a_person_is_shown_the_tables_and_quietly_where_the_report_is(capsys):
    show_run(screen(), RUN, ["a note"], "out", as_json=False, loudness="usual")
    said = capsys.readouterr().out
    assert "raised: no" in said
    assert said.endswith("a note\nreport: out/report.md\n")
    show_run(screen(), RUN, ["a note"], "out", as_json=False, loudness="quiet")
    assert capsys.readouterr().out == "report: out/report.md\n"


def test_a_plan_is_json_too(capsys):
    plan = Plan("mine", RUN.panels, (Skipped("upsample2x/w/x[y]", "no device"),))
    show_plan(screen(), plan, ["at most about 1 minute"], as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "plan"
    assert found["panels"][0]["cases"] == [case.id for case in RUN.panels[0].cases]
    assert found["skipped"] == [{"case": "upsample2x/w/x[y]", "reason": "no device"}]
    assert found["notes"] == ["at most about 1 minute"]
