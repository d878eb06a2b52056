"""What the kernel counts of a block's waits, and what is made of it."""

import ctypes
import math
import os
import subprocess
import sys

import pytest

from opbench.engine.replicas import merge
from opbench.kernels.cpu import launch
from opbench.measure import disturbance, probe_code, probes
from opbench.measure.disturbance import (
    Counters,
    DisturbanceGuard,
    KernelCounters,
    cgroup_file,
    described,
    enough,
    waited,
)
from opbench.measure.latency import measure_panel
from opbench.measure.phases import Phases, used
from opbench.schema import Case, Latency, Record
from opbench.statistics.ratios import quartiles, ratio

LINUX = os.path.exists("/proc/self/schedstat")


def machine(root, *, waits=(0,), cgroup="0::/", stat="", ticks=None):
    """A /proc and a /sys/fs/cgroup as the kernel shows them."""
    proc, groups = root / "proc", root / "cgroup"
    for number, wait in enumerate(waits):
        task = proc / "self" / "task" / str(100 + number)
        task.mkdir(parents=True, exist_ok=True)
        (task / "schedstat").write_text(f"5000 {wait} 7\n")
    (proc / "self").mkdir(parents=True, exist_ok=True)
    (proc / "self" / "cgroup").write_text(cgroup + "\n")
    groups.mkdir(exist_ok=True)
    if stat:
        (groups / "cpu.stat").write_text(stat)
    if ticks is not None:
        (proc / "stat").write_text(f"cpu  1 2 3 4 5 6 7 {ticks} 0 0\ncpu0 1 2 3 4 5 6 7 {ticks} 0 0\n")
    return KernelCounters(proc, groups)


class Scripted:
    """A kernel whose readings are given."""

    def __init__(self, *readings):
        self.readings = list(readings)

    def read(self):
        return self.readings.pop(0)


def test_the_waits_of_all_threads_are_added(tmp_path):
    kernel = machine(tmp_path, waits=(1_000_000, 2_000_000))
    assert kernel.source == "schedstat"
    assert kernel.read().waiting == pytest.approx(0.003)


def test_a_thread_that_has_ended_keeps_what_it_waited(tmp_path):
    kernel = machine(tmp_path, waits=(1_000_000, 2_000_000))
    kernel.read()
    for file in (tmp_path / "proc" / "self" / "task" / "101").iterdir():
        file.unlink()
    (tmp_path / "proc" / "self" / "task" / "101").rmdir()
    assert kernel.read().waiting == pytest.approx(0.003)


def test_both_kinds_of_cgroup_say_how_long_they_throttled(tmp_path):
    second = machine(tmp_path / "2", cgroup="0::/a/b", stat="usage_usec 5\nthrottled_usec 250000\n")
    first = machine(tmp_path / "1", cgroup="1:cpu,cpuacct:/x\n0::/", stat="nr_periods 1\nthrottled_time 250000000\n")
    assert second.read().throttled == first.read().throttled == pytest.approx(0.25)


def test_a_group_of_another_controller_is_not_asked(tmp_path):
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text("4:memory:/m\n3:cpuset:/c\n")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "cpu.stat").write_text("throttled_usec 1\n")
    assert cgroup_file(tmp_path, tmp_path, "cpu.stat") is None


def test_steal_is_read_in_seconds(tmp_path):
    kernel = machine(tmp_path, ticks=300)
    assert kernel.read().stolen == pytest.approx(300 / os.sysconf("SC_CLK_TCK"))


def test_what_a_machine_does_not_say_is_said(tmp_path):
    kernel = KernelCounters(tmp_path / "no-proc", tmp_path / "no-cgroup")
    assert kernel.source == "switches"
    assert kernel.read()[1:] == (None, None)
    assert described(kernel) == {"disturbance": "switches; not watched: cgroup throttling, steal"}


def test_a_wait_is_a_share_of_the_block():
    lost = waited(Counters(1.0, 0.0, None), Counters(1.003, 0.001, None), 0.1)
    assert lost == pytest.approx((0.03, 0.01, 0.0))
    assert lost.share == pytest.approx(0.03)
    assert lost.why == "for 3% of a block's time its threads were ready to run and had no core"


