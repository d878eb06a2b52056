"""Exit code 1 is bad news and nothing else: an answer that nobody reads is no answer, an uncaught fault a fault."""

import os
import subprocess
import sys

import pytest

from opbench import main as program
from opbench.exit_codes import Exit

COMMAND = [sys.executable, "-m", "opbench"]


def run(command, **more):
    return subprocess.run(command, text=True, check=False, timeout=120, **more)


@pytest.mark.parametrize("words", [["--help"], ["list", "--help"], ["list", "suites"]], ids=" ".join)
def test_an_answer_that_nobody_reads_is_no_answer(words):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*COMMAND, *words], stdout=writing, stderr=subprocess.PIPE, text=True, check=False, timeout=120
    )
    os.close(writing)
    assert done.returncode == Exit.NO_ANSWER
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_standard_output_that_is_closed_is_said():
    done = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *COMMAND, "list", "suites"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == Exit.NO_ANSWER
    assert "standard output is closed" in done.stderr


def test_other_standard_streams_may_be_closed():
    done = run(["sh", "-c", '"$@" <&- 2>&-', "sh", *COMMAND, "list", "suites"], capture_output=True)
    assert done.returncode == Exit.FINE
    assert "smoke" in done.stdout


def test_a_fault_outside_of_every_command_is_one_of_opbench(monkeypatch, capsys):
    def broken(**_):
        raise RuntimeError("worn out")

    monkeypatch.setattr(program, "app", broken)
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == Exit.FAULT
    assert "this is a fault of opbench" in capsys.readouterr().err


def test_a_file_of_the_current_folder_takes_no_module_s_place(tmp_path):
    (tmp_path / "random.py").write_text("raise ImportError('not the one you wanted')")
    found = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(program.__file__))}
    done = run([*COMMAND, "list", "suites"], capture_output=True, cwd=tmp_path, env=found)
    assert done.returncode == Exit.FINE, done.stderr
