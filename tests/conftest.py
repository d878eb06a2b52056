"""Options and defaults of the whole test suite."""

import gc
import os
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from opbench import registry

# pytest imports readline, which tells all children of a process without a terminal that it is 80 columns wide: those of
# xdist too. What is printed to a pipe has the width that opbench gives it; tests of widths say their own.
os.environ.pop("COLUMNS", None)
os.environ.pop("LINES", None)

# Derandomised in CI, so that a red run means a change; broader and random at a desk.
settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("nightly", deadline=None, max_examples=2000, suppress_health_check=list(HealthCheck))
settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_addoption(parser):
    parser.addoption(
        "--opbench-suite",
        metavar="NAME",
        default="smoke",
        help="the suite that `pytest --benchmark-only` measures (default: smoke)",
    )
    parser.addoption("--nightly", action="store_true", help="run what takes many minutes, too")
    parser.addoption("--pages", action="store_true", help="run the code of every page, as `nox -s docs` does")


def pytest_collection_modifyitems(config, items):
    """Timed cases belong to --benchmark-only, long ones to --nightly, pages to --pages. GPU tests say what lacks."""
    if not config.getoption("--benchmark-only", default=False):  # a bare machine may lack pytest-benchmark
        leave_out(config, items, lambda item: "benchmark" in getattr(item, "fixturenames", ()))
    if not config.getoption("--nightly"):
        leave_out(config, items, lambda item: item.get_closest_marker("nightly") is not None)
    if not (config.getoption("--pages") or config.getoption("--nightly")):
        leave_out(config, items, lambda item: item.get_closest_marker("pages") is not None)
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def leave_out(config, items, which):
    out = [which(item) for item in items]
    config.hook.pytest_deselected(items=[item for item, left in zip(items, out, strict=True) if left])
    items[:] = [item for item, left in zip(items, out, strict=True) if not left]


def pytest_collection_finish():
    """What is here now lives as long as the process: collecting garbage, which timing does often, passes it over."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter):
    """The mutation score, how fast the dashboard is and which code of the pages isn't run: left by `record_property`.

    A test of a mutant leaves its verdict as ("mutant", (family, by what)), the browser's a sentence as "dashboard", a
    page's the place of a block as "not run".
    """
    reports = (report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, ()))
    left = [(name, value) for report in reports for name, value in report.user_properties]
    for name, value in left:
        if name == "dashboard":
            terminalreporter.write_line(f"dashboard: {value}")
        if name == "not run":
            terminalreporter.write_line(f"parsed, not run: {value}")
    verdicts = [value for name, value in left if name == "mutant"]
    for family in sorted({family for family, _ in verdicts}):
        convicted = [by is not None for of, by in verdicts if of == family]
        terminalreporter.write_line(f"mutation score, {family}: {sum(convicted)} of {len(convicted)} killed")


@pytest.fixture(scope="session")
def thorough(request):
    """Whether every search draws many examples: a few by default, as there are hundreds of searches."""
    return request.config.getoption("--nightly")


@pytest.fixture(scope="session")
def toys():
    """The toy task, declared as a user would declare it: from a file."""
    if "toy" not in registry.tasks():
        registry.load_file(str(Path(__file__).parent / "toys.py"))
    return sys.modules["opbench_with_toys"]


@pytest.fixture(autouse=True)
def _declares_nothing_for_others():
    """A test that leaves a contender behind changes every later test of its process that plans a suite."""
    before = registry.contenders() if registry._begun else None
    yield
    if before is not None:
        left = {(task, name) for task, name in registry.contenders() - before if task != "toy"}
        assert not left, f"left in the registry: {sorted(left)}"
