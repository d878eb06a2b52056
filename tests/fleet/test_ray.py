"""Runs over a real local cluster of Ray: the records of a run on one machine, nodes that are lost, how fast it is."""

import random
import threading
import time

import psutil
import pytest
from msgspec.structs import replace
from ray_processes import actors, fleet, wait_for
from toy_plan import REPLICAS, toy_plan, toy_run, toy_settings

from opbench.documents import read, save
from opbench.engine.entries import NAME, NodeLost, PanelFinished
from opbench.engine.entries import read as read_journal
from opbench.engine.run import execute
from opbench.schema import OpbenchError

KILLS = 20


def run_on(executor, folder, plan, settings=None, **more):
    return execute(
        plan,
        settings or toy_settings(),
        folder,
        command="toy",
        progress=lambda done, panel: None,
        executor=executor,
        finish=lambda run: save(run, folder / "run.json"),
        **more,
    )


def samples(run):
    """What must not be lost: of each case how many visits have how many samples."""
    return {
        record.case.id: (record.outcome, [len(one) for latency in record.latencies for one in latency.samples_seconds])
        for record in run.records
    }


def some_panels():
    """Three panels that take a second, and one of which a contender crashes."""
    whole, crashing = toy_plan(4, ("ok", "slow")), toy_plan(1, ("ok", "crashes"))
    return replace(whole, panels=(*crashing.panels, *whole.panels[1:]))


class Killer(threading.Thread):
    """Kills a slot's process at random moments, so many times; `hits` counts those that had a panel."""

    def __init__(self, executor, kills, seed=1):
        super().__init__(daemon=True)
        self.executor, self.left, self.draw = executor, kills, random.Random(seed)

    def run(self):
        while self.left:
            time.sleep(self.draw.uniform(0.05, 0.9))
            victims = actors() if self.executor.at_work else []
            if victims:
                try:
                    self.draw.choice(victims).kill()
                except psutil.Error:
                    continue
                self.left -= 1


def test_a_fleet_gives_the_records_of_one_machine_though_a_node_is_lost_on_the_way(toy_crew, tmp_path):
    crew, _ = toy_crew()
    executor, plan = fleet(crew), some_panels()
    killed = []

    def kill_one(done, panel):
        if done == 1 and not killed:
            wait_for(lambda: executor.at_work)
            killed.append(actors()[0])
            threading.Timer(0.4, killed[0].kill).start()

    there = execute(
        plan, toy_settings(), tmp_path / "fleet", command="toy", progress=kill_one, executor=executor,
        finish=lambda run: save(run, tmp_path / "fleet" / "run.json"),
    )  # fmt: skip
    here = toy_run(tmp_path / "here", plan=plan, limits=None)
    assert samples(there) == samples(here)
    assert {record.outcome for record in there.records} == {"ok", "crashed"}
    assert read(tmp_path / "fleet" / "run.json") == there
    # Every visit of every panel on one node, which says what it is and what it can do.
    visits = [(visit.process, visit.panel) for node in there.nodes for visit in node.visits]
    assert sorted(visits) == sorted((process, panel.id) for process in range(REPLICAS) for panel in plan.panels)
    assert len(there.nodes) == 2
    assert all(node.yardsticks for node in there.nodes)
    assert there.environment.details["fleet"] == "2 nodes"
    assert not here.nodes


@pytest.mark.nightly
def test_two_nodes_that_are_one_machine_take_turns_unless_cores_are_shared(toy_crew, tmp_path):
    crew, _ = toy_crew(share_cpu=False)
    executor = fleet(crew)
    most = []
    run = execute(
        toy_plan(3), toy_settings(replicas=1), tmp_path, command="toy", executor=executor,
        progress=lambda done, panel: most.append(executor.at_work if panel else 0),
    )  # fmt: skip
    assert max(most) == 0, "one is begun where another is measured"
    assert len(run.records) == 6


@pytest.mark.nightly
def test_a_worker_killed_mid_panel_20_times_loses_and_doubles_nothing(toy_crew, tmp_path):
    crew, _ = toy_crew()
    executor, plan = fleet(crew), toy_plan(40, ("ok", "slow"))
    journal = []

    def look(run):
        journal.extend(read_journal(tmp_path / NAME)[0])
        save(run, tmp_path / "run.json")

    killer = Killer(executor, KILLS)
    killer.start()
    run = execute(
        plan, toy_settings(), tmp_path, command="toy", progress=lambda *_: None, executor=executor, finish=look
    )
    assert killer.left == 0, "the run was over before all kills: make it longer"
    assert [record.case.id for record in run.records] == [case.id for panel in plan.panels for case in panel.cases]
    assert not [record.message for record in run.records if record.outcome != "ok"]
    assert all(len(latency.samples_seconds) == REPLICAS for record in run.records for latency in record.latencies)
    done = [(entry.replica, entry.panel) for entry in journal if isinstance(entry, PanelFinished)]
    assert len(done) == len(set(done)) == REPLICAS * len(plan.panels)
    assert sum(isinstance(entry, NodeLost) for entry in journal) >= KILLS // 2, "most kills must fall into a panel"


@pytest.mark.nightly
def test_what_was_finished_before_ctrl_c_is_kept_and_resumed(toy_crew, tmp_path):
    crew, _ = toy_crew()
    plan = toy_plan(8)

    def stop(done, panel):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(plan, toy_settings(), tmp_path, command="toy", progress=stop, executor=fleet(crew))
    crew.close()
    kept = [entry for entry in read_journal(tmp_path / NAME)[0] if isinstance(entry, PanelFinished)]
    assert len(kept) == 5
    again, _ = toy_crew()
    run = run_on(fleet(again), tmp_path, plan, resume=True)
    assert len(run.records) == 16
    by_case = {record.case.id: record for record in run.records}
    for entry in kept:
        for record in entry.records:
            assert record.latencies[0].samples_seconds[0] in by_case[record.case.id].latencies[0].samples_seconds


@pytest.mark.nightly
def test_an_error_of_the_code_on_a_node_is_named(toy_crew):
    crew, _ = toy_crew(words=("--suite", "no-such-suite"))
    (slot, *_) = crew.claim(None)
    with pytest.raises(OpbenchError, match=r"^unknown suite 'no-such-suite'"):
        crew.cluster.answer(slot.actor.plan.remote())
