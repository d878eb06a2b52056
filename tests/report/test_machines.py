"""Runs side by side: by each machine's own limits, never by bare seconds; inert, and honest about what is missing."""

import re

import msgspec
import pytest
from factory import make_case, make_counts, make_environment, make_failure, make_latency, make_record, make_run
from hostile import EVIL, make_hostile_run
from markdown_it import MarkdownIt

from opbench import documents
from opbench.commands.report import ReportRequest, report
from opbench.report import machines
from opbench.schema import Yardstick

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
COUNTS = make_counts(macs=1, min_bytes=10**9)


def taken(seconds, copy_rate, *, machine="bench-01", ratio=2.0, **changes):
    """A baseline of `seconds` that must move 1 GB on a machine that copies `copy_rate` bytes a second."""
    exact = {"noise": 0.0, "drift": 0.0}
    records = [
        make_record(make_case(), counts=COUNTS, latencies=(make_latency(seconds, **exact),)),
        make_record(make_case("carafe[cpu]"), counts=COUNTS, latencies=(make_latency(seconds, ratio, **exact),)),
    ]
    fields = {
        "environment": make_environment(machine=machine),
        "yardsticks": (
            Yardstick("copy", "cpu", "float32", "bytes/second", (copy_rate,)),
            Yardstick("matmul", "cpu", "float32", "macs/second", (1e12,)),
        ),
    }
    return make_run(records, **{**fields, **changes})


def row(text, name):
    (line,) = [line for line in text.splitlines() if line.startswith(f"| `{name}` |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_latency_is_a_multiple_of_what_that_machine_needs_at_least():
    # The second machine takes half the seconds but copies four times as fast: it is further from its own limit.
    text = machines.markdown([taken(2.0, 1e9), taken(1.0, 4e9, machine="bench-02")])
    assert row(text, "nearest[torch]") == [
        "`nearest[torch]`", "2.00x [2.00, 2.00] (2.00 s)", "4.00x [4.00, 4.00] (1.00 s)", "baseline", "baseline",
    ]  # fmt: skip
    assert row(text, "carafe[cpu]")[1:3] == ["4.00x [4.00, 4.00] (4.00 s)", "8.00x [8.00, 8.00] (2.00 s)"]


def test_seconds_never_stand_alone():
    text = machines.markdown([taken(2.0, 1e9), taken(1.0, 4e9)])
    tables = text[text.index("## Every panel") :]
    for found in re.finditer(r"[\d.]+ (?:s|ms|µs|ns)\b", tables):
        assert re.search(r"x \[[^\]]*\] \($", tables[: found.start()]), found[0]


def test_what_differs_between_the_machines_is_said_and_what_does_not_is_left_out():
    other = make_environment(machine="bench-02", cores=64, versions={"torch": "2.7.0", "numpy": "2.1.0"})
    text = machines.markdown([taken(2.0, 1e9), taken(1.0, 4e9, environment=other)])
    part = text[text.index("## What differs") : text.index("## Yardsticks")]
    assert "| machine | bench-01 | bench-02 |" in part
    assert "| torch | 2.6.0 | 2.7.0 |" in part
    assert "numpy" not in part
    assert "started" not in part


def test_equal_machines_are_said_to_be_equal():
    assert "Nothing that a run records of its machine." in machines.markdown([taken(2.0, 1e9), taken(1.0, 1e9)])


def test_a_machine_without_yardsticks_has_no_multiple():
    text = machines.markdown([taken(2.0, 1e9), taken(1.0, 1e9, yardsticks=())])
    assert row(text, "carafe[cpu]")[1:3] == ["4.00x [4.00, 4.00] (4.00 s)", "no yardstick"]


def test_a_failure_and_an_absent_contender_keep_their_names():
    run = taken(2.0, 1e9)
    failed = msgspec.structs.replace(run, records=(run.records[0], make_failure(run.records[1].case, "crashed")))
    alone = make_run([run.records[0]])
    text = machines.markdown([run, failed, alone])
    assert row(text, "carafe[cpu]")[2:4] == ["crashed", "not planned"]


def test_panels_of_one_run_alone_are_counted():
    extra = make_record(make_case(workload="other"))
    run = taken(2.0, 1e9)
    more = make_run([*run.records, extra], yardsticks=run.yardsticks)
    assert "Only in run 2, so not compared: 1 panel." in machines.markdown([run, more])


def test_panels_of_one_name_but_other_sizes_are_not_compared():
    small = make_run([make_record(make_case(dims={"N": 1, "C": 8, "H": 4, "W": 4}))])
    text = machines.markdown([taken(2.0, 1e9), small])
    assert "No panel is in more than one of these runs." in text
    assert "Only in run 1, so not compared: 1 panel." in text


def test_hostile_runs_stay_text():
    text = machines.markdown([make_hostile_run(), make_hostile_run()])
    kinds = {child.type for token in PARSER.parse(text) for child in token.children or ()}
    assert kinds <= {"text", "code_inline", "text_special"}
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "<script" not in machines.page(text, {}).decode()
    assert EVIL not in text


@pytest.mark.parametrize("count", [1, 2])
def test_several_documents_are_written_with_a_page_that_compares_them(tmp_path, capsys, count):
    documents.save(make_run([]), tmp_path / "run.json")
    report(ReportRequest(runs=(tmp_path / "run.json",) * count, output=tmp_path / "out"))
    written = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*"))
    if count == 1:
        assert written == ["report.html", "report.md"]
    else:
        assert written[-2:] == ["machines.html", "machines.md"]
        assert "1-smoke/report.html" in written
    assert ("side by side: " in capsys.readouterr().out) is (count > 1)


def test_the_same_runs_give_the_same_text():
    runs = [taken(2.0, 1e9), taken(1.0, 4e9)]
    assert machines.markdown(runs) == machines.markdown([documents.parse(documents.render(run)) for run in runs])
