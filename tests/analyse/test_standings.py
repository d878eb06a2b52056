"""The run document joined into one row per case."""

import pytest
from factory import make_case, make_failure, make_latency, make_panels, make_record, make_run

from opbench.analyse.standings import contests, standings

BASELINE, BILINEAR, CARAFE = (make_case(name) for name in ("nearest[torch]", "bilinear[torch]", "carafe[cpu]"))


def only(run):
    (standing,) = standings(run)
    return standing


def test_every_case_has_one_row_and_the_baseline_is_marked():
    standing = only(make_run([make_record(BASELINE), make_record(BILINEAR, ratio=2.0)]))
    assert [row.case.contender for row in standing.rows] == ["nearest[torch]", "bilinear[torch]"]
    assert [row.is_baseline for row in standing.rows] == [True, False]
    assert standing.row("bilinear[torch]").timing("cpu-wall").ratio.value == pytest.approx(2.0, rel=0.02)


def test_a_planned_case_without_a_record_is_not_run():
    planned = make_panels([make_record(BASELINE), make_record(BILINEAR)])
    standing = only(make_run([make_record(BASELINE)], panels=planned))
    row = standing.row("bilinear[torch]")
    assert row.outcome == "not-run"
    assert row.timing("cpu-wall").missing == "not-run"


def test_a_record_without_a_panel_is_kept_without_a_ratio():
    row = only(make_run([make_record(BILINEAR)], panels=())).rows[0]
    assert row.timing("cpu-wall").missing == "no baseline"
    assert row.timing("cpu-wall").latency is not None


@pytest.mark.parametrize(
    ("baseline", "missing"),
    [
        (make_failure(BASELINE, "crashed"), "baseline crashed"),
        (make_record(BASELINE, outcome="throttled"), "baseline throttled"),
        (make_record(BASELINE, latencies=()), "baseline has no cpu-wall"),
        (make_record(BASELINE, latencies=(make_latency(rounds=0),)), "no paired round"),
    ],
)
def test_a_ratio_without_a_baseline_names_what_became_of_it(baseline, missing):
    row = only(make_run([baseline, make_record(BILINEAR)])).row("bilinear[torch]")
    assert row.timing("cpu-wall").ratio is None
    assert row.timing("cpu-wall").missing == missing


def test_a_baseline_that_was_planned_away_is_not_planned():
    row = only(make_run([make_record(BILINEAR)])).rows[0]
    assert row.timing("cpu-wall").missing == "baseline not planned"


def test_only_a_correct_case_has_a_latency_to_quote():
    throttled = make_record(BILINEAR, outcome="throttled", ratio=0.5)
    row = only(make_run([make_record(BASELINE), throttled])).row("bilinear[torch]")
    assert row.timings == ()
    assert row.timing("cpu-wall").missing == "throttled"


def test_two_timing_methods_are_two_timings_each_against_its_own():
    def both(case, cold, hot):
        return make_record(
            case, latencies=(make_latency(ratio=cold, method="cold"), make_latency(ratio=hot, method="hot"))
        )

    standing = only(make_run([both(BASELINE, 1.0, 1.0), both(BILINEAR, 2.0, 5.0)]))
    row = standing.row("bilinear[torch]")
    assert standing.methods == ("cold", "hot")
    assert row.timing("cold").ratio.value == pytest.approx(2.0)
    assert row.timing("hot").ratio.value == pytest.approx(5.0)


def test_rows_rank_by_ratio_after_the_baseline_and_before_failures():
    faster, slower = make_record(CARAFE, ratio=0.5), make_record(make_case("deconv[torch]"), ratio=2.0)
    ranked = only(make_run([make_failure(BILINEAR), slower, faster, make_record(BASELINE)])).ranked()
    names = [row.case.contender for row in ranked]
    assert names == ["nearest[torch]", "carafe[cpu]", "deconv[torch]", "bilinear[torch]"]


def test_panels_that_differ_only_in_mode_are_one_contest():
    cases = [make_case(mode=mode, spread=spread) for spread in (0.0, 2.0) for mode in ("inference", "training")]
    found = contests(standings(make_run(map(make_record, cases))))
    assert [contest.id for contest in found] == [
        "upsample2x/yolov8n-p5/float32/cpu/spread=0px",
        "upsample2x/yolov8n-p5/float32/cpu/spread=2px",
    ]
    assert [standing.case.mode for standing in found[0].standings] == ["inference", "training"]
