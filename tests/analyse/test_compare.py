"""Two runs held against each other: what changed, what stayed, what can't be said."""

import msgspec
import pytest
from factory import (
    make_case,
    make_counts,
    make_environment,
    make_failure,
    make_latency,
    make_memory,
    make_record,
    make_run,
)

from opbench.analyse.compare.runs import compare
from opbench.schema import PAIRED, CoreShare, OpbenchError
from opbench.statistics.change import Allowance

KNOWN = Allowance(0.003, 50.0, "measured")
NEAREST, CARAFE = make_case(), make_case("carafe[cpu]")
OPERATORS = {"aten.convolution": 2, "aten.add": 1}


def timed(case, ratio=1.0, seed=0, processes=4, rounds=40, **changes):
    latency = make_latency(ratio=ratio, seed=f"{case.id}/{seed}", processes=processes, rounds=rounds, noise=0.01)
    fields = {"counts": make_counts(dispatched=OPERATORS), "latencies": (latency,)}
    return make_record(case, **{**fields, **changes})


def run(seed, ratio=3.0, environment=None, **changes):
    records = [timed(NEAREST, seed=seed), timed(CARAFE, ratio, seed, **changes)]
    return make_run(records, environment=environment or make_environment())


def row(comparison, case=CARAFE):
    return next(row for row in comparison.rows if row.case == case)


def verdict(comparison, case=CARAFE):
    (time,) = row(comparison, case).times
    return time.decision


def exact(comparison, case=CARAFE):
    return {(found.name, found.change) for found in row(comparison, case).quantities}


def test_a_document_against_itself_is_the_same_throughout():
    found = compare(run(1), run(1))
    assert not found.regressed
    assert {time.decision for row in found.rows for time in row.times} == {"same"}
    assert not any(row.quantities or row.left_out for row in found.rows)


def test_held_memory_is_compared_where_both_runs_have_it():
    older, newer, larger = (run(1, memory=make_memory(held_bytes=held)) for held in (None, 1000, 1100))
    assert exact(compare(newer, larger)) == {("held", "regressed")}
    assert not compare(newer, larger, allow=("held",)).regressed
    found = compare(older, newer)
    assert not found.regressed
    assert row(found).left_out == ("held: not recorded in base",)


def test_what_neither_of_two_old_documents_has_is_not_spoken_of():
    old, later = (run(seed, memory=make_memory(held_bytes=None)) for seed in (1, 2))
    assert row(compare(old, later)).left_out == ()


@pytest.mark.parametrize("outcome", ["disturbed", "throttled"])
def test_a_busy_machine_is_no_change_and_what_needs_no_clock_is_compared_all_the_same(outcome):
    busy = run(2, outcome=outcome, message="for 40 % of a block's time ...", latencies=())
    larger = run(2, outcome=outcome, latencies=(), memory=make_memory(peak_bytes=(1 << 20) + 1))
    for base, head in ((run(1), busy), (busy, run(1)), (busy, busy)):
        found = compare(base, head)
        assert not found.regressed
        assert not exact(found)
        (said,) = row(found).left_out
        assert said.startswith("time: ")
        assert outcome in said
    assert exact(compare(run(1), larger)) == {("peak", "regressed")}


def test_a_loud_document_is_the_same_as_itself_too():
    """One measurement, not two that agree: its noise says nothing about a difference."""
    loud = run(1, latencies=(make_latency(ratio=3.0, seed="loud", processes=4, rounds=8, noise=0.5),))
    assert verdict(compare(loud, loud)) == "same"


def test_two_runs_of_the_same_code_are_the_same():
    found = compare(run(1), run(2))
    assert verdict(found) == "same"
    assert not found.regressed


def test_ten_percent_slower_is_a_regression():
    found = compare(run(1), run(2, ratio=3.3))
    (time,) = row(found).times
    assert time.decision == "regressed"
    assert time.low < 1.10 < time.high
    assert found.regressed


