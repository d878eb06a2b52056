"""report.md: the answer first, every case and failure in it, inert, and the same bytes every time."""

import hashlib
import os
import re
import shlex
import subprocess
import sys

import pytest
from factory import make_case, make_failure, make_record, make_run
from hostile import EVIL, make_hostile_run
from markdown_it import MarkdownIt

from opbench import documents
from opbench.report import markdown
from opbench.report.escape import visible
from opbench.report.table import Table
from opbench.run_request import row_command
from opbench.schema import Panel

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


@pytest.fixture(scope="module")
def files():
    return markdown.report(make_run())


@pytest.fixture(scope="module")
def text(files):
    return files["report.md"].decode()


def small_run(**changes):
    records = [make_record(make_case()), make_record(make_case("carafe[cpu]"), ratio=3.0)]
    return make_run(records, **changes)


def section(text, heading):
    found = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


def tokens(text):
    for token in PARSER.parse(text):
        yield token
        yield from token.children or ()


def test_the_first_screen_compares_every_contender_with_the_baseline(text):
    first = "\n".join(text.splitlines()[:33])
    assert "59 cases: 54 ok, 1 incorrect, 4 out-of-memory; 1 skipped" in first
    assert "## upsample2x, against `nearest[torch]`" in first
    assert re.search(r"\| `carafe\[cpu\]` \| 6\.\d+x \[6\.\d+, 6\.\d+\] \| 6\.\d+x", first)
    assert "Example CPU @ 2.10GHz" in first


def test_every_table_is_a_table_with_as_many_cells_as_headings(text):
    parsed = list(tokens(text))
    tables = [token for token in parsed if token.type == "table_open"]
    assert len(tables) == len(re.findall(r"^\| ---", text, re.MULTILINE)) > 20
    assert not [token for token in parsed if token.type == "inline" and not token.content.strip() and token.level > 2]


def test_every_picture_is_one_of_the_files(files, text):
    pictures = {token.attrs["src"] for token in tokens(text) if token.type == "image"}
    assert pictures == set(files) - {"report.md", "report.html"}
    assert all(files[name].startswith(b"<svg") for name in pictures)


def test_failures_are_listed_by_name_with_their_message(text):
    failures = section(text, "Failures")
    assert "`upsample2x/neck-20/float32/cpu/inference/carafe[mine]` | incorrect" in failures
    assert failures.count("asked for 96 GiB") == 4


def test_skipped_cases_are_listed_with_their_reason(text):
    assert "carafe[triton] runs on cuda only" in section(text, "Skipped")


def test_empty_sections_say_that_there_is_nothing():
    text = markdown.report(small_run(skipped=(), yardsticks=()))["report.md"].decode()
    assert "No case failed." in section(text, "Failures")
    assert "No case was skipped." in section(text, "Skipped")
    assert "no yardsticks" in section(text, "Yardsticks")


def test_an_empty_run_has_a_report():
    files = markdown.report(make_run([], skipped=()))
    assert list(files) == ["report.md", "report.html"]
    assert b"0 cases: none planned; 0 skipped" in files["report.md"]


def test_every_row_has_a_command_that_measures_it_again(text):
    commands = [shlex.split(line) for line in text.splitlines() if line.startswith("opbench run --suite smoke --task")]
    run = make_run()
    asked = [dict(zip(words[2::2], words[3::2], strict=True)) for words in commands]
    cases = [
        {
            "--suite": "smoke", "--task": case.task, "--workload": case.workload, "--operator": case.operator,
            "--implementation": case.implementation, "--dtype": case.dtype, "--device": case.device,
            "--mode": case.mode,
        }
        for case in (record.case for record in run.records)
    ]  # fmt: skip
    assert len(asked) == len(cases)
    assert all(case in asked for case in cases)


@pytest.mark.parametrize(
    ("command", "carried"),
    [
        ("opbench run --suite smoke --seed 0", ""),
        ("opbench run --suite smoke --seed 7 --task x --threads 2", " --threads 2 --seed 7"),
        (
            "opbench run --with 'my ops.py' --with b.py --precision 0.02",
            " --precision 0.02 --with 'my ops.py' --with b.py",
        ),
        ("opbench run --with 'unclosed", ""),
    ],
)
def test_a_row_carries_over_what_changes_its_measurement(command, carried):
    run = small_run(command=command)
    assert row_command(run, run.records[0].case).endswith(f"--mode inference{carried}")


