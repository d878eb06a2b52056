"""Nodes that are alike make one type; what differs is kept apart, and says why."""

from factory import make_case, make_environment
from msgspec.structs import replace

from opbench.engine.fleet.node_types import shared_out, told_apart
from opbench.schema import Panel, Plan, Skipped

HERE = make_environment()


def test_nodes_that_differ_in_what_times_depend_on_are_kept_apart_with_the_reason():
    newer = replace(HERE, versions={**HERE.versions, "torch": "9.9"})
    found = told_apart({"a": HERE, "b": newer, "c": HERE})
    assert [names for _, names in found] == [("a", "c"), ("b",)]
    first, second = (kind for kind, _ in found)
    assert first.apart == ""
    old = HERE.versions["torch"]
    assert second.apart == f"kept apart from {first.name}: torch {old} there, 9.9 here"
    assert second.name == f"{first.name}-2"


def test_types_have_the_same_names_in_whichever_order_their_nodes_come():
    newer = replace(HERE, versions={**HERE.versions, "torch": "9.9"})
    first, second = told_apart({"a": HERE, "b": newer}), told_apart({"b": newer, "a": HERE})
    assert [(kind.name, kind.environment) for kind, _ in first] == [(kind.name, kind.environment) for kind, _ in second]


def test_a_load_or_another_detail_makes_no_type():
    assert len(told_apart({"a": HERE, "b": replace(HERE, details={"load before": "9"})})) == 1


def panel(workload, device="cpu", dtype="float32", contenders=("toy[ok]", "toy[also-ok]")):
    cases = tuple(make_case(one, workload=workload, device=device, dtype=dtype) for one in contenders)
    return Panel(id=cases[0].panel_id, source="made up", baseline=cases[0].contender, cases=cases)


def panels_of(plans):
    return [[one.id for one in plan.panels] for plan in plans]


def test_all_panels_of_a_workload_go_to_one_type_and_every_panel_to_one():
    panels = tuple(panel(f"w{number}", dtype=dtype) for number in range(6) for dtype in ("float32", "bfloat16"))
    plans = [Plan("s", panels, ())] * 2
    seconds = {one.id: 10.0 + number for number, one in enumerate(panels)}
    shares = shared_out(plans, [1, 1], [seconds, seconds])
    assert sorted(one.id for share in shares for one in share.panels) == sorted(one.id for one in panels)
    workloads = [{one.cases[0].workload for one in share.panels} for share in shares]
    assert not workloads[0] & workloads[1]
    assert [len(one) for one in workloads] == [3, 3]


def test_a_type_with_more_slots_gets_more():
    panels = tuple(panel(f"w{number}") for number in range(8))
    seconds = dict.fromkeys((one.id for one in panels), 10.0)
    shares = shared_out([Plan("s", panels, ())] * 2, [3, 1], [seconds, seconds])
    assert [len(share.panels) for share in shares] == [6, 2]


def test_a_workload_goes_where_most_of_its_cases_can_be_measured_and_gpus_have_their_own():
    missing = Skipped(make_case("toy[ok]", workload="w", device="cuda").id, "no CUDA device on this machine")
    plain = Plan("s", (panel("w"),), (missing,))
    both = Plan("s", (panel("w", contenders=("toy[ok]",)), panel("w", device="cuda")), ())
    shares = shared_out([plain, both], [1, 1], [{}, {}])
    assert panels_of(shares) == [[panel("w").id], [panel("w", device="cuda").id]]
    assert [share.skipped for share in shares] == [(), ()], "what another type measures is not skipped"


def test_what_nobody_can_measure_is_told_of_by_the_first_type():
    missing = Skipped(make_case("toy[ok]", workload="w", device="cuda").id, "no CUDA device on this machine")
    plan = Plan("s", (panel("v"),), (missing,))
    shares = shared_out([plan, plan], [1, 1], [{}, {}])
    assert [share.skipped for share in shares] == [(missing,), ()]
