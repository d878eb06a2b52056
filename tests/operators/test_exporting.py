"""Under an exporter modules take cores that can be written down, and what can't says which can."""

import io
import warnings

import pytest
import torch

from opbench.operators.carafe import CARAFE, YoloCARAFE
from opbench.operators.common import sampling
from opbench.operators.dcnv2 import DCNv2
from opbench.operators.dcnv2.cores import CORES as DCNV2
from opbench.operators.dcnv3 import DCNv3, DCNV3_YoLo
from opbench.operators.dcnv3.cores import CORES as DCNV3

MODULES = {
    "CARAFE": lambda implementation: CARAFE(8, up_group=2, implementation=implementation),
    "YoloCARAFE": lambda implementation: YoloCARAFE(8, implementation=implementation),
    "DCNV3_YoLo": lambda implementation: DCNV3_YoLo(8, 8, 3, g=2, implementation=implementation),
    "DCNv2": lambda implementation: DCNv2(8, 8, group=2, implementation=implementation),
}


def drawn(name, implementation="auto"):
    torch.manual_seed(0)
    module = MODULES[name](implementation).eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return module


@pytest.mark.parametrize("name", MODULES)
def test_a_module_as_it_is_goes_through_torch_export(name):
    module, x = drawn(name), torch.randn(2, 8, 6, 7)
    with torch.no_grad():
        program = torch.export.export(module, (x,))
        torch.testing.assert_close(program.module()(x), module(x), rtol=1e-4, atol=1e-5)
    named = {str(node.target) for node in program.graph.nodes}
    assert not any(target.startswith("opbench") for target in named)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_as_it_is_goes_through_jit_trace_and_needs_no_opbench(name):
    module, x = drawn(name), torch.randn(2, 8, 6, 7)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        traced = torch.jit.trace(module, (x,))
        torch.testing.assert_close(traced(x), module(x), rtol=1e-4, atol=1e-5)
    assert "opbench::" not in str(traced.inlined_graph)


def test_machine_code_cannot_be_exported_and_says_what_can():
    pytest.importorskip("onnx", reason="the extra opbench[deploy] is not installed")
    module = DCNv3(8, group=2, implementation="cpu").eval()
    sentence = r"'cpu' can't be exported: .*use implementation='auto', or one of 'grid-sample', 'gather'"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older exporter shows the error as it is, and warns of itself
        with pytest.raises(RuntimeError, match=sentence):
            torch.onnx.export(module, (torch.randn(1, 6, 6, 8),), io.BytesIO(), dynamo=False)


@pytest.mark.parametrize("group", [1, 2])
def test_rows_by_index_are_the_gather_of_the_same_points(monkeypatch, group):
    torch.manual_seed(group)
    x = torch.randn(2, 5, 6, 8, dtype=torch.float64)
    offset = 3 * torch.randn(2, 5, 6, group * 9 * 2, dtype=torch.float64)
    offset[0, 0, 0, :4] = float("nan")
    offset[1, 2, 2, :2] = float("inf")
    mask = torch.rand(2, 5, 6, group * 9, dtype=torch.float64)
    options = {"kernel_size": 3, "stride": 1, "pad": 1, "dilation": 1, "group": group}
    weight = torch.randn(4, 8, 3, 3, dtype=torch.float64)
    nchw = tuple(value.permute(0, 3, 1, 2) for value in (x, offset, mask))
    two = {name: options[name] for name in ("stride", "pad", "dilation", "group")}

    def both():
        third = DCNV3["gather"].function(x, offset, mask, **options, offset_scale=1.0, remove_center=False)
        return third, DCNV2["gather"].function(*nchw, weight, **two)

    plain = both()
    monkeypatch.setattr(sampling, "recording", lambda: True)
    for expected, got in zip(plain, both(), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
