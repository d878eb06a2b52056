"""`pytest --benchmark-only`: the cases of a suite through pytest-benchmark, each verified before it is timed."""

import pytest
import torch

from opbench import plan, registry, suites
from opbench.testing import ProvenCase


def pytest_generate_tests(metafunc):
    if not metafunc.config.getoption("--benchmark-only"):
        metafunc.parametrize("case", [])
        return
    registry.load()
    suite = suites.load(metafunc.config.getoption("--opbench-suite"))
    laid_out = plan.plan(suite, {}, cuda=torch.cuda.is_available())
    cases = [pytest.param(case, id=case.id) for panel in laid_out.panels for case in panel.cases]
    cases += [
        pytest.param(None, id=skipped.case, marks=pytest.mark.skip(reason=skipped.reason))
        for skipped in laid_out.skipped
    ]
    metafunc.parametrize("case", cases)


def test_case(benchmark, case):
    ProvenCase(case).time(benchmark)
