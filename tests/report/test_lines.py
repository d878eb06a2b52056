"""Whatever text a command prints, a terminal obeys none of it: names, messages of errors, documents of anybody."""

import ast
import contextlib
import io
import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import opbench
from opbench import main
from opbench.commands import Command
from opbench.exit_codes import Exit
from opbench.report.lines import LONGEST, say, say_json
from opbench.report.screen import screen
from opbench.schema import OpbenchError

PACKAGE = Path(opbench.__file__).parent
EVIL = "\x1b]0;pwned\x07\x1b[31mred\x9b2J\u202e\ud800\nreport: /etc/passwd\r"
# Where text is printed by `print` or written to the stream itself, and why.
#   lines, screen: what all others print through. check: a page of lines, each made inert by report/conformance.
PRINTING = frozenset({"report/lines", "report/screen"})


def obeyed(text):
    """The characters that a terminal would obey; a line break ends a line of ours."""
    return [one for one in text if unicodedata.category(one) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and one != "\n"]


@example(EVIL)
@given(st.text(st.characters(exclude_categories=[])))
def test_a_line_is_one_line_that_nothing_obeys(text):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        say(text)
    assert out.getvalue().count("\n") == 1
    assert not obeyed(out.getvalue())


@pytest.mark.parametrize("error", [False, True])
def test_a_screen_s_line_too(capfd, error):
    screen(error=error).line(f"first {EVIL}")
    out, err = capfd.readouterr()
    assert not obeyed(out + err)
    assert "\\x1b[31mred" in (err if error else out)


def test_a_line_is_bounded(capsys):
    say("x" * 1_000_000)
    assert len(capsys.readouterr().out) < LONGEST + 60


@example({"a": EVIL.replace("\ud800", "")})
@given(st.dictionaries(st.text(), st.text(), max_size=2))
def test_json_says_the_same_and_holds_nothing_that_is_obeyed(value):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        say_json(json.dumps(value, ensure_ascii=False, indent=1).encode())
    assert json.loads(out.getvalue()) == value
    assert not obeyed(out.getvalue())


@pytest.mark.parametrize(
    "error", [OpbenchError(EVIL), OpbenchError("x" * 10**6), ValueError(EVIL), ValueError("x" * 10**6)]
)
def test_an_error_of_any_kind_is_inert_and_bounded(error, capfd):
    def fail(request):
        raise error

    code = main.carry_out(Command("toy", object, fail), object())
    said = capfd.readouterr().err
    assert code == (Exit.NO_ANSWER if isinstance(error, OpbenchError) else Exit.FAULT)
    assert not obeyed(said)
    assert len(said) < 5 * LONGEST


def printing(source):
    """The lines of a source text that print, or write to a standard stream."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    names = {"print", "sys.stdout.write", "sys.stderr.write", "sys.stdout.buffer.write", "traceback.print_exc"}
    return [call.lineno for call in calls if ast.unparse(call.func) in names]


def test_commands_and_reports_print_through_one_place():
    files = [*(PACKAGE / "commands").glob("*.py"), *(PACKAGE / "report").rglob("*.py"), PACKAGE / "main.py"]
    found = {str(path.relative_to(PACKAGE).with_suffix("")): printing(path.read_text()) for path in files}
    assert {name for name, lines in found.items() if lines} <= PRINTING, found


def test_printing_is_found():
    assert printing("import sys\ndef f():\n    print(1)\n    sys.stderr.write('')") == [3, 4]
