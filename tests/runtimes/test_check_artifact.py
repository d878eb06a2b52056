"""`opbench check FILE.onnx`: right files are right, wrong ones are wrong with where, others are not judged, and why."""

import json

import pytest
import torch
import torch.nn.functional as F
from typer.testing import CliRunner

from opbench.cli import app
from opbench.conformance import artifact
from opbench.operators.carafe import CARAFE, carafe
from opbench.operators.carafe.cores import unfold
from opbench.operators.dcnv3 import dcnv3
from opbench.runtimes.of_onnx import external_files, write

for needed in ("onnx", "onnxruntime"):
    pytest.importorskip(needed, reason="the extra opbench[deploy] is not installed")


class Core(torch.nn.Module):
    def __init__(self, call):
        super().__init__()
        self.call = call

    def forward(self, *inputs):
        return self.call(*inputs)


def reassembly(k=5, s=2, core="auto"):
    return lambda x, mask: carafe(x, mask, kernel_size=k, group_size=1, scale_factor=s, implementation=core)


def transposed(x, mask):
    """Its taps are read column by column."""
    n, _, height, width = mask.shape
    swapped = mask.view(n, 5, 5, height, width).transpose(1, 2).reshape(n, 25, height, width)
    return unfold(x, swapped, kernel_size=5, group_size=1, scale_factor=2)


def written(tmp_path, call, *inputs, free=False):
    file = tmp_path / "core.onnx"
    file.write_bytes(write(Core(call).eval(), inputs, free=free))
    return file


@pytest.fixture
def check(monkeypatch):
    """The command, which judges in this process: one of its own imports torch anew for each file."""
    monkeypatch.setattr(artifact, "check_artifact", artifact.judge_here)
    return command


def command(*asked):
    done = CliRunner().invoke(app, ["check", *map(str, asked)])
    return done.exit_code, done.output


def masked(k=5, s=2, size=(1, 8, 6, 7)):
    n, _, height, width = size
    return torch.randn(size), torch.rand(n, k * k, s * height, s * width)


def test_a_right_core_is_right_at_its_own_size(tmp_path, check):
    code, said = check(written(tmp_path, reassembly(), *masked()), "--operator", "carafe")
    assert code == 0, said
    assert "computes carafe's core in ONNX Runtime" in said
    assert "N=1,C=8,H=6,W=7" in said.replace("k=5,g=1,s=2,", "")


def test_a_free_size_is_tried_at_several(tmp_path, check):
    code, said = check(written(tmp_path, reassembly(), *masked(), free=True), "--operator", "carafe")
    assert code == 0, said
    assert "H=20,W=33" in said


def test_a_wrong_core_is_wrong_with_its_worst_element(tmp_path, check):
    code, said = check(written(tmp_path, transposed, *masked()), "--operator", "carafe")
    assert code == 1
    assert said.startswith("wrong: ")
    assert "output[" in said


def test_inputs_in_another_order_are_named(tmp_path, check):
    file = written(tmp_path, lambda mask, x: reassembly()(x, mask), *reversed(masked()))
    assert check(file, "--operator", "carafe")[0] == 2
    assert check(file, "--operator", "carafe", "--names", "input1,input0")[0] == 0


def test_settings_that_the_file_contradicts_are_asked_for(tmp_path, check):
    file = written(tmp_path, reassembly(k=3), *masked(k=3))
    code, said = check(file, "--operator", "carafe")
    assert code == 2
    assert "input1 has 9 along axis 1" in said
    assert "--fix" in said
    assert check(file, "--operator", "carafe", "--fix", "k=3")[0] == 0


@pytest.mark.parametrize("core", ["grid-sample", "gather"])
def test_the_sampling_of_dcnv3_channels_last(tmp_path, check, core):
    x, offset, mask = torch.randn(1, 6, 7, 16), torch.randn(1, 6, 7, 18), torch.rand(1, 6, 7, 9)
    options = {"kernel_size": 3, "pad": 1, "group": 1, "implementation": core}
    file = written(tmp_path, lambda *given: dcnv3(*given, **options), x, offset, mask)
    code, said = check(file, "--operator", "dcnv3")
    assert code == 0, said


def test_a_nearest_sampler_under_the_name_of_dcnv3_is_wrong(tmp_path, check):
    def nearest(x, offset, mask):
        real = F.grid_sample
        F.grid_sample = lambda *given, **named: real(*given, **{**named, "mode": "nearest"})
        try:
            return dcnv3(x, offset, mask, kernel_size=3, pad=1, group=1, implementation="grid-sample")
        finally:
            F.grid_sample = real

    x, offset, mask = torch.randn(1, 6, 7, 16), torch.randn(1, 6, 7, 18), torch.rand(1, 6, 7, 9)
    code, said = check(written(tmp_path, nearest, x, offset, mask), "--operator", "dcnv3")
    assert code == 1, said