def test_ten_percent_faster_is_an_improvement_and_no_bad_news():
    found = compare(run(1), run(2, ratio=3.0 / 1.1))
    assert verdict(found) == "improved"
    assert not found.regressed


def test_what_noise_hides_is_undecided():
    loud = make_latency(ratio=3.2, seed="loud", processes=4, rounds=8, noise=0.4)
    found = compare(run(1), run(2, latencies=(loud,)))
    assert verdict(found) == "undecided"
    assert not found.regressed


def test_a_machine_that_was_slower_that_day_changes_no_ratio_but_the_absolute_time_shows_it():
    slow = run(2)
    records = tuple(
        msgspec.structs.replace(
            record,
            latencies=tuple(
                msgspec.structs.replace(
                    latency, samples_seconds=tuple(tuple(1.3 * s for s in p) for p in latency.samples_seconds)
                )
                for latency in record.latencies
            ),
        )
        for record in slow.records
    )
    found = compare(run(1), msgspec.structs.replace(slow, records=records))
    (time,) = row(found).times
    assert time.decision == "same"
    assert time.absolute == pytest.approx(1.3, rel=0.05)


def test_runs_are_compared_within_a_phase_of_their_machine():
    def of(phase, seed):
        found = run(seed)
        latencies = [tuple(msgspec.structs.replace(one, phase=phase) for one in r.latencies) for r in found.records]
        records = [msgspec.structs.replace(r, latencies=each) for r, each in zip(found.records, latencies, strict=True)]
        return msgspec.structs.replace(found, records=tuple(records))

    assert row(compare(of("clear", 1), of("clear", 2))).times
    apart = row(compare(of("clear", 1), of("shared", 2)))
    assert apart.times == ()
    assert "base is of the clear phase of its machine, head of the shared one" in apart.left_out[0]


def test_the_baselines_own_ratio_is_not_compared():
    assert row(compare(run(1), run(2)), NEAREST).times == ()


def test_a_larger_minimum_effect_forgives_more():
    base, head = run(1), run(2, ratio=3.15)
    assert verdict(compare(base, head)) == "regressed"
    assert verdict(compare(base, head, minimum_effect=0.10)) == "same"


def test_single_processes_are_judged_with_an_allowance_that_is_said():
    base, head = (run(seed, ratio, processes=1) for seed, ratio in ((1, 3.0), (2, 3.15)))
    base, head = (
        msgspec.structs.replace(side, records=(timed(NEAREST, seed=i, processes=1), side.records[1]))
        for i, side in enumerate((base, head))
    )
    assert verdict(compare(base, head)) == "undecided"
    known = compare(base, head, allowance=KNOWN)
    assert verdict(known) == "regressed"
    assert known.allowance == KNOWN
    assert compare(run(1), run(2)).allowance is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"memory": make_memory(peak_bytes=(1 << 20) + 1)}, ("peak", "regressed")),
        ({"memory": make_memory(peak_bytes=(1 << 20) - 1)}, ("peak", "improved")),
        ({"memory": make_memory(saved_bytes=4)}, ("saved", "regressed")),
        ({"counts": make_counts(params=1, dispatched=OPERATORS)}, ("params", "changed")),
        ({"counts": make_counts(macs=999_999, dispatched=OPERATORS)}, ("macs", "changed")),
        ({"counts": make_counts(min_bytes=5, dispatched=OPERATORS)}, ("min-bytes", "changed")),
        ({"counts": make_counts(dispatched={**OPERATORS, "aten.add": 2})}, ("operators", "changed")),
    ],
)
def test_any_deterministic_difference_is_a_change(changes, expected):
    found = compare(run(1), run(2, **changes))
    assert exact(found) == {expected}
    assert found.regressed == (expected[1] != "improved")


def test_a_change_that_was_meant_does_not_fail_the_gate():
    head = run(2, counts=make_counts(dispatched={"aten.convolution": 1}))
    assert compare(run(1), head).regressed
    assert not compare(run(1), head, allow=["operators"]).regressed
    assert compare(run(1), head, allow=["peak"]).regressed


