"""CARAFE's run and check acquit it, whatever the seed."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from seeds import TARGETS, checked, gated, table


@pytest.mark.nightly
@pytest.mark.parametrize("threads", [1, 2])
def test_the_run_acquits_carafe_at_fifty_seeds(threads):
    import torch

    before = torch.get_num_threads()
    try:
        rows = [row for seed in range(50) for row in gated(seed, threads)]
    finally:
        torch.set_num_threads(before)
    assert len(rows) >= 150
    assert all(row["right"] for row in rows), [row["said"] for row in rows if not row["right"]]


@pytest.mark.nightly
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("target", TARGETS)
def test_the_check_acquits_carafe(target, threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    for seed in range(5):
        found = checked(target, seed, threads, ("evaluation", "training"), quick=True)
        assert found["right"], found["said"]


def test_a_conviction_shows_in_the_table():
    row = {"of": "run, carafe[cpu] float32", "seed": 3, "threads": 1, "right": False, "margin": 1.5, "said": ""}
    assert "| run, carafe[cpu] float32 | 1 | 2 | 1 | 1.500 | 3 |" in table([row, {**row, "right": True, "margin": 0.2}])
