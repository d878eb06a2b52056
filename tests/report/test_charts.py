"""Charts: valid SVG with titles and units, inert, and the same bytes every time."""

import xml.etree.ElementTree as ElementTree

import pytest
from factory import example_records, make_case, make_counts, make_failure, make_record, make_run, make_verdict
from hostile import EVIL, make_hostile_run

from opbench.analyse.standings import standings
from opbench.report.bars import ACCENT, PALE
from opbench.report.charts import charts
from opbench.report.drawing import ticks
from opbench.report.families import families, pages, sweeps
from opbench.report.marks import PALETTE
from opbench.report.plots import PLOTS

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def drawn():
    run = make_run()
    return charts(run, standings(run))


def front_run():
    """A run in which fewer MACs are not the faster ones."""
    contenders = (("nearest[torch]", 1.0, 0), ("carafe[cpu]", 0.5, 10**6), ("carafe[unfold]", 5.0, 10**6))
    return make_run(
        make_record(make_case(contender), ratio=ratio, counts=make_counts(macs))
        for contender, ratio, macs in contenders
    )


def of(drawn, kind, task="upsample2x", mode="inference"):
    (chart,) = [c for c in drawn if c.kind == kind and f": {task}, {mode}" in c.title]
    return chart


def words(chart):
    return [element.text or "" for element in ElementTree.fromstring(chart.svg).iter(f"{SVG}text")]


def test_every_chart_is_xml_and_shows_its_title(drawn):
    assert len(drawn) == 13
    for chart in drawn:
        assert ElementTree.fromstring(chart.svg).tag == f"{SVG}svg"
        assert any(word and chart.title.startswith(word) for word in words(chart)), chart.name


@pytest.mark.parametrize(
    ("kind", "unit"),
    [
        ("ratio", "latency / baseline latency, below 1 is faster (log scale)"),
        ("scaling", "median latency, ms (log scale)"),
        ("scaling", "input height H, pixels (log scale)"),
        ("accuracy", "largest error, eps·Σ|terms| (log scale)"),
        ("accuracy", "median latency, ms (log scale)"),
        ("roofline", "MACs per second, 1 MAC = 2 FLOPs (log scale)"),
        ("memory", "memory above inputs and parameters, MiB"),
    ],
)
def test_every_axis_names_its_unit(drawn, kind, unit):
    assert unit in words(of(drawn, kind))


def test_a_ratio_is_drawn_with_its_interval_and_a_failure_with_its_name(drawn):
    shown = words(of(drawn, "ratio"))
    assert any(word.startswith("6.") and "x [" in word for word in shown)
    assert "incorrect" in shown
    assert "baseline" in shown


def bars(chart):
    return [e for e in ElementTree.fromstring(chart.svg).iter(f"{SVG}path") if e.get("aria-roledescription") == "bar"]


def test_too_few_rounds_decide_nothing():
    def pale(rounds):
        run = make_run([make_record(make_case()), make_record(make_case("carafe[cpu]"), ratio=9.0, rounds=rounds)])
        (chart,) = [chart for chart in charts(run, standings(run)) if chart.kind == "ratio"]
        return [bar.get("fill-opacity") for bar in bars(chart) if bar.get("fill") == PALETTE[0]]

    assert pale(rounds=6) == ["1"] or pale(rounds=6) == [None]
    assert pale(rounds=5) == [str(PALE)]


def test_bars_are_in_order_and_what_opbench_is_about_stands_on_a_ground_of_its_own():
    records = [make_record(make_case())]
    for contender, ratio in (("deconv[torch]", 5.0), ("carafe[cpu]", 3.0), ("bilinear[torch]", 0.8)):
        records.append(make_record(make_case(contender), ratio=ratio))
    records.append(make_failure(make_case("dysample[torch]")))
    run = make_run(records)
    (chart,) = [chart for chart in charts(run, standings(run)) if chart.kind == "ratio"]
    names = {record.case.contender for record in records}
    shown = [word for word in words(chart) if word in names]
    assert shown == ["nearest[torch]", "bilinear[torch]", "carafe[cpu]", "deconv[torch]", "dysample[torch]"]
    assert sum(bar.get("fill") == ACCENT for bar in bars(chart)) == 1


