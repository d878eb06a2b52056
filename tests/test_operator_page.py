"""The page on adding an operator: what becomes of a declaration that contradicts itself, or can't be used.

That it works as written, the test of all pages says.
"""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from in_process import opbench

ROOT = Path(__file__).parent.parent


PAGE = ROOT / "docs" / "how-to" / "add-an-operator.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A newcomer's: the file that the page prints, under the name that it prints."""
    folder = tmp_path_factory.mktemp("newcomer")
    printed = re.search(r"^```python file=grown.py\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    (folder / "grown.py").write_text(printed[1])
    return folder


def test_it_is_verified_and_its_counts_agree(folder):
    words = [
        "--suite",
        "smoke",
        "--operator",
        "grown",
        "--with",
        "grown.py",
        "--task",
        "upsample2x",
        "--budget",
        "0",
        "-o",
        "out",
    ]
    done = opbench("run", *words, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    report = (folder / "out" / "report.md").read_text()
    assert "`grown[torch]`" in report
    assert "no bound could be derived" not in report
    assert "NO:" not in report


# Not imported to find out: ultralytics replaces functions of Pillow, which other tests then meet.
@pytest.mark.skipif(importlib.util.find_spec("ultralytics") is None, reason="ultralytics is not installed")
def test_it_takes_a_place_in_a_model(folder):
    words = [
        "model",
        "yolov8n.yaml",
        "--swap",
        "upsample=grown",
        "--with",
        "grown.py",
        "--size",
        "64x64",
        "--budget",
        "0.1",
    ]
    command = [sys.executable, "-m", "opbench", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "grown for 2 Upsample" in " ".join(done.stdout.split())


CONTRADICTIONS = {
    # name: (what is written, what stands there instead, what its row says)
    "counted": ("params=C * C", "params=C", "its cost says 32 parameters, its module has 1,024"),
    "darker": ("F.interpolate(self.mix(x)", "F.interpolate(0.9 * self.mix(x)", "darker[torch] incorrect"),
    "rounded": (
        "mixed.repeat_interleave(2, 2)",
        "mixed.round().repeat_interleave(2, 2)",
        "finds a sample's cell by torch.round",
    ),
}


@pytest.fixture(scope="module")
def contradicting(folder, tmp_path_factory):
    """The report of one run of them all, each under its own name beside the page's."""
    text, at = (folder / "grown.py").read_text(), tmp_path_factory.mktemp("contradicting")
    words = ["--with", folder / "grown.py", "--operator", "grown"]
    for name, (old, new, _) in CONTRADICTIONS.items():
        assert text.count(old) == 1
        (at / f"{name}.py").write_text(text.replace(old, new).replace('name="grown"', f'name="{name}"'))
        words += ["--with", at / f"{name}.py", "--operator", name]
    done = opbench("run", "--suite", "smoke", "--task", "upsample2x", *words, "--budget", "0", "-o", at / "out")
    assert done.returncode == 1, done.stdout + done.stderr
    return " ".join((at / "out" / "report.md").read_text().replace("`", "").replace("|", "").split())


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_declaration_that_contradicts_itself_is_told_so(contradicting, name):
    assert CONTRADICTIONS[name][2] in contradicting


def test_it_costs_its_own_rows_alone(contradicting):
    assert "nearest[torch] baseline" in contradicting
    assert "grown[torch] incorrect" not in contradicting


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            'task="upsample2x"',
            'task="upsample3x"',
            "operator 'grown': unknown task 'upsample3x'; did you mean 'upsample2x'?",
        ),
        ("        cost=cost,\n", "", "missing 1 required keyword-only argument: 'cost'"),
        ("import torch.nn.functional as F\n", "import torchh\n", "No module named 'torchh'"),
    ],
)
def test_a_file_that_can_not_be_used_is_one_sentence(folder, tmp_path, old, new, said):
    text = (folder / "grown.py").read_text()
    (tmp_path / "grown.py").write_text(text.replace(old, new, 1))
    words = ("--task", "upsample2x", "--operator", "grown", "--with", "grown.py")
    done = opbench("run", "--suite", "smoke", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
