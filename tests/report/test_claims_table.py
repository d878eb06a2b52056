"""Claims in Markdown, in a README, in the terminal and as JSON: nothing of a document comes alive in them."""

import io
import json

import pytest
from factory import make_run
from hostile import EVIL
from markdown_it import MarkdownIt
from rich.console import Console
from typer.testing import CliRunner

from opbench import documents
from opbench.analyse.claims.nouns import Answer
from opbench.cli import app
from opbench.report import readme
from opbench.report.claims import NOTE, summary, table, tally

EVIL_ANSWER = Answer(EVIL, EVIL, "refuted", EVIL, EVIL, EVIL, (EVIL,))
PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def test_a_row_names_claim_baseline_verdict_evidence_and_source():
    answer = Answer("fewer parameters", "a paper", "refuted", "74,148 against 0", "nearest")
    assert table([answer]).rows == (("fewer parameters", "nearest", "refuted", "74,148 against 0", "a paper"),)
    assert tally([answer, answer]) == "2 refuted"


def test_hostile_text_stays_text_in_markdown():
    tokens = [child for token in PARSER.parse(table([EVIL_ANSWER]).markdown()) for child in token.children or ()]
    assert {token.type for token in tokens} <= {"text", "code_inline"}


def test_hostile_text_stays_text_in_a_terminal():
    console = Console(file=io.StringIO(), width=400, force_terminal=True, color_system=None)
    console.print(summary([EVIL_ANSWER]))
    assert "\x1b[31m" not in console.file.getvalue()
    assert "[red]rich[/red]" in console.file.getvalue()


def test_a_readme_holds_the_claims_and_what_a_run_says_of_them():
    marked = "<!-- opbench:run.json?claims -->\n<!-- /opbench:run.json?claims -->\n"
    text = readme.update(marked, lambda name: make_run())
    assert "| claim | against | verdict | evidence | source |" in text
    assert "| lightweight (parameters) | `deconv` | confirmed | parameters: 74,148 against 589,824" in text
    assert "Confirmed and refuted mean: of this baseline" in NOTE
    assert "Confirmed and refuted mean: of this baseline" in text
    assert "Example CPU @ 2.10GHz" in text


@pytest.fixture
def path(tmp_path):
    documents.save(make_run(), tmp_path / "run.json")
    return str(tmp_path / "run.json")


def test_the_command_prints_every_answer_as_json(path):
    done = CliRunner().invoke(app, ["claims", path, "--json"])
    assert done.exit_code == 0
    document = json.loads(done.stdout)
    assert (document["kind"], document["schema_version"]) == ("claims", 1)
    answers = document["answers"]
    assert {answer["verdict"] for answer in answers} == {"confirmed", "refuted", "undecided"}
    assert all(answer["reading"] and answer["source"] for answer in answers)


def test_the_command_prints_a_table_and_how_many_of_each(path):
    done = CliRunner().invoke(app, ["claims", path])
    assert done.exit_code == 0
    # An operator that another test has declared is named below it.
    assert any("confirmed, " in line for line in done.stdout.splitlines()[-3:])
