"""How long the command line takes to answer; torch must not be loaded for it."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("arguments", [["-c", "import opbench"], ["-m", "opbench", "--help"]], ids=["import", "help"])
def test_startup(benchmark, arguments):
    command = [sys.executable, *arguments]
    done = benchmark.pedantic(subprocess.run, args=(command,), kwargs={"capture_output": True}, rounds=5)
    assert done.returncode == 0
