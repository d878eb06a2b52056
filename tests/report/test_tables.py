"""A run as tables: every case a row, every missing number a word."""

import math

import pytest
from factory import (
    make_case,
    make_counts,
    make_failure,
    make_incorrect,
    make_latency,
    make_memory,
    make_panels,
    make_record,
    make_run,
    make_verdict,
)

from opbench.analyse.standings import contests, standings
from opbench.report import evidence, limits, tables
from opbench.schema import Counted, Skipped, Yardstick

BASELINE, CARAFE = make_case(), make_case("carafe[cpu]")


def panel_of(*records, **changes):
    (standing,) = standings(make_run(records, **changes))
    return standing


def cells(table, contender):
    """One row as a dictionary by column heading."""
    (row,) = [row for row in table.rows if row[0] == contender]
    return dict(zip(table.header, row, strict=True))


def test_a_row_answers_what_a_contender_costs():
    carafe = make_record(
        CARAFE,
        ratio=3.0,
        counts=make_counts(152_000_000, 74_148),
        memory=make_memory(34 << 20),
        verdict=make_verdict(max_error=1.5),
    )
    got = cells(tables.panel(panel_of(make_record(BASELINE), carafe)), "carafe[cpu]")
    assert got["latency vs baseline"].startswith(("3.0", "2.9"))
    assert "[" in got["latency vs baseline"]
    assert got["median latency"].endswith(" ms")
    assert got["params"] == "74,148"
    assert got["MACs (inference)"] == "152 M"
    assert got["peak memory"] == "34.0 MiB"
    assert got["max error (eps·Σ|terms|)"] == "1.50"
    assert got["outcome"] == "correct"


def test_macs_are_never_shown_without_saying_what_they_are_in_flops():
    standing = panel_of(make_record(BASELINE))
    for table in (tables.panel(standing), evidence.counts([standing]), tables.contest(contests([standing])[0])):
        assert "1 MAC = 2 FLOPs" in table.note


def test_the_note_says_how_the_intervals_were_made():
    note = tables.panel(panel_of(make_record(BASELINE), make_record(CARAFE, rounds=3))).note
    assert "fewer than six paired rounds" in note


@pytest.mark.parametrize(
    ("record", "outcome", "latency"),
    [
        (make_failure(CARAFE, "out-of-memory", "asked for 96 GiB"), "out-of-memory: asked for 96 GiB", "out-of-memory"),
        (make_failure(CARAFE, "timed-out", ""), "timed-out", "timed-out"),
        (make_incorrect(CARAFE), "incorrect: output differs from the definition", "incorrect"),
        (make_record(CARAFE, latencies=()), "correct", "not timed"),
        (make_record(CARAFE, verdict=None, final_verdict=None), "ok, not verified", None),
        (make_record(CARAFE, final_verdict=make_verdict(sampled=True)), "correct (sampled)", None),
    ],
)
def test_an_outcome_is_named(record, outcome, latency):
    got = cells(tables.panel(panel_of(make_record(BASELINE), record)), "carafe[cpu]")
    assert got["outcome"] == outcome
    assert latency is None or got["latency vs baseline"] == latency


def test_no_cell_of_any_table_is_blank():
    planned = [make_record(case) for case in (BASELINE, CARAFE, make_case("deconv[torch]"))]
    bare = make_record(CARAFE, counts=None, memory=None, verdict=None, final_verdict=None, latencies=())
    run = make_run([make_failure(BASELINE, message=""), bare], panels=make_panels(planned))
    standing = standings(run)
    every = [
        *map(tables.panel, standing), *map(tables.samples, standing), *map(tables.contest, contests(standing)),
        evidence.failures(standing), evidence.skipped(run), evidence.counts(standing), limits.yardsticks(run),
        evidence.environment(run),
    ]  # fmt: skip
    assert all(cell.strip() for table in every for row in table.rows for cell in row)
    assert all(len(row) == len(table.header) for table in every for row in table.rows)


def test_a_missing_number_is_not_measured_rather_than_zero():
    bare = make_record(CARAFE, counts=None, memory=make_memory(peak_bytes=None, saved_bytes=None))
    got = cells(tables.panel(panel_of(make_record(BASELINE), bare)), "carafe[cpu]")
    assert got["params"] == got["MACs (inference)"] == got["peak memory"] == "not measured"


def test_a_predicted_size_says_so():
    got = cells(
        tables.panel(panel_of(make_record(BASELINE, memory=make_memory(1 << 30, predicted=True)))), "nearest[torch]"
    )
    assert got["peak memory"] == "1.00 GiB (predicted)"


def test_the_error_is_the_worst_of_both_verdicts():
    for worse in (7.0, math.inf, math.nan):
        record = make_record(BASELINE, verdict=make_verdict(max_error=1.0), final_verdict=make_verdict(max_error=worse))
        got = cells(tables.panel(panel_of(record)), "nearest[torch]")
        assert got["max error (eps·Σ|terms|)"] == {7.0: "7.00", math.inf: "infinite"}.get(worse, "not a number")


def test_both_modes_of_a_workload_stand_side_by_side():
    records = [
        make_record(make_case(name, mode=mode), ratio=ratio, memory=make_memory(1 << 20, 5 << 20))
        for mode, ratio in (("inference", 2.0), ("training", 4.0))
        for name in ("nearest[torch]", "carafe[cpu]")
    ]
    (contest,) = contests(standings(make_run(records)))
    got = cells(tables.contest(contest), "carafe[cpu]")
    assert got["saved for backward"] == "5.00 MiB"
    assert {"inference latency vs baseline", "training latency vs baseline"} <= set(got)


