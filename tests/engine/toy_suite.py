"""A suite whose contenders are those of tests/toys.py, and the command that measures it."""

import sys
from pathlib import Path

TOYS = Path(__file__).parents[1] / "toys.py"
SUITE = """
[timing]
precision = 1e-9
budget_seconds = {seconds}
replicas = 1

[contenders]
toy = ["double[also-right]"]
"""
WORKLOAD = """
[[workload]]
task = "toy"
name = "w{number}"
source = "made up"
dims = {{ N = {n}, C = 4 }}
modes = ["inference"]
"""


def written(folder, workloads, seconds):
    """The folder, with the suite in it: so many workloads, w0 and on, and so many seconds for each panel."""
    text = SUITE.format(seconds=seconds) + "".join(WORKLOAD.format(number=n, n=n + 2) for n in range(workloads))
    (folder / "toy.toml").write_text(text)
    return folder


def command(folder, *more):
    """`opbench run` of the folder's suite into its `out`."""
    return [
        sys.executable, "-m", "opbench", "run", "--suite", str(folder / "toy.toml"), "--with", str(TOYS), "--share-cpu",
        "--implementation", "also-right", "-o", str(folder / "out"), *more,
    ]  # fmt: skip
