"""DCNv3 as ONNX's DeformConv: ONNX Runtime's and OpenVINO's own kernels, held to the definition like any contender."""

import pytest
import torch
from by_day import first_by_day

from opbench import registry
from opbench.build import build
from opbench.operators.dcnv3 import CORES
from opbench.runtimes import of_onnx
from opbench.runtimes.prepared import CantBeMade
from opbench.schema import Case
from opbench.verify import gate

RUNTIMES = ("onnxruntime", "openvino")
CALLS = {
    "own": {"C": 8, "G": 2},
    "a group a channel": {"C": 6, "G": 6, "H": 9},
    "strided": {"C": 8, "G": 2, "stride": 2, "k": 5},
    "dilated": {"C": 8, "G": 1, "dilation": 2},
}


def built(runtime="torch", spread=2.0, **changes):
    dims = {**registry.tasks()["dcnv3_core"].defaults, "N": 2, "H": 6, "W": 7, **changes}
    case = Case("dcnv3_core", "w", "dcnv3", "deform-conv", dims, "float32", "cpu", "inference", spread, runtime=runtime)
    return build(case)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("call", first_by_day(CALLS))
@pytest.mark.parametrize("spread", first_by_day((2.0, 8.0)))
def test_runtimes_compute_the_definition_by_their_own_kernel(runtime, call, spread):
    pytest.importorskip(runtime)
    found = built(runtime, spread, **CALLS[call])
    verdict = gate.check(found, gate.reference(found))
    assert verdict.correct, verdict
    assert found.module.artifact.exporter.endswith("opset 19")


def test_a_file_has_one_node_that_samples():
    pytest.importorskip("onnx")
    plain = built(C=8, G=2)
    operations = list(of_onnx.operations(of_onnx.write(plain.module, plain.inputs, opset=19)))
    assert operations.count("DeformConv") == 1
    assert not {"GridSample", "Gather", "GatherElements"} & set(operations)


def test_an_opset_without_the_operation_is_refused_in_a_sentence():
    plain = built(C=8, G=2)
    with pytest.raises(CantBeMade, match="DeformConv is an operation of ONNX from opset 19 on"):
        of_onnx.write(plain.module, plain.inputs, opset=17)


def test_openvino_takes_its_own_operation():
    pytest.importorskip("openvino")
    plain = built(C=8, G=2)
    model = of_onnx.openvino_model(of_onnx.write(plain.module, plain.inputs, opset=19))
    assert "DeformableConvolution" in {one.get_type_name() for one in model.get_ordered_ops()}


def test_where_no_file_is_traced_it_is_the_gather():
    plain = built(C=8, G=2)
    x, offset, mask = (t.clone() for t in plain.inputs)
    settings = plain.module.settings
    assert torch.equal(CORES["deform-conv"].function(x, offset, mask, **settings),
                       CORES["gather"].function(x, offset, mask, **settings))  # fmt: skip
    program = torch.export.export(plain.module, plain.inputs)
    torch.testing.assert_close(program.module()(*plain.inputs), plain.module(*plain.inputs))
