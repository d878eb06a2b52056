"""Tests for a machine with a GPU: `pytest tests/gpu -n 8 -m "not alone"`, then `pytest tests/gpu -m alone`.

On a bare machine this folder is collected alone: other tests need packages that it may lack.
"""

import os

import pytest

from opbench.kernels.triton import launch as triton_launch


def pytest_collection_modifyitems(items):
    """Whatever compares times would compare those of the test beside it."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        for item in items:
            if item.get_closest_marker("alone"):
                item.add_marker(pytest.mark.skip(reason="compares times: run `pytest tests/gpu -m alone` without -n"))


@pytest.fixture
def first_tiles(monkeypatch):
    """No candidates are timed: of small shapes each has others, and timing them takes longer than the test."""
    monkeypatch.setattr(triton_launch, "_choice", lambda kernel, candidates, *_: candidates[0])
