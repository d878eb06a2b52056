"""How long the command line takes to answer, and a run to know what it will measure; only a plan loads torch."""

import subprocess
import sys

import pytest

COMMANDS = {
    "import": ["-c", "import opbench"],
    "help": ["-m", "opbench", "--help"],
    "plan": ["-m", "opbench", "run", "--suite", "smoke", "--dry-run"],
}


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS.keys())
def test_startup(benchmark, arguments):
    command = [sys.executable, *arguments]
    done = benchmark.pedantic(subprocess.run, args=(command,), kwargs={"capture_output": True}, rounds=5)
    assert done.returncode == 0
