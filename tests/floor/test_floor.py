"""`opbench floor`: data-sheet rates with their sources, the least time they allow, and words that it is no latency."""

import json

import pytest
from typer.testing import CliRunner

from opbench import plan, registry, suites
from opbench.exit_codes import Exit
from opbench.floor.floors import floors, traffic
from opbench.floor.gpus import GPU, gpu, gpus
from opbench.main import application
from opbench.report.floor import NOTE, tables
from opbench.schema import OpbenchError

TINY = """
[[workload]]
task = "upsample2x"
name = "tiny"
source = "-"
dims = {N = 1, C = 8, H = 4, W = 4}
contenders = ["deconv", "carafe[triton]", "carafe[cpu]"]
"""
SLOW = GPU("a GPU", bytes_per_second=1e6, flops_per_second={"float32": 2e6}, source="made up")


@pytest.fixture(scope="module")
def laid_out():
    registry.load()
    suite = suites.parse(TINY, "tiny", where="-")
    return plan.plan(suite, {"device": ["cuda"]}, cuda=True, here=False)


def test_every_gpu_has_rates_and_their_source():
    assert set(gpus()) == {"h100", "a100", "l4", "orin"}
    for one in gpus().values():
        assert one.title
        assert one.source
        assert 1e11 < one.bytes_per_second < 1e13
        assert one.flops_per_second["float32"] <= one.flops_per_second["float16"]
    assert gpu("h100").macs_per_second("float32") == 67e12 / 2
    assert gpu("l4").macs_per_second("float64") is None


def test_an_unknown_gpu_names_the_nearest():
    with pytest.raises(OpbenchError, match="h100"):
        gpu("h1000")


def test_a_floor_is_the_slower_of_least_bytes_and_macs(laid_out):
    found = {(one.panel.split("/")[-1], one.contender): one for one in floors(laid_out, {"slow": SLOW})}
    nearest = found["inference", "nearest[torch]"]
    assert (nearest.least_bytes, nearest.macs, nearest.bound_by) == (4 * 5 * 128, 0, "bytes")
    assert nearest.cold_seconds == nearest.uncached_seconds == pytest.approx(2560e-6)
    assert nearest.hot_seconds == 0
    deconv = found["inference", "deconv[torch]"]
    assert (deconv.macs, deconv.bound_by) == (9 * 8 * 128, "MACs")
    assert deconv.cold_seconds == deconv.hot_seconds == pytest.approx(9216e-6)
    assert found["training", "nearest[torch]"].least_bytes == 2 * nearest.least_bytes


def test_what_runs_on_a_gpu_alone_needs_none(laid_out):
    contenders = {case.contender for panel in laid_out.panels for case in panel.cases}
    assert contenders == {"nearest[torch]", "deconv[torch]", "carafe[triton]"}
    case = next(case for case in laid_out.panels[0].cases if case.implementation == "triton")
    assert traffic(case)[0] > 0


def test_without_a_rate_of_the_dtype_bytes_alone_are_a_floor(laid_out):
    none = GPU("a GPU", bytes_per_second=1e6, flops_per_second={}, source="made up")
    one = next(iter(floors(laid_out, {"none": none})))
    assert one.hot_seconds is None
    assert one.note == "its data sheet has no rate for float32"
    assert "no rate" in next(tables([one], {"none": none})).rows[0]


def test_no_table_comes_without_the_words(laid_out):
    found = list(floors(laid_out, {"slow": SLOW}))
    for table in tables(found, {"slow": SLOW}):
        assert table.note == NOTE
        assert not any("latency" in name for name in table.header)
        assert "uncached time (no floor)" in table.header
    assert NOTE.startswith("None of these is a latency")


def test_the_command_prints_tables_with_words_and_sources_or_json(tmp_path):
    suite = tmp_path / "tiny.toml"
    suite.write_text(TINY)
    arguments = ["floor", "--gpu", "orin", "--suite", str(suite), "--mode", "inference"]
    shown = CliRunner().invoke(application(), arguments)
    assert shown.exit_code == Exit.FINE
    assert "None of these is a latency" in shown.output
    assert "Jetson AGX Orin" in shown.output
    data = json.loads(CliRunner().invoke(application(), [*arguments, "--json"]).output)
    assert set(data["gpus"]) == {"orin"}
    assert {one["contender"] for one in data["floors"]} == {"nearest[torch]", "deconv[torch]", "carafe[triton]"}
    assert CliRunner().invoke(application(), ["floor", "--gpu", "v100"]).exit_code == Exit.NO_ANSWER
