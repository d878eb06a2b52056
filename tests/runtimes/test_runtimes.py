"""Contenders in other runtimes: written down, proven against the definition, or refused in a sentence."""

import pytest
import torch
from typer.testing import CliRunner

from opbench import plan, registry, suites
from opbench.build import build
from opbench.cli import app
from opbench.documents import read
from opbench.engine.check_case import check_case, count_case
from opbench.runtimes import of_onnx
from opbench.runtimes.prepared import CantBeMade
from opbench.schema import Case, OpbenchError, Run

for needed in ("onnx", "onnxruntime", "openvino"):
    pytest.importorskip(needed, reason="the extra opbench[deploy] is not installed")

UPSAMPLED = {"N": 2, "C": 8, "H": 5, "W": 7}
MIXED = {"N": 2, "C": 8, "H": 6, "W": 7, "G": 2}
CARAFE = {"k_up": 5, "k_enc": 3, "c_mid": 8, "g": 2}
CONTENDERS = {
    "nearest[torch]": ("upsample2x", UPSAMPLED, {}, None),
    "bilinear[torch]": ("upsample2x", UPSAMPLED, {}, None),
    "carafe[slices]": ("upsample2x", UPSAMPLED, CARAFE, None),
    "carafe[unfold]": ("upsample2x", UPSAMPLED, CARAFE, None),
    "dcnv3[grid-sample]": ("conv3x3", MIXED, {}, 2.0),
    "dcnv3[gather]": ("conv3x3", MIXED, {}, 2.0),
    "dcnv2[gather]": ("conv3x3", MIXED, {}, 2.0),
}
EXECUTED = ["torch-export", "torchscript", "onnxruntime", "openvino"]


def case_of(contender, runtime, *, dtype="float32"):
    task, dims, settings, spread = CONTENDERS[contender]
    operator, implementation = contender.rstrip("]").split("[")
    return Case(
        task, "small", operator, implementation, dims, dtype, "cpu", "inference", spread, 0, settings, runtime=runtime
    )


@pytest.fixture(scope="module", autouse=True)
def _declared():
    registry.load()


@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize("runtime", EXECUTED)
def test_what_a_runtime_computes_is_within_the_bound_of_the_definition(runtime, contender):
    checked = check_case(case_of(contender, runtime))
    assert checked.verdict.correct, checked.verdict.reason
    assert checked.verdict.worst_ratio < 0.6
    artifact = checked.built.module.artifact
    assert artifact.bytes > 0
    assert artifact.nodes > 0


@pytest.mark.nightly
@pytest.mark.parametrize("contender", CONTENDERS)
def test_what_torch_compile_computes_is_within_the_bound_of_the_definition(contender):
    checked = check_case(case_of(contender, "torch-compile"))
    assert checked.verdict.correct, checked.verdict.reason


def test_counts_are_those_of_the_operator_and_memory_is_not_guessed():
    here, there = (count_case(check_case(case_of("carafe[slices]", name)).built) for name in ("torch", "onnxruntime"))
    assert (there[0].params, there[0].macs, there[0].torch) == (here[0].params, here[0].macs, here[0].torch)
    assert there[0].traffic_bytes is None
    assert there[1].peak_bytes is None
    assert "onnxruntime computes out of sight" in there[1].note


def test_what_no_numpy_array_holds_is_refused_in_a_sentence():
    with pytest.raises(CantBeMade, match="ONNX Runtime is given float32, float64 or float16 here, not bfloat16"):
        build(case_of("nearest[torch]", "onnxruntime", dtype="bfloat16"))


@pytest.mark.parametrize("size", [(2, 8, 5, 7), (3, 8, 9, 4)])
def test_a_file_with_free_batch_and_size_is_right_at_others(size):
    module = build(case_of("carafe[slices]", "torch")).module.eval()
    run = of_onnx.onnxruntime_session(of_onnx.write(module, (torch.randn(2, 8, 6, 6),), free=True), 1)
    x = torch.randn(size)
    with torch.no_grad():
        torch.testing.assert_close(run(x), module(x), rtol=1e-5, atol=1e-6)


SUITE = """
[[workload]]
task = "upsample2x"
name = "small"
source = "made up"
dims = { N = 1, C = 8, H = 6, W = 6 }
dtypes = ["float32"]
devices = ["cpu"]
"""


def laid_out(**filters):
    suite = suites.parse(SUITE, "made-up", where="test.toml")
    return plan.plan(suite, {"operator": ["carafe"], **filters}, cuda=False)


def test_what_cannot_be_written_down_is_planned_away_with_the_reason():
    found = laid_out(runtime=["openvino"])
    (panel,) = found.panels  # inference alone
    assert panel.id == "upsample2x/small/float32/cpu/inference/openvino"
    assert [case.contender for case in panel.cases] == ["nearest[torch]", "carafe[unfold]", "carafe[slices]"]
    said = {one.contender: one.reason for one in found.skipped}
    assert said["carafe[cpu]"] == "carafe[cpu] can't be exported: it is machine code of opbench's own"
    assert said["carafe[compiled]"] == "carafe[compiled] is compiled for torch"


def test_the_core_that_is_made_for_exports_competes_in_torch_only_where_it_is_asked_for():
    def contenders(**filters):
        return {case.contender for panel in laid_out(**filters).panels for case in panel.cases}

    assert "carafe[slices]" not in contenders()
    assert "carafe[slices]" in contenders(implementation=["slices"])


def test_an_unknown_runtime_is_refused_with_the_nearest():
    with pytest.raises(OpbenchError, match=r"unknown runtime 'onnx-runtime'.*did you mean 'onnxruntime'"):
        laid_out(runtime=["onnx-runtime"])
    with pytest.raises(OpbenchError, match=r"runtimes: .*'openvno'.*did you mean 'openvino'"):
        suites.parse(SUITE + 'runtimes = ["openvno"]\n', "made-up", where="test.toml")


def test_a_run_measures_in_a_runtime_and_says_what_was_executed(tmp_path):
    suite = tmp_path / "small.toml"
    suite.write_text(SUITE)
    asked = ["run", "--suite", suite, "--operator", "bilinear", "--runtime", "onnxruntime", "--threads", "1"]
    asked += ["--budget", "0", "--share-cpu", "-o", tmp_path / "out"]
    done = CliRunner().invoke(app, list(map(str, asked)))
    assert done.exit_code == 0, done.output
    records = read(tmp_path / "out" / "run.json", Run).records
    assert [record.case.runtime for record in records] == ["onnxruntime"] * 2
    assert all(record.outcome == "ok" and record.artifact.nodes >= 1 for record in records)
    assert "/inference/onnxruntime" in (tmp_path / "out" / "report.md").read_text()