def test_a_front_of_one_point_is_not_drawn():
    records = [
        make_record(make_case(), seconds=1e-3, counts=make_counts(0)),
        make_record(make_case("carafe[cpu]"), seconds=2e-3, counts=make_counts(1000)),
    ]
    run = make_run(records)
    assert "pareto" not in {chart.kind for chart in charts(run, standings(run))}


def test_errors_of_different_operators_stand_in_no_chart_together():
    cases = ("nearest[torch]", "deconv[torch]", "carafe[cpu]", "carafe[unfold]")
    run = make_run(make_record(make_case(contender)) for contender in cases)
    (chart,) = [chart for chart in charts(run, standings(run)) if chart.kind == "accuracy"]
    shown = set(words(chart))
    assert {"carafe[cpu]", "carafe[unfold]"} <= shown
    assert not {"nearest[torch]", "deconv[torch]"} & shown
    alone = make_run(make_record(make_case(contender)) for contender in cases[:3])
    assert "accuracy" not in {chart.kind for chart in charts(alone, standings(alone))}


def test_training_shows_what_is_saved_for_backward(drawn):
    note = "full: peak; pale: saved for backward"
    assert note in of(drawn, "memory", mode="training").svg
    assert "full:" not in of(drawn, "memory").svg


def test_a_front_has_every_contender_in_its_legend_and_those_without_macs_at_zero():
    run = front_run()
    shown = words(of(charts(run, standings(run)), "pareto"))
    assert "MACs per call, 1 MAC = 2 FLOPs (log scale)" in shown
    assert {"nearest[torch]", "carafe[cpu]", "carafe[unfold]"} <= set(shown)
    assert "0" in shown


def test_an_exact_contender_stands_at_zero_error_and_an_endless_error_is_left_out():
    records = [make_record(make_case(), verdict=make_verdict(max_error=0.0), final_verdict=None)]
    for index, error in enumerate((0.5, float("inf"), float("nan"), -1.0)):
        case = make_case(f"nearest[{index}]")
        records.append(make_record(case, verdict=make_verdict(max_error=error), final_verdict=None))
    run = make_run(records)
    shown = words(of(charts(run, standings(run)), "accuracy"))
    assert "0" in shown
    assert "nearest[0]" in shown
    assert not {"nearest[1]", "nearest[2]", "nearest[3]"} & set(shown)


def test_the_same_run_draws_the_same_bytes_whatever_was_drawn_before(drawn):
    run = make_run(record for record in example_records() if record.case.task == "conv3x3")
    again = charts(run, standings(run))
    assert {chart.kind for chart in again} == {"ratio", "scaling", "roofline", "memory"}
    assert set(again) <= set(drawn)


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.kind)
def test_a_spec_follows_the_schema_of_vega_lite(plot):
    import altair

    run = front_run() if plot.kind == "pareto" else make_run()
    picture = next(plot.draw(families(standings(run), timed=plot.timed)[0], run))
    altair.Chart.from_dict(picture.spec)


def test_many_panels_are_drawn_in_pages():
    run = make_run(make_record(make_case(workload=f"w{index}")) for index in range(20))
    (family,) = families(standings(run))
    parts = pages(family)
    assert [(len(part.standings), part.page) for part in parts] == [(8, "1 of 3"), (8, "2 of 3"), (4, "3 of 3")]
    assert sum((part.standings for part in parts), ()) == family.standings
    memory = [chart for chart in charts(run, standings(run)) if chart.kind == "memory"]
    assert [chart.name for chart in memory] == [f"memory-upsample2x-float32-cpu-inference{n}" for n in ("", "-2", "-3")]
    assert memory[2].title.endswith(", 3 of 3")
    assert "w19 (N=1 C=256 H=20 W=20)" in words(memory[2])


