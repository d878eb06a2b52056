"""What a journal of several machines says of them, how a lost node counts, and how long panels are thought to take."""

from factory import make_environment, make_latency, make_record, make_run
from msgspec.structs import replace

from opbench.engine.convictions import KILLED_ALONE_IN_A_FLEET, kills_the_run
from opbench.engine.entries import Header, NodeLost, PanelFinished, Surroundings, session
from opbench.engine.estimate import seconds_of
from opbench.engine.fleet.node import outline
from opbench.engine.journal import Journal
from opbench.engine.machines import measured_on
from opbench.schema import Node, NodeVisit, Settings, Yardstick

HEADER = Header(Settings("toy", precision=0.01, budget_seconds=1.0), {"a": "1"}, {}, None, "2026-01-01T00:00:00+00:00")


def copies(*samples, fits=None):
    return Yardstick("copy", "cpu", "float32", "bytes/second", samples, fits_bytes=fits)


def surroundings(node, *yardsticks, **changes):
    return Surroundings(make_environment(**changes), yardsticks, 1.0, 2.0, node=node)


def journal(folder, *entries):
    with Journal(folder, HEADER, session("toy", "now"), resume=True) as opened:
        for entry in entries:
            opened.append(entry)
    return opened


def machines_of(opened):
    return measured_on(opened.nodes, opened.finished)


def finished(panel, replica, node):
    return PanelFinished(replica, panel, (make_record(),), 1.0, 3.0, node=node)


def test_of_one_machine_a_document_says_nothing_of_nodes(tmp_path):
    found = machines_of(journal(tmp_path, surroundings("", copies(1.0)), finished("a", 0, "")))
    assert found.nodes == ()
    assert found.yardsticks == (copies(1.0),)
    assert found.environment == make_environment()


def test_every_node_that_measured_is_listed_with_its_visits_and_yardsticks_are_pooled(tmp_path):
    entries = (
        surroundings("one", copies(1.0, 2.0, fits=200)),
        surroundings("two", copies(4.0, fits=100), details={"load before": "0.5"}),
        surroundings("idle", copies(900.0)),
        finished("a", 0, "one"),
        finished("a", 1, "two"),
        finished("b", 0, "two"),
    )
    found = machines_of(journal(tmp_path, *entries))
    assert [(node.name, node.visits) for node in found.nodes] == [
        ("one", (NodeVisit("a", 0, 3.0),)),
        ("two", (NodeVisit("b", 0, 3.0), NodeVisit("a", 1, 3.0))),
    ]
    assert found.nodes[1].environment.details == {"load before": "0.5"}
    assert found.yardsticks == (copies(1.0, 2.0, 4.0, fits=100),)
    assert found.environment.details["fleet"] == "2 nodes"


def test_a_journal_that_is_opened_again_knows_its_nodes_and_what_was_lost_with_one(tmp_path):
    journal(tmp_path, surroundings("one"), surroundings("two"), NodeLost(0, "a", ("a/x",), "two", "gone"))
    again = journal(tmp_path)
    assert list(again.nodes) == ["one", "two"]
    assert again.surroundings.node == "one"
    assert again.killed == {(0, "a"): [("a/x",)]}


def test_a_contender_is_convicted_of_lost_nodes_only_by_many_that_were_lost_with_it_alone():
    case = make_record().case
    together, alone = (case.id, "another"), (case.id,)
    killed = [together, together, *[alone] * KILLED_ALONE_IN_A_FLEET]
    assert kills_the_run(case, killed[:-1], preempted=True) is None
    assert kills_the_run(case, killed[:3]) is not None, "the run itself is killed by nobody else"
    record = kills_the_run(case, killed, preempted=True)
    assert record.outcome == "crashed"
    assert record.message == "its node was lost 22 times while this was measured, 20 of them alone"


def test_a_later_visit_is_told_outcomes_and_calls_and_no_samples():
    latency = replace(make_latency(), calls_per_sample=7)
    entry = finished("a", 0, "one")
    told = outline(replace(entry, records=(make_record(latencies=(latency,)),)))
    (record,) = told.records
    assert (record.outcome, record.latencies[0].calls_per_sample) == ("ok", 7)
    assert record.latencies[0].samples_seconds == ((),)


def test_an_earlier_run_says_how_long_its_panels_took_by_its_nodes_or_else_its_samples():
    run = make_run()
    by_samples = seconds_of(run)
    assert set(by_samples) == {panel.id for panel in run.panels}
    assert max(by_samples.values()) > 0
    visits = (NodeVisit("a", 0, 3.0), NodeVisit("a", 1, 2.0))
    assert seconds_of(replace(run, nodes=(Node("one", run.environment, (), visits),))) == {"a": 5.0}
