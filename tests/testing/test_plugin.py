"""The pytest plugin in a repository of somebody's own: what it brings, and that without being asked it does nothing."""

import importlib.util
import json
import re
from textwrap import dedent

import as_installed
import pytest

pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is not installed")

MY_OPS = '''
import torch.nn.functional as F


def reassemble(x, mask, *, kernel_size, group_size, scale_factor, swapped=False):
    """x (N, C, H, W), mask (N, g*k*k, s*H, s*W) -> (N, C, s*H, s*W)."""
    N, C, H, W = x.shape
    k, g, s = kernel_size, group_size, scale_factor
    windows = F.unfold(x, k, padding=k // 2).view(N, g, C // g, k, k, H, W)
    windows = windows.repeat_interleave(s, -2).repeat_interleave(s, -1)
    taps = mask.view(N, g, 1, k, k, s * H, s * W)
    taps = taps.transpose(3, 4) if swapped else taps
    return (windows * taps).sum((3, 4)).view(N, C, s * H, s * W)


def by_columns(x, mask, **options):
    """x (N, C, H, W), mask (N, g*k*k, s*H, s*W) -> (N, C, s*H, s*W): the taps in the wrong order."""
    return reassemble(x, mask, **options, swapped=True)
'''

TESTS = """
import pytest
from my_ops import by_columns, reassemble

from opbench.testing import cases

SMALL = {"tiny": {"N": 1, "C": 4, "H": 5, "W": 6}}


@cases("carafe", core=reassemble, workloads=SMALL, modes=["inference"])
def test_right(opbench_case, benchmark):
    opbench_case.time(benchmark)


@cases("carafe", core=by_columns, workloads=SMALL, modes=["inference"])
def test_wrong(opbench_case, benchmark):
    opbench_case.time(benchmark)


def test_checked(opbench_check):
    opbench_check(reassemble, "carafe", only=["definition"])


def test_convicted(opbench_check):
    with pytest.raises(AssertionError, match="wrong: by_columns does not compute carafe: output"):
        opbench_check(by_columns, "carafe", only=["definition"])
"""

PANEL = "carafe_core/tiny/float32/cpu/inference"

# A repository that has nothing to do with opbench; its last line says what was imported.
OTHER = {
    "pyproject.toml": '[tool.pytest.ini_options]\naddopts = ["--strict-markers", "--strict-config"]\n'
    'filterwarnings = ["error"]\n',
    "conftest.py": "import sys\n\n\ndef pytest_unconfigure(config):\n"
    "    print('heavy:', sorted({'torch', 'numpy', 'msgspec', 'opbench.registry'} & set(sys.modules)))\n",
    "test_other.py": "def test_one():\n    pass\n\n\ndef test_two(tmp_path):\n    pass\n",
}


@pytest.fixture
def repository(tmp_path):
    return written(tmp_path / "mine", {"my_ops.py": MY_OPS, "test_mine.py": TESTS})


def written(folder, files):
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(dedent(text))
    return folder


def outcomes(done):
    """How many of each kind the last line counts."""
    found = re.findall(r"(\d+) (passed|failed|skipped|deselected|errors?)", done.stdout.splitlines()[-1])
    return {kind: int(count) for count, kind in found}


def test_where_nobody_asks_it_collects_the_same_tests_and_imports_nothing_heavy(tmp_path):
    folder = written(tmp_path / "other", OTHER)
    with_it, without = (as_installed.pytest(folder, "-v", plugin=plugin) for plugin in (True, False))
    assert with_it.returncode == without.returncode == 0, with_it.stdout + with_it.stderr
    said = [[line.split()[0] for line in done.stdout.splitlines() if "::" in line] for done in (with_it, without)]
    assert said[0] == said[1] == ["test_other.py::test_one", "test_other.py::test_two"]
    assert with_it.stdout.splitlines()[-1] == "heavy: []"
    assert "opbench_as_installed" in with_it.stdout or "opbench" in with_it.stdout.partition("plugins:")[2]