def test_a_file_name_is_safe_and_its_own(drawn):
    hostile = make_hostile_run()
    names = [chart.name for chart in (*drawn, *charts(hostile, standings(hostile)))]
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for name in names)
    assert len(set(names)) == len(names)


def test_names_that_look_alike_do_not_overwrite_each_other():
    cases = [make_case(contender, task=task) for task in ("a b", "a-b") for contender in ("x[1]", "y[2]")]
    run = make_run(map(make_record, cases))
    names = [chart.name for chart in charts(run, standings(run)) if chart.kind == "memory"]
    assert names == ["memory-a-b-float32-cpu-inference", "memory-a-b-float32-cpu-inference-2"]


def test_hostile_text_stays_text():
    run = make_hostile_run()
    found = charts(run, standings(run))
    assert {chart.kind for chart in found} >= {"ratio", "memory"}
    for chart in found:
        for element in ElementTree.fromstring(chart.svg).iter():
            assert element.tag.removeprefix(SVG) in {
                "svg",
                "g",
                "path",
                "rect",
                "line",
                "text",
                "tspan",
                "defs",
                "clipPath",
            }
            assert not {name for name in element.attrib if name.startswith("on") or name.endswith("href")}
        assert EVIL not in "".join(words(chart))


def test_a_run_without_numbers_has_no_charts():
    assert charts(make_run([]), ()) == ()
    run = make_run([make_failure(make_case()), make_failure(make_case("carafe[cpu]"), "crashed")])
    assert charts(run, standings(run)) == ()


def test_absurd_numbers_do_not_stop_a_chart():
    records = [make_record(make_case())]
    for index, (seconds, macs) in enumerate([(1e-12, 2**70), (1e12, 0), (1e-3, -5), (1e300, 1)]):
        case = make_case(f"odd[{index}]", dims={"N": 0, "H": 0, "W": -1})
        records.append(make_record(case, seconds=seconds, counts=make_counts(macs)))
    run = make_run(records)
    assert {chart.kind for chart in charts(run, standings(run))} >= {"ratio", "pareto", "memory"}


def cases_of(*dims, **changes):
    run = make_run(make_record(make_case(workload=str(d), dims=d, **changes)) for d in dims)
    return standings(run)


def test_a_swept_dimension_is_found():
    (sweep,) = sweeps(cases_of(*({"N": n, "C": 8} for n in (1, 2, 4))))
    assert (sweep.axis, sweep.fixed, [value for value, _ in sweep.panels]) == ("N", "C=8", [1.0, 2.0, 4.0])


def test_height_and_width_that_grow_together_are_one_axis():
    (sweep,) = sweeps(cases_of(*({"H": s, "W": 2 * s} for s in (10, 20, 40))))
    assert sweep.axis == "H"


def test_two_sizes_or_sizes_that_change_with_the_channels_are_no_sweep():
    assert sweeps(cases_of({"N": 1}, {"N": 2})) == ()
    assert sweeps(cases_of(*({"H": s, "C": 1600 // s} for s in (10, 20, 40)))) == ()


def test_offset_spreads_are_a_sweep():
    run = make_run(make_record(make_case(spread=spread)) for spread in (0.0, 2.0, 8.0))
    (sweep,) = sweeps(standings(run))
    assert sweep.axis == "spread"


def test_panels_of_two_dtypes_are_two_families():
    run = make_run(make_record(make_case(dtype=dtype)) for dtype in ("float32", "float16"))
    assert [family.dtype for family in families(standings(run))] == ["float32", "float16"]


@pytest.mark.parametrize(("low", "high"), [(0.76, 676), (0.9, 1.3), (1e-9, 1e9), (0.2, 2.5), (3, 4000), (1, 1.0001)])
def test_ticks_are_few_and_within_the_axis(low, high):
    found = ticks(low, high)
    assert 2 <= len(found) <= 13
    assert all(low <= value <= high for value in found)
    assert found == sorted(found)
