"""OpenMetrics by the parser of the reference client."""

import math

import pytest
from exported import PANEL, evil_run, failed_run, one_round_run, small_run, two_methods_run
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from opbench.report.exports.openmetrics import GAUGES, openmetrics


def families(run):
    return {family.name: family for family in text_string_to_metric_families(openmetrics(run).decode())}


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