def test_a_whole_module_is_judged_by_the_weights_in_the_file(tmp_path, check):
    module = CARAFE(8, compressed_channels=64).eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    file = tmp_path / "module.onnx"
    file.write_bytes(write(module, (torch.randn(1, 8, 6, 7),)))
    code, said = check(file, "--operator", "carafe")
    assert code == 0, said
    assert "computes carafe's module" in said
    real = type(module).forward
    type(module).forward = lambda self, x: real(self, x) * 0.999
    try:
        file.write_bytes(write(module, (torch.randn(1, 8, 6, 7),)))
    finally:
        type(module).forward = real
    code, said = check(file, "--operator", "carafe")
    assert code == 1, said


def test_a_module_that_halves_an_image_has_its_own_number_of_outputs(tmp_path, check):
    file = tmp_path / "strided.onnx"
    for outputs, sizes in ((16, ()), (24, ("--shape", "O=24"))):
        layer = torch.nn.Conv2d(8, outputs, 3, 2, 1, bias=False)
        file.write_bytes(write(layer.eval(), (torch.randn(1, 8, 6, 8),)))
        code, said = check(file, "--operator", "conv3x3-stride2", *sizes)
        assert code == 0, said


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"no model at all", "it is no ONNX file"), (b"", "2 inputs"), (b"\x08", "no ONNX file")],
)
def test_what_is_no_model_is_not_judged(tmp_path, check, content, sentence):
    file = tmp_path / "bad.onnx"
    file.write_bytes(content)
    code, said = check(file, "--operator", "carafe")
    assert code == 2
    assert "Traceback" not in said
    assert said.startswith("not judged: ")
    assert sentence in said or "ONNX Runtime" in said


def with_external_data(content, location):
    """The file with a tensor that another file holds."""
    import onnx

    model = onnx.load_model_from_string(content)
    tensor = model.graph.initializer.add()
    tensor.name, tensor.data_type, tensor.data_location = "stray", onnx.TensorProto.FLOAT, onnx.TensorProto.EXTERNAL
    tensor.dims.append(4)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return model.SerializeToString()


@pytest.mark.parametrize("location", ["../../secret", "/etc/passwd", "beside.bin"])
def test_a_file_that_would_read_others_is_not_judged_and_none_is_opened(tmp_path, check, location):
    file = written(tmp_path, reassembly(), *masked())
    file.write_bytes(with_external_data(file.read_bytes(), location))
    code, said = check(file, "--operator", "carafe")
    assert code == 2
    assert said.startswith("not judged: ")
    assert f"it keeps tensors in other files ({location!r})" in said.replace("\n", " ")


def test_tensors_of_other_files_are_found_inside_nested_graphs():
    import onnx
    from onnx import helper

    outer = onnx.load_model_from_string(write(Core(reassembly()).eval(), masked()))
    inner = onnx.load_model_from_string(with_external_data(outer.SerializeToString(), "deep.bin")).graph
    outer.graph.node.append(helper.make_node("If", ["c"], ["d"], then_branch=inner, else_branch=outer.graph))
    assert external_files(outer) == {"deep.bin"}
    assert external_files(onnx.load_model_from_string(write(Core(reassembly()).eval(), masked()))) == set()


def test_a_file_that_asks_for_terabytes_is_not_judged(tmp_path):
    """In a process of its own, which may have a part of the memory that is free."""
    from onnx import TensorProto, helper

    shape = helper.make_tensor("size", TensorProto.INT64, [4], [1, 8, 1 << 20, 1 << 20])
    nodes = [helper.make_node("ConstantOfShape", ["size"], ["huge"]), helper.make_node("Add", ["huge", "x"], ["y"])]
    given = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 6, 7]),
        helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, 25, 12, 14]),
    ]
    taken = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "huge", given, taken, [shape])
    file = tmp_path / "huge.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    file.write_bytes(model.SerializeToString())
    code, said = command(file, "--operator", "carafe")
    assert code == 2, said
    assert said.startswith("not judged: ")
    assert "Traceback" not in said


def test_another_operators_file_is_not_judged(tmp_path, check):
    code, said = check(written(tmp_path, reassembly(), *masked()), "--operator", "dcnv3")
    assert code == 2
    assert "it has 2 inputs, dcnv3 3 of its core, or 1 of its module" in said


def test_a_file_is_judged_in_a_process_of_its_own(tmp_path):
    code, said = command(written(tmp_path, reassembly(), *masked()), "--operator", "carafe")
    assert code == 0, said


def test_what_is_missing_is_said(tmp_path):
    check = command
    assert "no such file" in check(tmp_path / "nowhere.onnx", "--operator", "carafe")[1]
    code, said = check(written(tmp_path, reassembly(), *masked()))
    assert code == 2
    assert "--operator" in said


def test_the_findings_as_json(tmp_path, check):
    code, said = check(written(tmp_path, transposed, *masked()), "--operator", "carafe", "--json")
    found = json.loads(said)
    assert code == 1
    assert (found["kind"], found["verdict"]) == ("artifact-check", "wrong")
    assert found["judged"][0][1]["H"] == 6