@pytest.mark.parametrize("seconds", [0.0, -0.5, math.nan])
def test_a_block_without_a_time_is_lost_whole(seconds):
    assert waited(Counters(0.0, None, None), Counters(0.0, None, None), seconds).share == 1.0


def test_counters_that_run_backwards_lose_nothing():
    assert waited(Counters(2.0, None, None), Counters(1.0, None, None), 1.0).share == 0.0


@pytest.mark.parametrize(("wait", "spoilt"), [(0.019, False), (0.021, True)])
def test_a_block_over_the_allowance_is_spoilt(wait, spoilt):
    guard = DisturbanceGuard(Scripted(Counters(0.0, None, None), Counters(wait, None, None)))
    guard.before()
    assert guard.judge(1.0) == (pytest.approx(wait), spoilt)
    assert ("had no core" in guard.why) is spoilt


def test_one_tick_of_steal_spoils_no_short_block():
    one_tick = (Counters(0.0, None, 0.0), Counters(0.0, None, 0.01))
    guard = DisturbanceGuard(Scripted(*one_tick))
    guard.before()
    assert guard.judge(0.002) == (0.0, False)
    guard = DisturbanceGuard(Scripted(Counters(0.0, None, 0.0), Counters(0.0, None, 0.05)))
    guard.before()
    assert guard.judge(0.5) == (pytest.approx(0.1), True)


@pytest.mark.parametrize(
    ("clean", "blocks", "answer"), [(8, 500, True), (7, 500, False), (1, 2, True), (1, 3, False), (0, 0, False)]
)
def test_how_many_clean_blocks_are_enough(clean, blocks, answer):
    assert enough(clean, blocks, least=8) is answer


# Two threads on one core, each of which lets go of the interpreter all the time.
CROWDED = """
import os, threading, time
from opbench.measure.disturbance import KernelCounters
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
kernel = KernelCounters()
def busy():
    end = time.process_time() + 0.2
    while time.process_time() < end:
        os.pread(kernel._stat, 1, 0)
other = threading.Thread(target=busy)
before = kernel.read()
other.start()
busy()
print(kernel.read().waiting - before.waiting)
"""


@pytest.mark.skipif(not LINUX, reason="needs Linux's /proc")
def test_two_threads_on_one_core_wait_for_each_other():
    done = subprocess.run([sys.executable, "-c", CROWDED], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 0.001


def test_the_probes_take_time_on_as_many_cores_as_are_asked_for():
    for threads in (1, 2):
        assert all(seconds > 0 for seconds in probes.Probes(threads).read())


def a_team(monkeypatch, readings):
    """Threads of torch's that find what `readings` says, one reading a call: of each thread, its five numbers."""
    given_out = iter(readings)

    def team(address, arguments, threads, flags):
        given = (ctypes.c_int64 * probe_code.ARGUMENTS).from_address(arguments)
        found = (ctypes.c_int64 * (probe_code.FINDINGS * threads)).from_address(given[probe_code.FOUND])
        found[:] = [number for thread in next(given_out) for number in thread]

    monkeypatch.setattr(launch, "team", lambda: team)


def test_a_probe_is_the_fastest_reading_of_the_slowest_core(monkeypatch):
    warm = ((10, 2, 30, 42, 1), (9, 20, 3, 32, 1))
    readings = [((90, 80, 70, 240, 1),) * 2, ((11, 3, 31, 45, 1),) * 2, warm]
    a_team(monkeypatch, readings * 2)
    assert probes.Probes(threads=2).read() == pytest.approx((10e-9, 3e-9, 30e-9))


def test_readings_of_cores_that_began_apart_or_waited_are_taken_again(monkeypatch):
    right, apart, waited = (7, 7, 7, 21, 1), (1, 1, 1, 3, 0), (2, 2, 2, 60, 1)
    a_team(monkeypatch, [(right, apart), (waited, right), *[(right, right)] * 20])
    assert probes.Probes(threads=2).read() == pytest.approx((7e-9, 7e-9, 7e-9))


def test_cores_that_never_run_together_make_no_clear_round(monkeypatch):
    a_team(monkeypatch, [((1, 1, 1, 3, 0),) * 2] * 100)
    probe = probes.Probes(threads=2).read()
    assert probe == (math.inf,) * 3
    assert not Phases().add(probe)


def test_a_few_clear_rounds_among_many_are_no_phase():
    clear = [at < 12 for at in range(200)]
    assert used(clear, range(200), 200, least=8).phase == "shared"
    assert used(clear, range(100), 100, least=8).phase == "clear"


def test_a_core_waits_for_the_others_before_it_begins():
    come = (ctypes.c_int64 * 1)(1)
    together = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)(probe_code.address("together"))
    assert together(come, 2) == 0  # nobody came
    come[0] = 2
    assert together(come, 2) == 1


