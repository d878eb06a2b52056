"""A machine with torch, numpy, scipy, typer and msgspec alone: a run is measured and reported all the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

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
    ran = bare(tmp_path, "run", "--suite", "default", *only, "--budget", "0.05", "-o", str(out))
    assert ran.returncode == 0, ran.stderr
    assert "upsample2x/yolov8n-p5-p4/float32/cpu/inference" in ran.stdout
    assert "0 of 1 panels: upsample2x" in ran.stdout
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
