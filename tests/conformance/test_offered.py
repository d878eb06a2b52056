"""What `opbench.conformance` offers to tests of one's own."""

import doctest
import subprocess
import sys

import opbench.conformance


def test_the_example_runs():
    results = doctest.testmod(opbench.conformance)
    assert results.attempted
    assert not results.failed


def test_everything_offered_is_there():
    for name in opbench.conformance.__all__:
        assert getattr(opbench.conformance, name)


def test_the_package_itself_loads_neither_torch_nor_hypothesis():
    program = "import sys, opbench.conformance; sys.exit(bool({'torch', 'hypothesis'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", program], check=True)
