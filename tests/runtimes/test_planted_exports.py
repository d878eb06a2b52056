"""Exported files with one thing wrong, as parsers and exporters have made them: each is convicted in each runtime."""

import functools
import importlib.util

import pytest
import torch
import torch.nn.functional as F

from opbench import registry
from opbench.build import build
from opbench.engine.check_case import check_case
from opbench.runtimes import RUNTIMES, of_onnx
from opbench.schema import Case
from opbench.verify.gate import reference

for needed in ("onnx", "onnxruntime", "openvino"):
    pytest.importorskip(needed, reason="the extra opbench[deploy] is not installed")

UPSAMPLED = ("upsample2x", {"N": 2, "C": 8, "H": 5, "W": 7}, None)
MIXED = ("conv3x3", {"N": 2, "C": 8, "H": 6, "W": 7, "G": 2}, 2.0)
# contender, opset, operation, attribute, what it is made: the file is valid with it, and another function.
PLANTED = {
    "nearest for bilinear": ("bilinear[torch]", 17, "Resize", "mode", "nearest"),
    "aligned corners": ("bilinear[torch]", 17, "Resize", "coordinate_transformation_mode", "align_corners"),
    "Resize as opset 10 means it": ("bilinear[torch]", 17, "Resize", "coordinate_transformation_mode", "asymmetric"),
    "half pixels for nearest": ("nearest[torch]", 17, "Resize", "coordinate_transformation_mode", "half_pixel"),
    "nearest samples": ("dcnv3[grid-sample]", 17, "GridSample", "mode", "nearest"),
    "opset 20's linear samples as nearest": ("dcnv3[grid-sample]", 20, "GridSample", "mode", "nearest"),
    "samples with aligned corners": ("dcnv3[grid-sample]", 17, "GridSample", "align_corners", 1),
    "samples beyond the border as zero": ("dysample[grid-sample]", 20, "GridSample", "padding_mode", "zeros"),
}
STARTED = {"onnxruntime": of_onnx.onnxruntime_session, "openvino": of_onnx.openvino_request}
DYNAMO = [
    pytest.mark.nightly,
    pytest.mark.skipif(importlib.util.find_spec("onnxscript") is None, reason="onnxscript is not installed"),
]


@pytest.fixture(scope="module", autouse=True)
def _declared():
    registry.load()


def case_of(contender, runtime="torch"):
    task, dims, spread = MIXED if contender.startswith("dcnv3") else UPSAMPLED
    operator, implementation = contender.rstrip("]").split("[")
    return Case(
        task, "small", operator, implementation, dims, "float32", "cpu", "inference", spread, 0, {}, runtime=runtime
    )


@functools.cache
def defined(contender):
    """A contender in torch, and what its definition says: once for all the files of it."""
    made = build(case_of(contender))
    return made, reference(made)


def judged(contender, runtime, content):
    """The verdict on a file of a contender, as the runtime executes it."""
    made, expected = defined(contender)
    return expected.judge({"output": STARTED[runtime](content, 1)(*made.inputs)})


def changed(content, operation, attribute, value):
    import onnx

    model = onnx.load_model_from_string(content)
    nodes = [node for node in model.graph.node if node.op_type == operation]
    assert nodes
    for node in nodes:
        before = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        assert before.get(attribute) not in (value, str(value).encode())
        others = [one for one in node.attribute if one.name != attribute]
        del node.attribute[:]
        node.attribute.extend([*others, onnx.helper.make_attribute(attribute, value)])
    return model.SerializeToString()


@pytest.mark.parametrize("fault", PLANTED)
@pytest.mark.parametrize("runtime", STARTED)
def test_a_file_with_one_attribute_wrong_is_convicted(runtime, fault):
    contender, opset, *what = PLANTED[fault]
    made, _ = defined(contender)
    content = of_onnx.write(made.module, made.inputs, opset=opset)
    assert judged(contender, runtime, content).correct
    verdict = judged(contender, runtime, changed(content, *what))
    assert not verdict.correct
    assert verdict.worst.tensor == "output"


@pytest.mark.parametrize("opset", [16, 18, 19, pytest.param(21, marks=DYNAMO), pytest.param(23, marks=DYNAMO)])
@pytest.mark.parametrize("contender", ["bilinear[torch]", "nearest[torch]", "dcnv3[grid-sample]"])
@pytest.mark.parametrize("runtime", STARTED)
def test_the_same_graphs_are_right_in_every_opset(runtime, contender, opset):
    made, _ = defined(contender)
    content = of_onnx.write(made.module, made.inputs, opset=opset)
    assert of_onnx.opset_of(content) == opset
    assert judged(contender, runtime, content).correct


class Resized(torch.nn.Module):
    """Upsampled by two in a way of its own."""

    def __init__(self, **how):
        super().__init__()
        self.how = how

    def forward(self, x):
        return F.interpolate(x, scale_factor=2.0, **self.how)


MODULES = {
    "nearest": ("bilinear[torch]", Resized(mode="nearest")),
    "aligned corners": ("bilinear[torch]", Resized(mode="bilinear", align_corners=True)),
    "bilinear for nearest": ("nearest[torch]", Resized(mode="bilinear", align_corners=False)),
}


@pytest.mark.parametrize("fault", MODULES)
@pytest.mark.parametrize("runtime", ["torch-export", "torchscript", "onnxruntime", "openvino"])
def test_a_graph_of_another_module_is_convicted_in_each_runtime(monkeypatch, runtime, fault):
    contender, module = MODULES[fault]
    prepare = RUNTIMES[runtime].load()
    monkeypatch.setattr(type(RUNTIMES[runtime]), "load", lambda _: lambda _, *rest: prepare(module.eval(), *rest))
    verdict = check_case(case_of(contender, runtime)).verdict
    assert not verdict.correct
    assert verdict.worst.tensor == "output"
