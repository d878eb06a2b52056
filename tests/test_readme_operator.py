"""README's page on adding an operator, followed as it is written."""

import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def section():
    text = (ROOT / "README.md").read_text()
    return text[text.index("## Adding an operator in three steps") : text.index("## How the numbers are made")]


def block(language):
    found = re.search(rf"^ +```{language}\n(.*?)^ +```$", section(), re.S | re.M)
    return textwrap.dedent(found[1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A newcomer's: the file that the page prints, under the name that it prints."""
    folder = tmp_path_factory.mktemp("newcomer")
    (folder / "grown.py").write_text(block("python"))
    return folder


def run(folder, command):
    words = [sys.executable, "-m", *shlex.split(command)]
    return subprocess.run(words, capture_output=True, text=True, timeout=300, cwd=folder, env=dict(os.environ))


def test_the_check_acquits_it(folder):
    command = next(line for line in block("sh").splitlines() if line.startswith("opbench check"))
    done = run(folder, f"{command} --quick")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\nconformant" in done.stdout


def test_it_competes_and_its_counts_agree(folder):
    command = next(line for line in block("sh").splitlines() if line.startswith("opbench run"))
    done = run(folder, f"{command} --task upsample2x --budget 0 -o out")
    assert done.returncode == 0, done.stdout + done.stderr
    report = (folder / "out" / "report.md").read_text()
    assert "`grown[torch]`" in report
    assert "no bound could be derived" not in report
    assert "NO:" not in report


def test_it_takes_a_place_in_a_model(folder):
    pytest.importorskip("ultralytics")
    command = next(line for line in block("sh").splitlines() if line.startswith("opbench model"))
    done = run(folder, f"{command} --size 64x64 --budget 0.1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "grown for 2 Upsample" in " ".join(done.stdout.split())


def test_the_chinese_page_prints_the_same_file():
    english, chinese = section(), (ROOT / "README.zh-CN.md").read_text()
    code = english[english.index("   # grown.py") : english.index("   ```\n\n   `definition`")]
    assert code in chinese


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("params=C * C", "params=C", "its cost says 32 parameters, its module has 1,024"),
        ("F.interpolate(self.mix(x)", "F.interpolate(0.9 * self.mix(x)", "grown[torch] incorrect"),
        (
            "mixed.repeat_interleave(2, 2)",
            "mixed.round().repeat_interleave(2, 2)",
            "finds a sample's cell by torch.round",
        ),
    ],
)
def test_a_declaration_that_contradicts_itself_costs_its_own_rows(folder, tmp_path, old, new, said):
    text = (folder / "grown.py").read_text()
    assert text.count(old) == 1
    (tmp_path / "grown.py").write_text(text.replace(old, new))
    done = run(
        tmp_path, "opbench run --suite smoke --task upsample2x --operator grown --with grown.py --budget 0 -o out"
    )
    assert done.returncode == 1
    report = (tmp_path / "out" / "report.md").read_text().replace("`", "").replace("|", "")
    assert said in " ".join(report.split())
    assert "nearest[torch] baseline" in " ".join(report.split())


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
    done = run(tmp_path, "opbench run --suite smoke --task upsample2x --operator grown --with grown.py")
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
