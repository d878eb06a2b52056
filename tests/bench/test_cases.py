"""`pytest --benchmark-only`: the cases of a suite through pytest-benchmark, each verified before it is timed."""

from opbench.testing import ProvenCase
from opbench.testing.planning import of_suite
from opbench.testing.plugin import parameters


def pytest_generate_tests(metafunc):
    if not metafunc.config.getoption("--benchmark-only"):
        metafunc.parametrize("case", [])
        return
    metafunc.parametrize("case", parameters(of_suite(metafunc.config.getoption("--opbench-suite"))))


def test_case(benchmark, case):
    ProvenCase(case).time(benchmark)
