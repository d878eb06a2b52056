"""What `--help`, `--version` and a shell's completion say."""

import os
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import opbench
from opbench.main import application, commands
from opbench.options import Argument, fields

EVERY = pytest.mark.parametrize("command", commands(), ids=lambda command: command.name)


def helped(*words):
    done = CliRunner().invoke(application(), [*words, "--help"], terminal_width=100)
    assert done.exit_code == 0
    return done.stdout


@EVERY
def test_no_placeholder_is_the_name_of_a_type(command):
    shown = helped(command.name)
    assert not re.search(r"\b(TEXT|INTEGER|FLOAT|PATH RANGE|RANGE)\b", shown)
    for field in fields(command.request):
        if not isinstance(field.declared, Argument) and field.metavar:
            assert f"{field.flag} {field.metavar}" in shown, field.flag


@EVERY
def test_options_stand_under_their_heading_in_the_order_of_declaration(command):
    heading, found = "", {}
    for line in helped(command.name).splitlines():
        heading = line[:-1] if re.fullmatch(r"[A-Z].*:", line) else heading
        if option := re.match(r"  (?:-\w, )?(--[\w-]+)", line):
            found.setdefault(heading, []).append(option[1])
    expected = {}
    for field in fields(command.request):
        if field.flag:
            expected.setdefault(field.declared.group, []).append(field.flag)
    expected.setdefault("Output", []).append("--help")
    assert found == expected


def test_the_help_of_a_run_has_the_headings_that_a_reader_looks_for():
    headings = re.findall(r"^(\S.*):$", helped("run"), re.MULTILINE)
    assert headings == ["Options", "Which cases", "Measuring", "Extending opbench", "Output"]


def test_the_version_is_one_line():
    done = CliRunner().invoke(application(), ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"opbench {opbench.__version__}\n")


@pytest.mark.parametrize(("typed", "offered"), [("opbench do", "doctor"), ("opbench list --su", "--suite")])
def test_a_shell_is_offered_commands_and_options(typed, offered):
    script = "import sys; sys.argv[0] = 'opbench'; from opbench.main import main; main()"
    words = {"_OPBENCH_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | words, capture_output=True, text=True, timeout=60, check=False
    )
    assert offered in done.stdout.split()