def test_names_are_quoted_for_the_shell():
    case = make_case(workload="x; rm -rf ~")
    assert shlex.split(row_command(small_run(), case))[7] == "x; rm -rf ~"


def test_a_note_is_printed_once(text):
    assert text.count("Memory is above inputs and parameters.") == 1


def test_a_hostile_run_stays_text():
    text = markdown.report(make_hostile_run())["report.md"].decode()
    allowed = {
        "heading_open", "heading_close", "paragraph_open", "paragraph_close", "inline", "text", "text_special",
        "code_inline", "fence", "image", "table_open", "table_close", "thead_open", "thead_close", "tbody_open",
        "tbody_close", "tr_open", "tr_close", "th_open", "th_close", "td_open", "td_close",
    }  # fmt: skip
    parsed = list(tokens(text))
    assert {token.type for token in parsed} <= allowed
    assert all(token.attrs["src"].startswith("charts/") for token in parsed if token.type == "image")
    assert not [token for token in parsed if token.type == "heading_open" and token.tag not in ("h1", "h2", "h3")]
    headings = [token.content for token in PARSER.parse(text) if token.type == "inline"]
    assert "heading" not in headings
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_hostile_text_is_shown_whole():
    text = markdown.report(make_hostile_run())["report.md"].decode()
    fences = [token.content for token in PARSER.parse(text) if token.type == "fence"]
    assert fences[0] == visible(EVIL) + "\n"


def test_a_huge_message_is_cut_and_says_so():
    records = [make_record(make_case()), make_failure(make_case("x[y]"), message="z" * 5000)]
    failures = section(markdown.report(make_run(records))["report.md"].decode(), "Failures")
    assert "(4,700 more characters)" in failures
    assert len(failures) < 2000


def test_the_same_run_gives_the_same_bytes():
    run = small_run()
    assert markdown.report(documents.parse(documents.render(run))) == markdown.report(run)


@pytest.mark.slow
@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_another_process_gives_the_same_bytes(tmp_path, hash_seed):
    run = small_run()
    documents.save(run, tmp_path / "run.json")
    script = (
        "import hashlib, sys; from opbench.documents import read; from opbench.report.markdown import report\n"
        "files = report(read(sys.argv[1]))\n"
        "print(*(hashlib.sha256(name.encode() + data).hexdigest() for name, data in files.items()))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "run.json")],
        env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    expected = [hashlib.sha256(name.encode() + data).hexdigest() for name, data in markdown.report(run).items()]
    assert result.stdout.split() == expected


def test_writing_gives_the_path_of_the_report(tmp_path):
    path = markdown.write(small_run(), tmp_path / "new")
    assert path == tmp_path / "new" / "report.md"
    assert path.read_bytes() == markdown.report(small_run())["report.md"]
    assert list((tmp_path / "new" / "charts").glob("*.svg"))


def test_a_table_marks_names_as_code_and_escapes_the_rest():
    table = Table(("a", "b"), (("x[y]", "1 | 2 <b>"),))
    assert table.markdown() == "| a | b |\n| --- | --- |\n| `x[y]` | 1 \\| 2 \\<b> |"


def test_a_panel_without_a_baseline_says_so():
    record = make_record(make_case("carafe[cpu]"))
    panel = Panel(record.case.panel_id, "", "nearest[torch]", (record.case,))
    text = markdown.report(make_run([record], panels=(panel,)))["report.md"].decode()
    assert "baseline not planned" in text


def test_reading_and_reporting_load_nothing_heavy_before_a_chart():
    script = (
        "import sys, opbench.documents, opbench.analyse.standings\n"
        "import opbench.report.markdown, opbench.report.readme, opbench.report.terminal\n"
        "print(sorted({'altair', 'vl_convert', 'scipy', 'numpy', 'torch', 'pandas'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_report_of_too_many_cases_draws_nothing_and_says_so(monkeypatch):
    monkeypatch.setattr(markdown, "MOST_DRAWN", 1)
    files = markdown.report(make_run([make_record(make_case()), make_record(make_case("bilinear[torch]"))]))
    assert list(files) == [markdown.REPORT]
    assert b"Without charts and report.html: 2 cases are more than a report draws (1)" in files[markdown.REPORT]
