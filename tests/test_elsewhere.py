"""On Windows and macOS every command works, or says in one sentence that it needs Linux."""

import json
import os
import subprocess
import sys
from pathlib import Path

import elsewhere
import pytest

from opbench.main import commands

ROOT = Path(__file__).parents[1]
RUN = ROOT / "results" / "xeon-2core" / "default" / "run.json"
SELFCHECK = ROOT / "results" / "xeon-2core" / "selfcheck.json.gz"
TARGET = "opbench.operators.carafe:carafe_cpu"
MODEL = """
import torch


def build():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.Upsample(scale_factor=2))
"""
ONLY = ("--task", "carafe_core", "--implementation", "shift-add", "--mode", "inference", "--device", "cpu")
SMALL = ("--suite", "smoke", *ONLY, "--budget", "0.05", "--share-cpu")

# Each command once. Those that start processes take seconds and are for the night.
QUICK = {
    "list": ("list", "tasks"),
    "env": ("env",),
    "readme": ("readme", "page.md"),
    "export": ("export", RUN, "--format", "csv", "-o", "runs.csv"),
    "compare": ("compare", RUN, RUN),
    "keep": ("keep", RUN, "--in", "store"),
    "history": ("history", "carafe_core/yolov8n-p5-p4/float32/cpu/inference/carafe[cpu]", "store"),
    "submit": ("submit", RUN, "-o", "a.bundle.zip"),
    "run": ("run", *SMALL, "-o", "out"),
}
SLOW = {
    "show": ("show", "carafe", "-o", "carafe.svg"),
    "dashboard": ("dashboard", RUN.parent, "-o", "site"),
    "report": ("report", RUN, "-o", "report"),
    "doctor": ("doctor",),
    "claims": ("claims",),
    "floor": ("floor", "--suite", "smoke"),
    "check": ("check", TARGET, "--operator", "carafe", "--only", "definition", "--quick"),
    "model": ("model", "mine.py:build", "--swap", "upsample=carafe", "--size", "16x16", "--budget", "0.05"),
    "decide": ("decide", "mine.py:build", "--size", "16x16", "--budget", "1"),
    "deploy": ("deploy", "mine.py:build", "--size", "16x16", "--prove-only", "--runtime", "onnxruntime", "-o", "files"),
    "study": ("study", "upsample", "--quick", "--images", "generated", "-o", "study"),
    "selfcheck": (
        "selfcheck",
        "-o",
        "selfcheck",
        "--identical",
        "1",
        "--planted",
        "1",
        "--processes",
        "1",
        "--layouts",
        "1",
        "--budget",
        "0.05",
    ),
}
# These read what another machine has written, and have nothing of the system's in them but files.
FROM_ELSEWHERE = {"verify-run", "merge"}
# What a system can't do: these say so, in one sentence.
NEEDS_LINUX = {"Windows": {"run", "decide"}, "macOS": set()}

# One process for all, as most of the time goes into importing torch.
EACH = """
import json, sys
from typer.testing import CliRunner
from opbench.main import app
for name, words in json.loads(sys.argv[1]).items():
    done = CliRunner().invoke(app, words)
    print(json.dumps([name, done.exit_code, done.stderr]))
"""


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "folder"
    made.mkdir()
    (made / "page.md").write_text("# A page\n")
    (made / "mine.py").write_text(MODEL)
    return made


def run(folder, system, *arguments):
    path = elsewhere.site(folder.parent / "site", system)
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip


def test_what_a_system_lacks_is_hidden_from_opbench_alone(folder):
    code = "import os, fcntl, opbench.documents.opening as o; assert hasattr(os, 'fork'); print(o.CLOEXEC, o.NONBLOCK)"
    assert run(folder, "Windows", "-c", code).stdout == "0 0\n"
    assert run(folder, "macOS", "-c", code).stdout != "0 0\n"
    lacking = "import opbench.process.memory as m; m.Path('/proc/self/stat').read_text()"
    read = f"exec(compile({lacking!r}, 'x', 'exec'), {{'__name__': 'opbench.x'}})"
    assert "FileNotFoundError" in run(folder, "macOS", "-c", read).stderr


def test_every_command_is_tried():
    assert {command.name for command in commands()} <= set(QUICK) | set(SLOW) | FROM_ELSEWHERE


def words(command):
    return [str(word) for word in command]


@pytest.mark.parametrize("system", [pytest.param("macOS", marks=pytest.mark.nightly), "Windows"])
def test_a_command_answers_or_says_that_it_needs_linux(folder, system):
    chosen = {name: words(command) for name, command in QUICK.items() if name != "run" or NEEDS_LINUX[system]}
    done = run(folder, system, "-c", EACH, json.dumps(chosen))
    assert done.returncode == 0, done.stdout + done.stderr
    found = {name: (code, said) for name, code, said in map(json.loads, done.stdout.splitlines())}
    assert found.keys() == chosen.keys()
    for name, (code, said) in found.items():
        judged(name, system, code, said)


def judged(name, system, code, said):
    """As a person reads it: an answer, or the one sentence."""
    if name in NEEDS_LINUX[system]:
        assert code == 2, said
        assert said.splitlines()[-1].startswith("opbench: measuring needs Linux")  # after what it was about to do
        assert "Traceback" not in said
    else:
        assert code == 0, f"{name}: {said}"


@pytest.mark.nightly
@pytest.mark.parametrize("name", [*SLOW, "run"])
@pytest.mark.parametrize("system", elsewhere.GONE)
def test_a_command_that_starts_processes_answers_or_says_that_it_needs_linux(folder, system, name):
    done = run(folder, system, "-m", "opbench", *words({**QUICK, **SLOW}[name]))
    judged(name, system, done.returncode, done.stderr)
