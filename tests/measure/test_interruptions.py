"""The kernel's own count of how often this process lost its core."""

import pytest

from opbench.measure import interruptions as module
from opbench.measure.interruptions import interruptions


def test_the_count_never_falls():
    before = interruptions()
    sum(range(100_000))
    assert interruptions() >= before >= 0


def test_it_is_the_kernels_figure_for_the_whole_process():
    resource = pytest.importorskip("resource", reason="only Unix counts involuntary switches")
    counted = [resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw, module.interruptions()]
    assert counted == sorted(counted)
