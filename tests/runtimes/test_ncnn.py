"""ncnn, through pnnx: right or refused in a sentence; and it and TensorRT planned away where they aren't installed."""

import importlib.util

import pytest
import torch
import torch.nn.functional as F

from opbench import plan, registry, suites
from opbench.build import build
from opbench.engine.check_case import check_case
from opbench.runtimes import RUNTIMES, of_ncnn
from opbench.runtimes.prepared import CantBeMade
from opbench.schema import Case

NCNN = pytest.mark.skipif(RUNTIMES["ncnn"].missing() is not None, reason="ncnn or pnnx is not installed")
SUITE = """
[[workload]]
task = "upsample2x"
name = "small"
source = "made up"
dims = { N = 1, C = 8, H = 6, W = 6 }
dtypes = ["float32"]
devices = ["cpu"]
"""
UPSAMPLED = ("upsample2x", {"N": 1, "C": 8, "H": 5, "W": 7}, None)
MIXED = ("conv3x3", {"N": 1, "C": 8, "H": 6, "W": 7, "G": 2}, 2.0)


@pytest.fixture(scope="module", autouse=True)
def _declared():
    registry.load()


def case_of(contender, *, batch=1, dtype="float32"):
    task, dims, spread = MIXED if contender.startswith(("dcn", "conv")) else UPSAMPLED
    operator, implementation = contender.rstrip("]").split("[")
    dims = {**dims, "N": batch}
    return Case(task, "small", operator, implementation, dims, dtype, "cpu", "inference", spread, runtime="ncnn")


@pytest.mark.parametrize("name", ["ncnn", "tensorrt"])
def test_a_runtime_that_is_not_installed_is_planned_away_with_how_to_get_it(monkeypatch, name):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda module, *rest: None if module == name else find(module, *rest)
    )
    suite = suites.parse(SUITE, "made-up", where="test.toml")
    found = plan.plan(suite, {"operator": ["bilinear"], "runtime": [name]}, cuda=False)
    assert not found.panels
    assert {one.reason.partition(": pip install")[0] for one in found.skipped} == {f"{name} is not installed"}


def test_tensorrt_is_no_runtime_of_the_cpu(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: True)
    suite = suites.parse(SUITE, "made-up", where="test.toml")
    found = plan.plan(suite, {"operator": ["bilinear"], "runtime": ["tensorrt"]}, cuda=False)
    assert {one.reason for one in found.skipped} == {"tensorrt runs on cuda only"}


PARAM = """7767517
4 4
Input                    in0                      0 1 in0
Interp                   upsample_0               1 1 in0 1 0=2 1=2.0
aten::index_select       rows                     1 1 1 2
pnnx.Expression          sum                      1 1 2 out0
"""


def test_the_layers_of_a_graph_are_its_lines_without_inputs():
    assert list(of_ncnn.layers(PARAM)) == ["Interp", "aten::index_select", "pnnx.Expression"]


@NCNN
def test_a_layer_that_ncnn_does_not_have_is_named_and_nothing_is_loaded():
    with pytest.raises(CantBeMade, match=r"it has no layer for aten::index_select, pnnx\.Expression"):
        of_ncnn.ncnn_net(of_ncnn.NcnnFiles(PARAM, b""), 1)


@NCNN
@pytest.mark.parametrize("contender", ["nearest[torch]", "bilinear[torch]", "carafe[slices]", "conv3x3[torch]"])
def test_what_ncnn_computes_is_within_the_bound_of_the_definition(contender):
    checked = check_case(case_of(contender))
    assert checked.verdict.correct, checked.verdict.reason
    assert checked.built.module.artifact.exporter == "pnnx"


@NCNN
@pytest.mark.parametrize("contender", ["carafe[unfold]", "dcnv3[grid-sample]", "dcnv3[gather]"])
def test_what_ncnn_can_not_take_is_refused_in_a_sentence_or_right(contender):
    try:
        verdict = check_case(case_of(contender)).verdict
    except CantBeMade as error:
        refusal = str(error)
    else:
        refusal = ""
        assert verdict.correct, verdict.reason
    assert not refusal or refusal.startswith(("ncnn can't load it: ", "pnnx can't convert it: "))


@NCNN
def test_more_than_one_image_and_other_dtypes_are_refused():
    with pytest.raises(CantBeMade, match="ncnn takes one image at a time, not a batch of 2"):
        build(case_of("nearest[torch]", batch=2))
    with pytest.raises(CantBeMade, match="ncnn is given float32 here, not float16"):
        build(case_of("nearest[torch]", dtype="float16"))


class Resized(torch.nn.Module):
    def __init__(self, **how):
        super().__init__()
        self.how = how

    def forward(self, x):
        return F.interpolate(x, scale_factor=2.0, **self.how)


@NCNN
@pytest.mark.parametrize("how", [{"mode": "nearest"}, {"mode": "bilinear", "align_corners": True}])
def test_a_wrong_graph_is_convicted_in_ncnn(monkeypatch, how):
    prepare = RUNTIMES["ncnn"].load()
    monkeypatch.setattr(type(RUNTIMES["ncnn"]), "load", lambda _: lambda _, *rest: prepare(Resized(**how), *rest))
    assert not check_case(case_of("bilinear[torch]")).verdict.correct
