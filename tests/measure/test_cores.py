"""How many cores are free, by what the system says of itself."""

import pytest

from opbench.measure.cores import CoreCount, described, look, sentence
from opbench.schema import CoreShare


def system(root, *, busy=(0, 0), quota="", governor="", cgroup="0::/"):
    """A /proc and a /sys whose cores are at work for `busy` percent of the look."""
    proc, sys = root / "proc", root / "sys"
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "cgroup").write_text(cgroup + "\n")
    (sys / "fs" / "cgroup").mkdir(parents=True)
    for name, text in dict(part.split("=") for part in quota.split(";") if part).items():
        (sys / "fs" / "cgroup" / name).write_text(text + "\n")
    if governor:
        place = sys / "devices/system/cpu/cpu0/cpufreq"
        place.mkdir(parents=True)
        (place / "scaling_governor").write_text(governor + "\n")

    def stat(at):
        lines = [f"cpu{core} {at * share} 0 0 {at * (100 - share)} 0 0 0 0 0 0" for core, share in enumerate(busy)]
        (proc / "stat").write_text("\n".join(["cpu 0 0 0 0 0 0 0 0 0 0", *lines, "intr 1"]) + "\n")

    stat(1)
    return look(proc, sys, sleep=lambda seconds: stat(2), affinity=lambda: set(range(len(busy))))


@pytest.mark.parametrize(
    ("found", "free"),
    [
        (CoreCount(8, None, 0.1), 8),
        (CoreCount(8, None, 0.2), 7),
        (CoreCount(2, None, 1.0), 1),
        (CoreCount(2, None, 2.0), 1),
        (CoreCount(2, 1.5, 0.0), 1),
        (CoreCount(4, 0.5, None), 1),
        (CoreCount(4, None, None), 4),
    ],
)
def test_the_free_cores_are_those_allowed_less_those_taken(found, free):
    assert found.free == free


def test_a_busy_core_is_seen(tmp_path):
    found = system(tmp_path, busy=(100, 5))
    assert found.busy == pytest.approx(1.05)
    assert sentence(found, 2) == (
        "2 threads on 1 free core (2 allowed, 1.1 busy with other processes): "
        "regions will wait for each other; use --threads auto, or another hour"
    )


def test_threads_that_fit_need_no_words(tmp_path):
    assert sentence(system(tmp_path, busy=(1, 2)), 2) == ""


@pytest.mark.parametrize(
    ("quota", "cgroup", "cores"),
    [
        ("cpu.max=150000 100000", "0::/", 1.5),
        ("cpu.max=max 100000", "0::/", None),
        ("cpu.cfs_quota_us=50000;cpu.cfs_period_us=100000", "3:cpu,cpuacct:/", 0.5),
        ("cpu.cfs_quota_us=-1;cpu.cfs_period_us=100000", "3:cpu,cpuacct:/", None),
    ],
)
def test_a_quota_limits_the_cores(tmp_path, quota, cgroup, cores):
    assert system(tmp_path, quota=quota, cgroup=cgroup).quota == cores


def test_a_governor_that_saves_power_is_said(tmp_path):
    found = system(tmp_path, governor="powersave")
    assert sentence(found, 1) == "the clock's governor is 'powersave', not 'performance'"
    assert described(found) == {"cores": "2 allowed, 0.00 busy with others, 2 free", "governor": "powersave"}


def test_which_cores_are_hyperthreads_of_another_is_seen(tmp_path):
    for core, siblings in enumerate(("0,1", "0-1", "2", "3")):
        place = tmp_path / "sys/devices/system/cpu" / f"cpu{core}" / "topology"
        place.mkdir(parents=True)
        (place / "thread_siblings_list").write_text(siblings + "\n")
    (tmp_path / "sys/devices/system/cpu/smt").mkdir()
    (tmp_path / "sys/devices/system/cpu/smt/active").write_text("1\n")

    def share(*allowed):
        found = look(tmp_path, tmp_path / "sys", sleep=lambda seconds: None, affinity=lambda: set(allowed))
        return found.share

    assert share(0, 1) == CoreShare(2, physical=1, hyperthreads="on")
    assert share(0, 2) == CoreShare(2, physical=2, hyperthreads="on")
    assert share(0, 1, 2, 3) == CoreShare(4, physical=3, hyperthreads="on")


def test_a_machine_that_says_nothing_is_taken_as_it_is(tmp_path):
    found = look(tmp_path, tmp_path, sleep=lambda seconds: None, affinity=lambda: {0, 1, 2})
    assert found == CoreCount(3, None, None)
    assert described(found) == {"cores": "3 allowed, not to be seen busy with others, 3 free"}