def test_the_integer_loop_computes_every_round():
    rounds = 1000
    sums = [k + 1 for k in range(probe_code.CHAINS)]
    for number in range(rounds):
        sums = [(value ^ number) + 2 * k + 3 for k, value in enumerate(sums)]
    loop = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(probe_code.address("integers"))
    assert loop(rounds) == sum(sums)


def test_the_vector_loop_computes_every_round():
    firsts = [k + 1 for k in range(probe_code.CHAINS)]
    loop = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_int64)(probe_code.address("vectors"))
    assert loop(3) == sum(first / 8 + 0.5 + 0.25 + 0.125 for first in firsts)


PROBED = """
import sys, torch
from opbench.measure.disturbance import KernelCounters
from opbench.measure.probes import Probes
torch.set_num_threads(2)
probes = Probes(2)
import os
print(len(os.listdir("/proc/self/task")))
torch.ones(10**6).add_(1)
print(len(os.listdir("/proc/self/task")))
"""


@pytest.mark.skipif(not LINUX, reason="needs Linux's /proc")
def test_the_probes_run_on_torchs_own_threads_alone():
    done = subprocess.run([sys.executable, "-c", PROBED], capture_output=True, text=True, check=True)
    after_probes, after_torch = done.stdout.split()
    assert after_probes == after_torch  # a thread of a BLAS library's, or of their own, would spin beside torch's


def test_without_llvmlite_the_loop_is_interpreted(monkeypatch):
    monkeypatch.setattr(probes.importlib.util, "find_spec", lambda name: None)
    assert probes._compiled(2) is None
    assert all(seconds > 0 for seconds in probes.Probes(2).read())


def test_the_allowance_is_stated():
    assert disturbance.WAITED_SHARE_AT_MOST == 0.02


class Beside:
    """Surroundings by a script: `waits(name, round)` is the share of a block that is lost, `shared(round)` a phase."""

    def __init__(self, waits=lambda name, at: 0.0, shared=lambda at: False):
        self.waits, self.shared, self.round, self.name, self.guard = waits, shared, -1, "", self

    why = "for 50% of a block's time its threads were ready to run and had no core"

    def begin_panel(self):
        self.round = -1

    def begin_round(self):
        self.round += 1
        return not self.shared(self.round)

    def end_panel(self):
        return [not self.shared(at) for at in range(self.round + 1)]

    def before(self):
        pass

    def judge(self, seconds):
        lost = self.waits(self.name, self.round)
        return lost, lost > disturbance.WAITED_SHARE_AT_MOST

    def pause(self):
        pass


class ScriptedClock:
    """A clock by which a contender takes as long as a script says; a disturbed block takes ten times as long."""

    method = "cpu-wall"

    def __init__(self, beside, seconds):
        self.beside, self.seconds, self.time = beside, seconds, 0.0

    def prepare(self, call):
        pass

    def sample(self, call, calls):
        self.beside.name = call()
        lost = self.beside.round >= 0 and self.beside.waits(self.beside.name, self.beside.round) > 0.02
        shared = self.beside.round >= 0 and self.beside.shared(self.beside.round)
        jitter = 1 + 0.02 * ((7 * self.beside.round) % 5)
        seconds = calls * self.seconds[self.beside.name] * jitter * (10 if lost else 1) * (1.5 if shared else 1)
        self.time += seconds
        return seconds

    def now(self):
        return self.time


def timed(beside, budget=2.0):
    seconds = {"base": 0.01, "other": 0.02}
    clock = ScriptedClock(beside, seconds)
    return measure_panel(
        {name: (lambda name=name: name) for name in seconds},
        "base",
        clock=clock,
        precision=1e-9,
        budget_seconds=budget,
        first_call_seconds=dict.fromkeys(seconds, 0.1),
        seed=0,
        around=beside,
    ), clock


