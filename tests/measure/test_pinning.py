"""Which cores a process that measures is kept on, and who takes them over."""

import pytest

from opbench.measure.pinning import Pinning, choose, inherited


@pytest.fixture
def system(tmp_path):
    """Four cores of two hyperthreads each: 0 and 4 are one piece of hardware, 1 and 5, ..."""
    for core in range(8):
        folder = tmp_path / f"cpu{core}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{core % 4},{core % 4 + 4}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("threads", "allowed", "cores"),
    [
        (1, range(8), (7,)),
        (3, range(8), (5, 6, 7)),
        (5, range(8), (3, 4, 5, 6, 7)),
        (2, (0, 4, 1), (1, 4)),
        (2, (0, 3, 7), (0, 7)),
        (2, (0, 1), (0, 1)),
    ],
)
def test_hyperthreads_of_one_core_are_taken_together_only_where_no_other_is_left(system, threads, allowed, cores):
    assert choose(threads, allowed, system).cores == cores


def test_more_threads_than_cores_are_not_pinned_and_that_is_said(system):
    assert choose(3, (0, 1), system).said == "not pinned: 3 threads on 2 allowed cores"
    assert choose(2, (0, 1), system).said == "to cores 0,1"


def test_a_child_takes_the_cores_over_and_this_process_keeps_its_own():
    mine = [{0, 1, 2}]
    with inherited(Pinning((2,)), affinity=lambda: mine[-1], pin=lambda cores: mine.append(set(cores))):
        assert mine[-1] == {2}
    assert mine[-1] == {0, 1, 2}


def test_cores_that_were_taken_away_meanwhile_are_no_error():
    def refused(cores):
        raise OSError

    with inherited(Pinning((2,)), affinity=lambda: {0}, pin=refused):
        pass
    with inherited(Pinning((), "no"), affinity=lambda: {0}, pin=refused):
        pass