def test_operators_that_differ_are_named():
    (found,) = row(compare(run(1), run(2, counts=make_counts(dispatched={"aten.convolution": 2})))).quantities
    assert (found.base, found.head) == ("aten.add x1", "aten.add x0")


def test_a_case_that_fails_now_is_a_regression_and_one_that_no_longer_fails_is_not():
    broken = make_run([timed(NEAREST), make_failure(CARAFE, "incorrect")])
    assert exact(compare(run(1), broken)) == {("outcome", "regressed")}
    assert exact(compare(broken, run(1))) == {("outcome", "improved")}
    assert not compare(broken, run(1)).regressed
    assert "incorrect in base" in row(compare(broken, run(1))).left_out[0]


def test_another_machine_leaves_the_time_out_and_still_gates_the_rest():
    elsewhere = make_environment(cpu="Another CPU")
    found = compare(run(1), run(2, ratio=9.0, environment=elsewhere, memory=make_memory(peak_bytes=2 << 20)))
    assert not any(row.times for row in found.rows)
    assert exact(found) == {("peak", "regressed")}
    assert found.regressed
    assert "machine differs (cpu Example CPU @ 2.10GHz -> Another CPU); left out: time" in found.notes[0]


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("threads", {"threads": 1}),
        ("versions", {"versions": {"torch": "2.7.0", "numpy": "2.1.0"}}),
        ("versions", {"python": "3.12.0"}),
        ("machine", {"cores": 64}),
        ("machine", {"gpu": "H100"}),
    ],
)
def test_a_difference_can_be_overruled_and_is_said_either_way(kind, changes):
    head = run(2, ratio=3.3, environment=make_environment(**changes))
    left_out, compared = compare(run(1), head), compare(run(1), head, across=[kind])
    assert not row(left_out).times
    assert not left_out.regressed
    assert verdict(compared) == "regressed"
    assert "left out: time" in left_out.notes[0]
    assert "compared all the same" in compared.notes[0]


@pytest.mark.parametrize(
    ("base", "head", "said"),
    [
        (CoreShare(2), CoreShare(1), "allowed cores 2 -> 1"),
        (CoreShare(2), CoreShare(2, quota=0.5), "quota none -> 0.5 cores"),
        (CoreShare(2, quota=2.0), CoreShare(2, quota=0.5), "quota 2 cores -> 0.5 cores"),
        (CoreShare(2, physical=2), CoreShare(2, physical=1), "physical cores among the 2 allowed 2 -> 1"),
        (
            CoreShare(2, governor="performance"),
            CoreShare(2, governor="powersave"),
            "the clock's governor performance ->",
        ),
        (CoreShare(2, hyperthreads="on"), CoreShare(2, hyperthreads="off"), "hyperthreads on -> off"),
    ],
)
def test_another_share_of_the_same_machine_leaves_the_time_out_and_is_said(base, head, said):
    runs = run(1, environment=make_environment(share=base)), run(2, ratio=3.3, environment=make_environment(share=head))
    found = compare(*runs)
    assert not any(row.times for row in found.rows)
    assert f"machine differs ({said}" in found.notes[0]
    assert verdict(compare(*runs, across=["machine"])) == "regressed"


@pytest.mark.parametrize("head", [None, CoreShare(2, governor="powersave"), CoreShare(2, physical=1)])
def test_what_an_older_document_does_not_record_is_no_difference(head):
    base = None if head else CoreShare(1)
    bare = CoreShare(2) if head else None
    for before in (base, bare):
        runs = run(1, environment=make_environment(share=before)), run(2, environment=make_environment(share=head))
        assert compare(*runs).notes == ()


def test_another_torch_leaves_out_what_torch_allocates_and_dispatches_but_not_macs():
    torch = make_environment(versions={"torch": "2.7.0", "numpy": "2.1.0"})
    head = run(
        2, environment=torch, memory=make_memory(peak_bytes=9 << 20), counts=make_counts(macs=5, dispatched={"a": 1})
    )
    assert exact(compare(run(1), head)) == {("macs", "changed")}


