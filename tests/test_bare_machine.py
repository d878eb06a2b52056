"""A machine with torch, numpy, scipy, typer and msgspec alone: a run is measured and reported all the same.

And what is built to be installed: the wheel and the source distribution, where nothing of the extras is.
"""

import email
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import opbench

# Finds nothing of what a bare machine with a GPU may lack; each process of the run starts with it.
BLOCKER = """
from importlib.machinery import PathFinder

MISSING = {names!r}
found = PathFinder.find_spec


def find_spec(name, path=None, target=None):
    return None if name.split(".")[0] in MISSING else found(name, path, target)


PathFinder.find_spec = find_spec
"""
OPTIONAL = (
    "rich", "psutil", "altair", "vl_convert", "markdown_it", "jinja2", "fvcore", "llvmlite", "numba", "pynvml",
    "hypothesis", "pytest", "pyarrow",
)  # fmt: skip


def bare(folder, *arguments):
    (folder / "site").mkdir(exist_ok=True)
    (folder / "site" / "sitecustomize.py").write_text(BLOCKER.format(names=OPTIONAL))
    path = os.pathsep.join([str(folder / "site"), str(Path(__file__).parents[1])])
    return subprocess.run(
        [sys.executable, "-m", "opbench", *arguments],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_run_needs_none_of_the_optional_packages(tmp_path):
    out = tmp_path / "out"
    only = (
        "--task",
        "upsample2x",
        "--workload",
        "yolov8n-p5-p4",
        "--operator",
        "bilinear",
        "--mode",
        "inference",
        "--device",
        "cpu",
    )
    ran = bare(tmp_path, "run", "--suite", "default", *only, "--budget", "0.05", "--share-cpu", "-o", str(out))
    assert ran.returncode == 0, ran.stderr
    assert "upsample2x/yolov8n-p5-p4/float32/cpu/inference" in ran.stdout
    assert "0 of 1 panel: upsample2x" in ran.stdout
    document = json.loads((out / "run.json").read_text())
    assert {record["outcome"] for record in document["records"]} == {"ok"}
    assert all(record["counts"]["fvcore"]["note"] == "fvcore is not installed" for record in document["records"])
    text = (out / "report.md").read_text()
    assert "Without charts: vl-convert-python is not installed here." in text
    assert not (out / "report.html").exists()
    assert "panel upsample2x/yolov8n-p5-p4/float32/cpu/inference (process 1): 2 ok" in (out / "run.log").read_text()


def test_lists_and_plans_are_plain_text(tmp_path):
    listed = bare(tmp_path, "list", "implementations")
    assert listed.returncode == 0, listed.stderr
    assert "carafe[unfold]" in listed.stdout
    planned = bare(tmp_path, "run", "--suite", "smoke", "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert "at most about" in planned.stdout


# --- Distributions ------------------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[1]
# What only an extra brings, by the name it is imported as.
EXTRAS = ("vl_convert", "markdown_it", "PIL", "pytest", "pytest_benchmark", "pyarrow", "triton", "ultralytics")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The source distribution, and the wheel built from it, without a network.

    Of a copy: what is built leaves files in its folder, and another process of these tests may be building, too.
    """
    pytest.importorskip("build", reason="build is not installed")
    folder, tree = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("tree") / "opbench"
    left_out = ".git", ".nox", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "build", "site", "local"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*left_out))
    command = [sys.executable, "-m", "build", "--no-isolation", "-o", str(folder), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def metadata(built):
    with zipfile.ZipFile(built[0]) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(wheel.read(name))


@pytest.mark.slow
def test_the_version_stands_in_one_place(metadata):
    assert metadata["Version"] == opbench.__version__
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "version" not in project
    cited = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert cited[1] == opbench.__version__


@pytest.mark.slow
def test_the_base_installs_what_every_command_needs_and_no_more(metadata):
    required = metadata.get_all("Requires-Dist")
    base = {re.match(r"[\w-]+", text)[0] for text in required if "extra ==" not in text}
    assert base == {
        "torch", "numpy", "scipy", "fvcore", "hypothesis", "msgspec", "typer", "rich", "llvmlite", "psutil",
        "nvidia-ml-py",
    }  # fmt: skip


@pytest.mark.slow
def test_every_requirement_has_a_least_version(metadata):
    required = metadata.get_all("Requires-Dist")
    assert not [text for text in required if not re.search(r">=[\d.]+", text) and not text.startswith("opbench")]


@pytest.mark.slow
def test_the_page_of_the_package_index_needs_no_checkout(metadata):
    text = metadata.get_payload()
    assert text.startswith("# opbench")
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert targets
    assert all(target.startswith("https://") for target in targets)
    assert "<img" not in text
    assert "AGPL-3.0" in text
    assert metadata["Description-Content-Type"].startswith("text/markdown")


@pytest.mark.slow
def test_what_is_said_to_be_supported_is_what_is_asked_for(metadata):
    versions = {text.rpartition(" ")[2] for text in metadata.get_all("Classifier") if ":: 3." in text}
    assert versions == {"3.11", "3.12", "3.13"}
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Keywords"]
    assert all(url.rpartition(", ")[2].startswith("https://") for url in metadata.get_all("Project-URL"))


@pytest.mark.nightly
def test_the_tests_run_from_the_source_distribution(built, tmp_path):
    with tarfile.open(built[1]) as opened:
        opened.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    if (ROOT / ".git").exists():
        tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert not {name for name in tracked.splitlines() if (ROOT / name).exists()} - there
    some = ("tests/test_public.py", "tests/test_suites.py", "tests/statistics", "tests/docs/test_pages.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *some],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)}, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


@pytest.mark.slow
def test_both_distributions_hold_the_data_that_the_package_reads(built):
    wheel, source = built
    data = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "opbench").rglob("*")
        if path.suffix in {".toml", ".js", ".css", ".html", ".typed", ".py"} or path.name == "py.typed"
    }
    with zipfile.ZipFile(wheel) as opened:
        assert not data - set(opened.namelist())
    with tarfile.open(source) as opened:
        assert not data - {name.partition("/")[2] for name in opened.getnames()}


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """An environment of its own with the wheel, in which nothing is found that only an extra brings."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder / "env", with_pip=False, symlinks=True)
    python = folder / "env" / "bin" / "python"
    into = next((folder / "env" / "lib").glob("python*")) / "site-packages"
    install = ("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(into))
    subprocess.run([sys.executable, *install, str(built[0])], check=True, timeout=120)
    # The dependencies are those installed here; a path added by site comes after the environment's own packages.
    others = [path for path in sys.path if path.endswith("site-packages")]
    (into / "dependencies.pth").write_text("".join(f"{path}\n" for path in others))
    (into / "sitecustomize.py").write_text(BLOCKER.format(names=EXTRAS))

    def run(*arguments, cwd):
        kept = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
        return subprocess.run(
            [python, "-m", "opbench", *arguments], cwd=cwd, env=kept, capture_output=True, text=True, timeout=300
        )

    run.python = python
    return run


@pytest.mark.nightly
def test_the_wheel_runs_where_nothing_of_the_extras_is(installed, tmp_path):
    where = subprocess.run(
        [installed.python, "-c", "import opbench; print(opbench.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    assert str(ROOT) not in where.stdout, where.stdout + where.stderr
    checked = installed(
        "check", "opbench.operators.carafe:carafe_cpu", "--operator", "carafe", "--only", "definition", "--quick",
        cwd=tmp_path,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr
    only = ("--task", "carafe_core", "--operator", "carafe", "--implementation", "cpu", "--mode", "inference")
    ran = installed("run", "--suite", "smoke", *only, "--budget", "0.05", "--share-cpu", "-o", "out", cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    compared = installed("compare", "out/run.json", "out/run.json", cwd=tmp_path)
    assert compared.returncode == 0, compared.stdout + compared.stderr


@pytest.mark.nightly
def test_what_an_extra_would_bring_is_said_in_a_sentence(installed, tmp_path):
    document = ROOT / "results" / "xeon-2core" / "default" / "run.json"
    asked = {
        "opbench[report]": ("show", "carafe", "-o", "carafe.png"),
        "opbench[parquet]": ("export", str(document), "--format", "parquet", "-o", "runs.parquet"),
        "opbench[pytest]": ("selfcheck", "--rivals", "-o", "selfcheck"),
    }
    for extra, command in asked.items():
        done = installed(*command, cwd=tmp_path)
        assert done.returncode == 2, done.stdout + done.stderr
        assert f"pip install '{extra}'" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