def test_figures_are_of_undisturbed_rounds():
    latencies, _ = timed(Beside(lambda name, at: 0.5 if name == "other" and at % 2 else 0.001))
    other = latencies["other"]
    assert other.left_out == (tuple(range(1, len(other.samples_seconds[0]), 2)),)
    assert other.waited[0][:2] == (1, 500)
    assert quartiles(other).upper_seconds < 0.03
    assert ratio(other, latencies["base"]).high < 2.2


def test_a_round_in_which_the_baseline_waited_is_no_pair():
    latencies, _ = timed(Beside(lambda name, at: 0.5 if name == "base" and at % 2 else 0.0))
    assert latencies["other"].left_out == latencies["base"].left_out != ()
    assert ratio(latencies["other"], latencies["base"]).value == pytest.approx(2.0)


def test_a_contender_without_enough_clean_rounds_is_disturbed_and_the_others_are_not():
    latencies, clock = timed(Beside(lambda name, at: 0.5 if name == "other" and at % 12 else 0.0))
    assert latencies["other"].stop == "disturbed"
    assert latencies["base"].stop == "budget"
    # Patience has an end: half of the budget more, and the round that was begun.
    assert clock.now() < 1.5 * 2.0 + 1.0


def test_a_disturbed_baseline_leaves_nobody_a_ratio():
    latencies, _ = timed(Beside(lambda name, at: 0.5 if name == "base" else 0.0))
    assert {name: latency.stop for name, latency in latencies.items()} == {"base": "disturbed", "other": "disturbed"}


def test_a_figure_is_of_one_phase():
    latencies, _ = timed(Beside(shared=lambda at: at % 3 == 0))
    other = latencies["other"]
    assert other.phase == "clear"
    assert other.left_out[0][:2] == (0, 3)
    assert quartiles(other).upper_seconds < 0.025


def test_where_the_machine_was_never_clear_the_figure_says_so():
    latencies, _ = timed(Beside(shared=lambda at: at != 2))
    assert latencies["other"].phase == "shared"
    assert latencies["other"].left_out == ((2,),)


def test_nothing_is_left_out_where_nothing_is_watched():
    beside = Beside(shared=lambda at: True)
    clock = ScriptedClock(beside, {"base": 0.01})
    latency = measure_panel(
        {"base": lambda: "base"}, "base", clock=clock, precision=0.01, budget_seconds=0.1,
        first_call_seconds={"base": 0.1}, seed=0,
    )["base"]  # fmt: skip
    assert (latency.phase, latency.left_out, latency.waited) == ("", (), ())


def readings(*integers):
    return [probes.Probe(value, 1.0, 1.0) for value in integers]


def test_a_phase_is_told_from_a_single_slow_probe():
    phases = Phases()
    for probe in readings(*[1.0] * 10, 1.5, *[1.0] * 10, *[1.4] * 10):
        phases.add(probe)
    clear = phases.clear()
    assert all(clear[:21])
    assert not any(clear[23:])


def test_the_best_of_earlier_panels_is_kept_to():
    phases = Phases(best=probes.Probe(1.0, 1.0, 1.0))
    assert not phases.add(probes.Probe(1.4, 1.0, 1.0))
    assert phases.known_best() == (1.0, 1.0, 1.0)


def replica(phase, seconds):
    samples = (seconds,) * 10
    return Latency("cpu-wall", 1, (samples,), 0.1, "budget", waited=((0,) * 10,), left_out=((0,),), phase=phase)


def merged(*phases):
    found = [(phase, 2.0 if phase == "shared" else 1.0) for phase in phases]
    case = Case("upsample2x", "w", "nearest", "torch", {}, "float32", "cpu", "inference")
    return merge([Record(case, "ok", latencies=(replica(*one),)) for one in found]).latencies[0]


def test_processes_of_another_phase_are_kept_and_not_counted():
    latency = merged("clear", "shared", "clear")
    assert latency.phase == "clear"
    assert latency.left_out == ((0,), tuple(range(10)), (0,))
    assert quartiles(latency).samples == 18
    assert quartiles(latency).upper_seconds == 1.0


def test_one_clear_process_of_three_is_too_few():
    latency = merged("clear", "shared", "shared")
    assert latency.phase == "shared"
    assert quartiles(latency).median_seconds == 2.0
