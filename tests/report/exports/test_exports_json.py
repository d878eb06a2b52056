"""The JSON exports by their readers' own terms: the action's and Bencher's schemas, pytest-benchmark's own command."""

import json
import math
import subprocess
import sys

import jsonschema
import pytest
from exported import PANEL, evil_run, one_round_run, small_run, two_methods_run
from factory import make_record, make_run

from opbench.report.exports import export

# What `tool: customSmallerIsBetter` and `customBiggerIsBetter` read, by its documentation and the fields that
# its source takes (https://github.com/benchmark-action/github-action-benchmark: README "Examples", src/extract.ts): an
# array that isn't empty; value a number; range and extra optional texts.
ACTION = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["name", "unit", "value"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "minLength": 1},
            "unit": {"type": "string", "minLength": 1},
            "value": {"type": "number"},
            "range": {"type": "string"},
            "extra": {"type": "string"},
        },
    },
}

# https://bencher.dev/docs/reference/bencher-metric-format/: {benchmark: {measure: metric}}; a name has at most 1,024
# characters, a measure's slug 64.
BENCHER = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "propertyNames": {"minLength": 1, "maxLength": 1024},
    "additionalProperties": {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": "^[a-z0-9]+(-[a-z0-9]+)*$", "maxLength": 64},
        "additionalProperties": {
            "type": "object",
            "required": ["value"],
            "additionalProperties": False,
            "properties": {name: {"type": "number"} for name in ("value", "lower_value", "upper_value")},
        },
    },
}

ACTION_FORMATS = ("github-action-benchmark", "github-action-benchmark-bigger")


def no_constant(name):
    raise AssertionError(f"{name} is not JSON")


def exported(run, name, folder):
    ((path,), _) = export([run], name, folder / "out.json")
    return json.loads(path.read_bytes(), parse_constant=no_constant)


@pytest.mark.parametrize("name", ACTION_FORMATS)
@pytest.mark.parametrize("run", [small_run, evil_run, one_round_run, two_methods_run])
def test_the_action_is_given_what_it_documents(name, run, tmp_path):
    found = exported(run(), name, tmp_path)
    jsonschema.validate(found, ACTION)
    assert len({entry["name"] for entry in found}) == len(found), "points of a chart are tied together by name"


def test_smaller_is_better_has_latency_ratio_and_memory(tmp_path):
    found = {entry["name"]: entry for entry in exported(small_run(), "github-action-benchmark", tmp_path)}
    latency = found[f"{PANEL}/carafe[cpu] (cpu-wall) latency"]
    assert latency["unit"] == "ms"
    assert latency["value"] == pytest.approx(3, rel=0.1)
    low, high = map(float, latency["range"].removesuffix(" (quartiles)").split(" to "))
    assert low < latency["value"] < high
    ratio = found[f"{PANEL}/carafe[cpu] (cpu-wall) latency ratio"]
    assert ratio["value"] == pytest.approx(3.0, rel=0.02)
    assert ratio["range"].startswith(("2.9", "3.0"))
    assert f"{PANEL}/nearest[torch] (cpu-wall) latency ratio" not in found, "the baseline is 1 to itself"
    memory = found[f"{PANEL}/carafe[cpu] peak memory"]
    assert (memory["value"], memory["unit"]) == (1, "MiB")


def test_bigger_is_better_has_speed_up_and_mac_rate(tmp_path):
    found = {entry["name"]: entry for entry in exported(small_run(), "github-action-benchmark-bigger", tmp_path)}
    speed_up = found[f"{PANEL}/carafe[cpu] (cpu-wall) speed-up"]
    assert speed_up["value"] == pytest.approx(1 / 3, rel=0.02)
    low, high = map(float, speed_up["range"].strip("[]").split(", "))
    assert low <= speed_up["value"] <= high
    rate = found[f"{PANEL}/carafe[cpu] (cpu-wall) MAC rate"]
    assert rate["unit"] == "GMAC/s"
    assert rate["value"] == pytest.approx(1 / 3, rel=0.1)


@pytest.mark.parametrize("name", [*ACTION_FORMATS, "bencher", "pytest-benchmark"])
def test_a_failure_is_left_out_and_never_a_zero(name, tmp_path):
    assert "carafe[mine]" not in json.dumps(exported(small_run(), name, tmp_path))


def test_names_hold_nothing_that_changes_from_run_to_run(tmp_path):
    slower = make_run([make_record(seconds=5e-3)], started="2026-01-01T00:00:00+00:00")
    for name in ACTION_FORMATS:
        before, after = exported(make_run([make_record()]), name, tmp_path), exported(slower, name, tmp_path)
        assert [entry["name"] for entry in before] == [entry["name"] for entry in after]


@pytest.mark.parametrize("run", [small_run, evil_run, one_round_run, two_methods_run])
def test_bencher_is_given_what_it_documents(run, tmp_path):
    jsonschema.validate(exported(run(), "bencher", tmp_path), BENCHER)


def test_bencher_latency_is_in_nanoseconds_between_its_bounds(tmp_path):
    found = exported(small_run(), "bencher", tmp_path)
    times = found[f"{PANEL}/carafe[cpu] (cpu-wall)"]
    assert times["latency"]["value"] == pytest.approx(3e6, rel=0.1)
    for metric in times.values():
        assert metric["lower_value"] <= metric["value"] <= metric["upper_value"]
    assert found[f"{PANEL}/carafe[cpu]"]["peak-memory-bytes"] == {"value": 1 << 20}


def test_an_unknown_bound_is_left_out_for_bencher(tmp_path):
    ratio = exported(one_round_run(), "bencher", tmp_path)[f"{PANEL}/carafe[cpu] (cpu-wall)"]["latency-ratio"]
    assert "upper_value" not in ratio
    assert math.isfinite(ratio["value"])


@pytest.mark.parametrize("name", [*ACTION_FORMATS, "bencher", "pytest-benchmark"])
def test_two_timing_methods_are_two_names(name, tmp_path):
    text = json.dumps(exported(two_methods_run(), name, tmp_path))
    assert "carafe[triton] (cuda-cold)" in text
    assert "carafe[triton] (cuda-hot)" in text


def compare(*arguments, cwd):
    command = [sys.executable, "-m", "pytest_benchmark", "compare", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd, check=False)


def test_pytest_benchmark_compares_two_exports(tmp_path):
    paths = [tmp_path / "0001_base.json", tmp_path / "0002_head.json"]
    for path in paths:
        export([small_run()], "pytest-benchmark", path)
    done = compare(*paths, f"--csv={tmp_path / 'out'}", "--group-by=fullname", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Failed to load" not in done.stdout + done.stderr
    assert f"{PANEL}/carafe[cpu] (cpu-wall)" in done.stdout
    assert "carafe[mine]" not in done.stdout
    rows = (tmp_path / "out.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * 2, "two cases of two runs"


def test_pytest_benchmark_reads_hostile_names(tmp_path):
    export([evil_run()], "pytest-benchmark", tmp_path / "0001_evil.json")
    done = compare(tmp_path / "0001_evil.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "\x1b[31mred" not in done.stdout


def test_pytest_benchmark_statistics_are_those_of_the_samples(tmp_path):
    found = exported(small_run(), "pytest-benchmark", tmp_path)
    stats = next(one for one in found["benchmarks"] if "carafe[cpu]" in one["fullname"])["stats"]
    from pytest_benchmark.stats import Stats

    own = Stats()
    for sample in stats["data"]:
        own.update(sample)
    for name in ("min", "max", "mean", "stddev", "median", "rounds", "total", "ops"):
        assert stats[name] == pytest.approx(getattr(own, name)), name
