"""The command line as a person or a script meets it: exit codes, one-line errors, files left behind."""

import json
import subprocess
import sys
from pathlib import Path

import in_process
import pytest

HERE = Path(__file__).parent
TOYS = HERE / "toys.py"

SUITE = """
[timing]
precision = 0.5
budget_seconds = 0.1

[contenders]
toy = ["double[also-right]"]

[[workload]]
task = "toy"
name = "small"
source = "made up"
dims = { N = 6, C = 4 }
modes = ["inference"]
"""

MINE = """
from opbench.registry import register_implementation

@register_implementation("carafe_core", "carafe", "mine")
def mine(x, mask, *, kernel_size, group_size, scale_factor):
    from opbench.operators.carafe import carafe
    return carafe(x, mask, kernel_size=kernel_size, group_size=group_size, scale_factor=scale_factor)

@register_implementation("carafe_core", "carafe", "brighter")
def brighter(x, mask, **options):
    return mine(x, mask, **options) * 1.01
"""


def opbench(*arguments):
    """In a process of its own, as a person or a script starts it."""
    # Tests run side by side: a case that waited for a core is none the worse here.
    shared = ["--share-cpu"] if arguments[0] == "run" else []
    command = [sys.executable, "-m", "opbench", *map(str, arguments), *shared]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A run of the toy suite, and how the command ended."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "toy.toml").write_text(SUITE)
    done = opbench("run", "--suite", folder / "toy.toml", "--with", TOYS, "-o", folder / "out")
    return folder / "out", done


def test_a_run_leaves_a_document_and_a_report_and_names_the_report_last(measured):
    folder, done = measured
    assert {"run.json", "report.md"} <= {path.name for path in folder.iterdir()}
    assert not (folder / "journal.jsonl").exists()
    assert done.stdout.strip().splitlines()[-1] == f"report: {folder / 'report.md'}"


def test_a_run_with_a_failed_case_is_bad_news(measured):
    _, done = measured
    assert done.returncode == 1, done.stderr


def test_the_report_of_a_document_is_the_same_bytes_every_time(measured, tmp_path):
    folder, _ = measured
    for name in ("a", "b"):
        assert in_process.opbench("report", folder / "run.json", "-o", tmp_path / name).returncode == 0
    first, second = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("a", "b")
    )
    assert first == second
    assert first[Path("report.md")] == (folder / "report.md").read_bytes()


def test_an_incorrect_contender_is_shown_as_such_and_never_timed(measured):
    folder, _ = measured
    document = json.loads((folder / "run.json").read_text())
    (wrong,) = [record for record in document["records"] if record["case"]["implementation"] == "wrong"]
    assert wrong["outcome"] == "incorrect"
    assert not wrong["latencies"]
    assert "incorrect" in (folder / "report.md").read_text()


def test_a_users_implementations_compete_from_a_file_and_the_wrong_one_is_bad_news(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    done = opbench(
        "run", "--suite", "smoke", "--task", "carafe_core", "--mode", "inference", "--device", "cpu", "--budget", "0.1",
        "--implementation", "mine", "--implementation", "brighter", "--with", tmp_path / "mine.py",
        "-o", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    document = json.loads((tmp_path / "out" / "run.json").read_text())
    outcomes = {record["case"]["implementation"]: record["outcome"] for record in document["records"]}
    assert outcomes == {"unfold": "ok", "mine": "ok", "brighter": "incorrect"}


def test_a_dry_run_prints_panels_and_skipped_cases_and_writes_nothing(tmp_path):
    done = in_process.opbench("run", "--suite", "smoke", "--dry-run", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "nearest[torch]" in done.stdout
    assert "smoke: " in done.stdout
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("what", ["tasks", "operators", "implementations", "suites", "workloads"])
def test_everything_declared_can_be_listed(what):
    done = in_process.opbench("list", what)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_environment_names_versions_and_threads():
    done = in_process.opbench("env")
    assert done.returncode == 0, done.stderr
    assert "torch: " in done.stdout
    assert "threads: " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--suite", "smok"], "unknown suite 'smok'; did you mean 'smoke'?"),
        (["run", "--suite", "nowhere.toml"], "suite file nowhere.toml: no such file"),
        (["run", "--suite", "smoke", "--task", "upsample"], "unknown task 'upsample'; did you mean 'upsample2x'?"),
        (["run", "--suite", "smoke", "--operator", "caraf"], "unknown operator 'caraf'; did you mean 'carafe'?"),
        (["run", "--suite", "smoke", "--dtype", "half"], "unknown dtype 'half'"),
        (["run", "--suite", "smoke", "--device", "gpu"], "unknown device 'gpu'"),
        (["run", "--suite", "smoke", "--with", "nowhere.py"], "--with nowhere.py: no such file"),
        (["run", "--suite", "smoke", "--precision", "2"], "expected a share such as 1% or 0.01"),
        (["run", "--suite", "smoke", "-o", "/dev/null/out"], "-o /dev/null/out: cannot be written"),
        (["report", "nowhere.json", "-o", "out"], "nowhere.json: no such file"),
        (["readme", "nowhere.md"], "nowhere.md: can't be read"),
        (["measure"], "No such command 'measure'"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_two(arguments, said, tmp_path):
    done = in_process.opbench(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_help_loads_nothing_heavy():
    script = "import sys, opbench, opbench.cli; print([m for m in ('torch', 'numpy', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
