"""The scheduler: the longest first, later visits after earlier ones, lost ones again, nothing twice."""

from toy_plan import toy_plan

from opbench.engine.executor import Visit
from opbench.engine.fleet.scheduling import OVERDUE, OVERDUE_SECONDS, Scheduler

PANELS = toy_plan(4).panels
SECONDS = dict(zip((panel.id for panel in PANELS), (10.0, 40.0, 20.0, 30.0), strict=True))
FIRST = [Visit(0, panel) for panel in PANELS]
LATER = [Visit(1, panel) for panel in PANELS]


def seconds(visit):
    return SECONDS[visit.panel.id]


def taken(scheduler, now=0.0):
    found = []
    while (visit := scheduler.begin(now)) is not None:
        found.append(visit)
    return found


def test_the_longest_panels_are_begun_first():
    assert [seconds(visit) for visit in taken(Scheduler(FIRST, seconds))] == [40.0, 30.0, 20.0, 10.0]


def test_panels_of_one_length_keep_the_order_of_the_plan():
    assert taken(Scheduler(FIRST, lambda visit: 1.0)) == FIRST


def test_a_later_visit_waits_for_the_one_before_it_and_comes_after_all_first_ones():
    scheduler = Scheduler([*FIRST, *LATER], seconds)
    first = scheduler.begin(0.0)
    assert scheduler.finished(first)
    assert [visit.replica for visit in taken(scheduler)] == [0, 0, 0, 1]
    assert scheduler.left == 7


def test_a_visit_whose_earlier_one_was_measured_before_the_run_was_resumed_is_ready():
    assert len(taken(Scheduler(LATER, seconds))) == 4


def test_what_a_lost_node_had_is_given_to_another():
    scheduler = Scheduler(FIRST[:1], seconds)
    visit = scheduler.begin(0.0)
    assert scheduler.begin(0.0) is None
    scheduler.lost(visit)
    assert scheduler.begin(1.0) == visit
    assert scheduler.finished(visit)
    assert scheduler.left == 0


def test_a_node_that_is_lost_after_it_has_finished_costs_nothing():
    scheduler = Scheduler(FIRST[:1], seconds)
    visit = scheduler.begin(0.0)
    assert scheduler.finished(visit)
    scheduler.lost(visit)
    assert scheduler.begin(1.0) is None


def test_an_overdue_visit_is_given_to_one_idle_node_more_and_the_first_result_counts():
    scheduler = Scheduler(FIRST[1:2], seconds)
    visit = scheduler.begin(0.0)
    late = OVERDUE * seconds(visit)
    assert late > OVERDUE_SECONDS
    assert scheduler.begin(late) is None
    assert scheduler.begin(late + 1) == visit
    assert scheduler.begin(10 * late) is None, "two nodes have it"
    assert scheduler.finished(visit)
    assert not scheduler.finished(visit)


def test_of_an_overdue_visit_one_node_may_be_lost():
    scheduler = Scheduler(FIRST[:1], seconds)
    visit = scheduler.begin(0.0)
    assert scheduler.begin(1000.0) == visit
    scheduler.lost(visit)
    assert scheduler.left == 1
    assert scheduler.finished(visit)