def test_a_contender_that_one_mode_lacks_is_not_planned_there():
    training = {"mode": "training"}
    records = [make_record(BASELINE), make_record(CARAFE), make_record(make_case(**training))]
    (contest,) = contests(standings(make_run(records)))
    assert cells(tables.contest(contest), "carafe[cpu]")["training latency vs baseline"] == "not planned"


def test_each_timing_method_has_its_own_columns():
    both = (make_latency(method="cuda-events-cold"), make_latency(method="cuda-graph-hot"))
    header = tables.panel(panel_of(make_record(BASELINE, latencies=both))).header
    assert "latency vs baseline (cuda-events-cold)" in header
    assert "median latency (cuda-graph-hot)" in header


def test_samples_say_what_stopped_them():
    table = tables.samples(panel_of(make_record(BASELINE, latencies=(make_latency(stop="budget", processes=3),))))
    got = cells(table, "nearest[torch]")
    assert (got["stopped by"], got["samples"], got["calls per sample"]) == ("budget", "60 in 3 processes", "16")


@pytest.mark.parametrize(
    ("counts", "agree"),
    [
        (make_counts(100), "yes"),
        (make_counts(100, torch=Counted(99)), "NO: torch"),
        (make_counts(100, torch=Counted(99), fvcore=Counted(98)), "NO: torch, fvcore"),
        (make_counts(100, fvcore=Counted(None, note="forward only")), "yes, without fvcore"),
        (make_counts(100, torch=Counted(None), fvcore=Counted(None)), "nothing to compare"),
    ],
)
def test_counts_agree_or_name_the_counter_that_does_not(counts, agree):
    table = evidence.counts([panel_of(make_record(BASELINE, counts=counts))])
    assert cells(table, "nearest[torch]")["agree"] == agree


def test_what_a_counter_missed_is_listed_with_how_often_it_ran():
    counts = make_counts(100, torch=Counted(100, {"aten.softmax": 2, "aten.mul": 1}), stock_torch=Counted(40))
    got = cells(evidence.counts([panel_of(make_record(BASELINE, counts=counts))]), "nearest[torch]")
    assert got["unaccounted by torch"] == "aten.mul x1, aten.softmax x2"
    assert got["unaccounted by fvcore"] == "nothing"
    assert got["stock torch sees"] == "40 (40 %)"


def test_counts_that_dtypes_share_are_one_row_and_others_are_not():
    alike = [make_record(make_case(dtype=dtype)) for dtype in ("float32", "float16")]
    assert len(evidence.counts(standings(make_run(alike))).rows) == 1
    other = make_record(make_case(dtype="float16"), counts=make_counts(7))
    assert len(evidence.counts(standings(make_run([alike[0], other]))).rows) == 2


def test_failures_name_the_case_and_the_worst_element():
    (row,) = evidence.failures([panel_of(make_record(BASELINE), make_incorrect(CARAFE))]).rows
    assert row[:2] == (CARAFE.id, "incorrect")
    assert row[3] == "output[0, 3, 2, 1]: expected 0.250000, got 0.750000, error 13.2 x bound"


def test_the_tally_counts_every_case_once():
    run = make_run()
    assert evidence.tally(standings(run), run) == "59 cases: 54 ok, 1 incorrect, 4 out-of-memory; 1 skipped"


def test_skipped_contenders_of_a_panel_share_a_row_if_they_share_the_reason():
    skips = (("a", "no CUDA device"), ("b[x]", "no CUDA device"), ("c", "float16 only"))
    run = make_run([], skipped=tuple(Skipped(f"task/w/float32/cuda/inference/{name}", why) for name, why in skips))
    panel = "task/w/float32/cuda/inference"
    assert evidence.skipped(run).rows == ((panel, "a, b[x]", "no CUDA device"), (panel, "c", "float16 only"))


def test_limits_compare_a_contender_with_the_machine():
    record = make_record(BASELINE, seconds=1.0, counts=make_counts(10**9, min_bytes=10**9))
    yardsticks = (
        Yardstick("copy", "cpu", "float32", "bytes/second", (10e9,)),
        Yardstick("matmul", "cpu", "float32", "macs/second", (2e9,)),
    )
    run = make_run([record], yardsticks=yardsticks)
    got = cells(limits.limits(standings(run)[0], run), "nearest[torch]")
    assert got["MACs per byte"] == "1.00"
    assert (got["max error (eps·Σ|terms|)"], got["RMS error (eps·Σ|terms|)"]) == ("0.410", "0.0800")
    assert float(got["of copy rate"].split()[0]) == pytest.approx(10, abs=1)
    assert float(got["of matmul rate"].split()[0]) == pytest.approx(50, abs=3)
    assert got["of roofline"] == got["of matmul rate"]


def test_a_yardstick_without_a_usable_sample_is_not_measured():
    broken = Yardstick("copy", "cpu", "float32", "bytes/second", (0.0, math.inf, math.nan))
    run = make_run([make_record()], yardsticks=(broken,))
    assert cells(limits.yardsticks(run), "copy")["median"] == "not measured"
    assert limits.limits(standings(run)[0], run).rows == ()


def test_there_are_no_limits_without_yardsticks():
    run = make_run([make_record()], yardsticks=())
    assert limits.limits(standings(run)[0], run).rows == ()


def test_in_training_the_least_traffic_is_twice_that_of_forward():
    record = make_record(make_case(mode="training"), counts=make_counts(min_bytes=1 << 20))
    run = make_run([record])
    assert cells(limits.limits(standings(run)[0], run), "nearest[torch]")["least traffic"] == "2.00 MiB"
