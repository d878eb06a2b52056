"""Metrics by the parsers of the reference client, and the dashboard that shows them."""

import json
import math
import re

import pytest
from exported import PANEL, evil_run, failed_run, one_round_run, small_run, two_methods_run
from factory import make_environment
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from opbench.analyse.history.digest import machine_key
from opbench.report.exports.metrics.families import GAUGES
from opbench.report.exports.metrics.grafana import grafana
from opbench.report.exports.metrics.openmetrics import backfill, openmetrics
from opbench.report.exports.metrics.prometheus import prometheus
from opbench.report.exports.rows import exported
from opbench.schema import OpbenchError


def families(run):
    return {family.name: family for family in text_string_to_metric_families(openmetrics(exported(run)).decode())}


def samples(run, name):
    return {sample.labels["case"]: sample.value for sample in families(run)[name].samples}


@pytest.mark.parametrize("run", [small_run, evil_run, one_round_run, two_methods_run, failed_run])
def test_the_parser_reads_every_run(run):
    found = families(run())
    assert {"opbench_run", "opbench_cases"} <= set(found)
    assert all(math.isfinite(sample.value) for family in found.values() for sample in family.samples)


def test_figures_carry_their_unit_and_value():
    found = families(small_run())
    assert found["opbench_latency_seconds"].unit == "seconds"
    assert samples(small_run(), "opbench_latency_seconds")[f"{PANEL}/carafe[cpu]"] == pytest.approx(3e-3, rel=0.1)
    assert samples(small_run(), "opbench_latency_ratio")[f"{PANEL}/carafe[cpu]"] == pytest.approx(3.0, rel=0.02)
    assert samples(small_run(), "opbench_peak_memory_bytes")[f"{PANEL}/carafe[cpu]"] == 1 << 20


@pytest.mark.parametrize("gauge", [gauge for gauge in GAUGES if gauge.unit], ids=lambda gauge: gauge.name)
def test_a_unit_is_the_end_of_its_metrics_name(gauge):
    assert gauge.name.endswith(f"_{gauge.unit}")


def test_a_failure_is_counted_and_has_no_figure():
    found = families(small_run())
    assert {sample.labels["outcome"]: sample.value for sample in found["opbench_cases"].samples} == {
        "ok": 2,
        "incorrect": 1,
    }
    shown = [sample.labels.get("contender") for family in found.values() for sample in family.samples]
    assert "carafe[mine]" not in shown


def test_a_run_of_failures_has_no_gauge_of_figures():
    assert not {gauge.name for gauge in GAUGES} & set(families(failed_run()))


def test_two_timing_methods_are_two_labels():
    found = families(two_methods_run())["opbench_latency_seconds"].samples
    assert {sample.labels["method"] for sample in found} == {"cuda-cold", "cuda-hot"}


def test_a_name_cannot_end_its_label_and_start_a_metric():
    found = families(evil_run())
    assert "opbench_evil" not in found
    contenders = {sample.labels["contender"] for sample in found["opbench_latency_seconds"].samples}
    assert '"} 1 opbench_evil 1["} 1 opbench_evil 1]' in contenders


def test_what_is_not_known_is_left_out():
    assert "opbench_latency_upper_ratio" not in families(one_round_run())


# --- the text format of Prometheus ------------------------------------------------------------------------------


def plain(run):
    return {family.name: family for family in text_families(prometheus(exported(run)).decode())}


@pytest.mark.parametrize("run", [small_run, evil_run, one_round_run, two_methods_run, failed_run])
def test_both_text_formats_say_the_same(run):
    def figures(found):
        samples = (sample for family in found.values() for sample in family.samples)
        return sorted((sample.name, tuple(sorted(sample.labels.items())), sample.value) for sample in samples)

    assert figures(plain(run())) == figures(families(run()))


def test_the_text_format_has_gauges_alone_and_no_times():
    """The textfile collector refuses `info`, and samples with a time."""
    found = plain(small_run()).values()
    assert {family.type for family in found} == {"gauge"}
    assert not [sample for family in found for sample in family.samples if sample.timestamp is not None]
    text = prometheus(exported(small_run())).decode()
    assert "# UNIT" not in text
    assert "# EOF" not in text


# --- several runs, each at its time -----------------------------------------------------------------------------


def test_several_runs_are_samples_of_one_series():
    runs = [exported(small_run(started=f"2025-01-0{day}T00:00:00+00:00")) for day in (3, 1, 2)]
    found = {family.name: family for family in text_string_to_metric_families(backfill(runs).decode())}
    samples = [one for one in found["opbench_latency_ratio"].samples if one.labels["contender"] == "carafe[cpu]"]
    assert [float(one.timestamp) for one in samples] == [1735689600.0, 1735776000.0, 1735862400.0]
    assert {(one.labels["job"], one.labels["instance"]) for one in samples} == {
        ("opbench", machine_key(small_run().environment))
    }


def test_two_runs_of_one_machine_and_moment_are_refused():
    with pytest.raises(OpbenchError, match=r"two runs of .* began at 2025-01-02T03:04:05"):
        backfill([exported(small_run()), exported(small_run())])
    backfill([exported(small_run()), exported(small_run(environment=make_environment(threads=1)))])


def test_a_run_without_a_time_is_refused():
    with pytest.raises(OpbenchError, match="a run without a time can't be placed in the past: it began soon"):
        backfill([exported(small_run(started="soon"))])


# --- the dashboard ----------------------------------------------------------------------------------------------


def dashboard(run):
    return json.loads(grafana(exported(run)))


def test_every_metric_of_the_run_has_its_place_in_the_dashboard():
    asked = " ".join(target["expr"] for panel in dashboard(small_run())["panels"] for target in panel["targets"])
    shown = set(re.findall(r"opbench_\w+", asked))
    assert shown == {name for name in plain(small_run()) if name != "opbench_run_started_seconds"}


def test_panels_don_t_overlap_and_stay_on_the_grid():
    taken = set()
    for panel in dashboard(small_run())["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
    numbers = [panel["id"] for panel in dashboard(small_run())["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_labels_that_are_filtered_by_are_those_of_the_metrics():
    labels = set(plain(small_run())["opbench_parameters"].samples[0].labels) | {"instance"}
    names = [variable["name"] for variable in dashboard(small_run())["templating"]["list"]]
    assert set(names[1:]) <= labels
    for panel in dashboard(small_run())["panels"]:
        assert set(re.findall(r"\$(\w+)", str(panel["targets"]))) <= set(names)


def test_a_dashboard_of_failures_has_no_charts():
    assert len(dashboard(failed_run())["panels"]) == 2