def test_the_version_of_opbench_itself_is_what_is_compared():
    versions = {"torch": "2.6.0", "numpy": "2.1.0", "opbench": "9.9"}
    assert compare(run(1), run(2, environment=make_environment(versions=versions))).notes == ()


def test_a_case_whose_definition_changed_is_left_out_and_why_is_said():
    smaller = make_case("carafe[cpu]", dims={"N": 1, "C": 128, "H": 20, "W": 20})
    head = make_run([timed(NEAREST), timed(smaller)])
    found = next(row for row in compare(run(1), head).rows if row.case == smaller)
    assert not found.times
    assert not found.quantities
    assert "'C': 256" in found.left_out[0]
    assert "'C': 128" in found.left_out[0]


def test_a_baseline_that_differs_leaves_no_ratio_to_compare():
    other = make_case(dims={"N": 1, "C": 128, "H": 20, "W": 20})
    head = make_run([timed(other), timed(CARAFE, 9.0)])
    assert not row(compare(run(1), head)).times
    assert "baseline is not the same" in row(compare(run(1), head)).left_out[0]


def test_an_older_document_without_operators_says_that_they_were_not_recorded():
    older = run(1, counts=make_counts())
    found = compare(older, run(2))
    assert "operators: not recorded in base" in row(found).left_out
    assert not found.regressed


def test_memory_measured_in_another_way_is_no_pair():
    found = compare(run(1), run(2, memory=make_memory(method="fake-dispatch", peak_bytes=5)))
    assert not row(found).quantities
    assert any("fake-dispatch in head" in reason for reason in row(found).left_out)


def test_cases_that_one_run_lacks_are_listed():
    more = make_run([timed(NEAREST), timed(CARAFE, 3.0), timed(make_case("deconv[torch]"), 2.0)])
    assert compare(run(1), more).only_in_head == (make_case("deconv[torch]").id,)
    assert compare(more, run(1)).only_in_base == (make_case("deconv[torch]").id,)


def test_runs_without_a_common_case_are_refused():
    with pytest.raises(OpbenchError, match="no case in common"):
        compare(run(1), make_run([timed(make_case(workload="other"))]))


def test_a_panel_that_moves_together_points_at_its_baseline():
    names = ("bilinear[torch]", "deconv[torch]", "carafe[cpu]")
    base = make_run([timed(NEAREST, seed=1), *(timed(make_case(name), 3.0, seed=1) for name in names)])
    head = make_run([timed(NEAREST, seed=2), *(timed(make_case(name), 3.6, seed=2) for name in names)])
    assert any("rather their baseline changed" in note for note in compare(base, head).notes)
    assert not any("rather" in note for note in compare(run(1), run(2, ratio=3.6)).notes)


def paired(ratio, seed, token="one"):
    where = make_environment(details={PAIRED: token})
    return make_run([timed(NEAREST, ratio, seed), timed(CARAFE, 3.0 * ratio, seed)], environment=where)


def test_paired_documents_are_compared_round_by_round_the_baseline_too():
    found = compare(paired(1.0, 1), paired(1.1, 2))
    assert found.paired
    assert verdict(found) == verdict(found, NEAREST) == "regressed"


def test_documents_of_two_paired_runs_are_no_pairs():
    assert not compare(paired(1.0, 1, "one"), paired(1.1, 2, "two")).paired
    assert verdict(compare(paired(1.0, 1, "one"), paired(1.1, 2, "two"))) == "same"


def test_false_alarms_over_many_rows_stay_below_one_percent():
    names = [make_case(f"carafe[{index}]") for index in range(25)]
    called = 0
    for seed in range(20):
        base, head = (
            make_run([timed(NEAREST, seed=(seed, side)), *(timed(name, 3.0, (seed, side), 3, 20) for name in names)])
            for side in range(2)
        )
        found = compare(base, head)
        called += sum(time.decision in ("regressed", "improved") for row in found.rows for time in row.times)
    assert called <= 0.01 * 500