def test_cases_are_proven_before_they_are_timed_and_carry_their_counts(repository):
    done = as_installed.pytest(repository, "--benchmark-only", "--benchmark-json=found.json")
    assert done.returncode == 1, done.stdout + done.stderr
    assert outcomes(done) == {"failed": 1, "passed": 1, "skipped": 2}
    assert "carafe_core/tiny/float32/cpu/inference/carafe[by_columns] is incorrect and is not timed" in done.stdout
    timed = json.loads((repository / "found.json").read_text())["benchmarks"]
    assert [one["extra_info"]["case"] for one in timed] == [f"{PANEL}/carafe[reassemble]"]
    (one,) = timed
    assert one["group"] == PANEL
    assert one["extra_info"]["macs"] == 4 * 25 * 10 * 12
    assert one["extra_info"]["worst_error_over_bound"] <= 1
    assert one["stats"]["rounds"] >= 1


# --- With the plugins that people have --------------------------------------------------------------------------------


@pytest.mark.nightly
def test_a_check_passes_and_fails_with_its_counterexample(repository):
    done = as_installed.pytest(repository, "-k", "checked or convicted")
    assert outcomes(done) == {"passed": 2, "deselected": 2}, done.stdout
    (repository / "test_bad.py").write_text(
        "from my_ops import by_columns\n\n\ndef test_bad(opbench_check):\n"
        "    opbench_check(by_columns, 'carafe', only=['definition'])\n"
    )
    done = as_installed.pytest(repository, "test_bad.py")
    assert done.returncode == 1
    assert "mask[0, 1, 0] = [1, 1]" in done.stdout
    assert "reproduce: opbench check " in done.stdout


@pytest.mark.nightly
def test_beside_xdist_cases_are_proven_alone(repository):
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    done = as_installed.pytest(repository, "-n", "2", "-k", "right or wrong or unfold and core", "--opbench", "smoke")
    assert outcomes(done)["failed"] == 1, done.stdout
    assert outcomes(done)["passed"] >= 3, done.stdout
    assert "incorrect and is not timed" in done.stdout
    assert "Benchmarks are automatically disabled" in done.stdout


@pytest.mark.nightly
def test_the_cases_of_a_suite_are_collected_beside_the_tests(repository):
    # What is disturbed is skipped: nothing is timed here.
    chosen = ("--opbench", "smoke", "-k", "carafe_core and inference and (unfold or cuda)", "--benchmark-disable")
    done = as_installed.pytest(repository, *chosen, "-v")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "opbench::test_timed[carafe_core/32x12x12/float32/cpu/inference/carafe[unfold]] PASSED" in done.stdout
    assert re.search(r"SKIPPED.*no CUDA device on this machine", done.stdout) or "cuda/inference" in done.stdout
    alone = as_installed.pytest(repository, *chosen[:-1], "-p", "no:benchmark", "-v")
    assert "opbench::test_proven[carafe_core/32x12x12/float32/cpu/inference/carafe[unfold]] PASSED" in alone.stdout


@pytest.mark.nightly
def test_an_unknown_suite_is_said_in_a_sentence(repository):
    done = as_installed.pytest(repository, "--opbench", "smok")
    assert done.returncode == 2
    assert "unknown suite 'smok'; did you mean 'smoke'?" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("pytest_codspeed", ("--codspeed",)),
        ("pytest_randomly", ("-p", "randomly", "-p", "no:benchmark")),
        ("pytest_randomly", ("-p", "randomly", "--benchmark-only")),
        ("pytest_cov", ("--cov=my_ops",)),
        ("pytest_timeout", ("--timeout=120",)),
    ],
    ids=["codspeed", "randomly", "randomly-benchmark", "cov", "timeout"],
)
def test_beside_other_plugins_the_same_cases_are_collected(repository, package, arguments):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    if "no:benchmark" in arguments:
        text = (repository / "test_mine.py").read_text()
        text = text.replace("(opbench_case, benchmark)", "(opbench_case)").replace("time(benchmark)", "prove()")
        (repository / "test_mine.py").write_text(text)
    done = as_installed.pytest(repository, *arguments, "-k", "right or wrong", "-v")
    cases = set(re.findall(r"test_mine\.py::(\S+\])", done.stdout))
    expected = {f"test_right[{PANEL}/carafe[reassemble]]", f"test_wrong[{PANEL}/carafe[by_columns]]"}
    assert cases == expected, done.stdout + done.stderr
    assert outcomes(done)["failed"] == outcomes(done)["passed"] == 1, done.stdout + done.stderr
