"""YOLOv8 through the real package: by swap and by YAML, at its published size, and training on real images."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from opbench.models import register_ultralytics, swap
from opbench.models.ultralytics_package import import_ultralytics
from opbench.models.yolov8 import PUBLISHED_PARAMETERS, yolov8, yolov8_yaml
from opbench.operators.carafe import YoloCARAFE
from opbench.operators.dcnv3 import DCNV3_YoLo
from opbench.schema import OpbenchError

pytestmark = pytest.mark.usefixtures("ultralytics")


def parameters(module):
    return sum(value.numel() for value in module.parameters())


def shapes(module):
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


@pytest.mark.parametrize("size", PUBLISHED_PARAMETERS)
def test_the_baseline_has_the_published_number_of_parameters(size):
    with torch.device("meta"):  # counted, not filled
        model = import_ultralytics("ultralytics.nn.tasks").parse_model(yolov8_yaml(size), 3, verbose=False)[0]
    assert parameters(model) == PUBLISHED_PARAMETERS[size]


def test_the_smallest_baseline_is_built_whole():
    assert parameters(yolov8("n")) == 3_157_200


@pytest.fixture(scope="module")
def both():
    return yolov8("n", carafe=True, dcnv3=True)


def test_carafe_is_in_the_neck_and_dcnv3_in_the_backbone(both):
    swapped = {
        name: type(module) for name, module in both.named_modules() if isinstance(module, (YoloCARAFE, DCNV3_YoLo))
    }
    assert swapped == {
        "model.2.m.0.cv2": DCNV3_YoLo,
        "model.4.m.0.cv2": DCNV3_YoLo,
        "model.4.m.1.cv2": DCNV3_YoLo,
        "model.6.m.0.cv2": DCNV3_YoLo,
        "model.6.m.1.cv2": DCNV3_YoLo,
        "model.8.m.0.cv2": DCNV3_YoLo,
        "model.10": YoloCARAFE,
        "model.13": YoloCARAFE,
    }
    assert [both.model[i].c for i in (10, 13)] == [256, 128]
    assert (both.model[10].i, both.model[10].f) == (10, -1)


def test_swap_and_yaml_build_the_same_network(both, tasks):
    register_ultralytics()
    parsed = tasks.DetectionModel(yolov8_yaml("n", carafe=True, dcnv3=True), verbose=False)
    assert shapes(parsed) == shapes(both)
    assert torch.equal(parsed.stride, both.stride)
    parsed.load_state_dict(both.state_dict())
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(parsed.eval()(x)[0], both.eval()(x)[0])


def test_a_trainer_that_builds_it_anew_from_its_description_gets_the_same_network(both, tasks):
    register_ultralytics()
    assert shapes(tasks.DetectionModel(both.yaml, verbose=False)) == shapes(both)


def test_ultralytics_own_wrapper_is_swapped_inside(tasks):
    wrapper = import_ultralytics("ultralytics.models.yolo.model").YOLO("yolov8n.yaml", verbose=False)
    changes = swap(wrapper, torch.nn.Upsample, YoloCARAFE)
    assert [change.name for change in changes] == ["model.10", "model.13"]
    assert isinstance(wrapper.model.model[10], YoloCARAFE)


WRITE_UP = """
nc: 2
scales:
  n: [0.33, 0.25, 1024]
backbone:
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, Conv, [128, 3, 2]]
  - [-1, 1, DCNV3_YoLo, [256, 3, 1, None, 4]]
  - [-1, 1, DCNV3_YoLo, [512, 3, 2]]
head:
  - [1, 1, CARAFE, [3, 5]]
  - [[-1, 0], 1, Concat, [1]]
  - [-1, 2, DCNV3_YoLo, [192, 3]]
  - [[2, 3], 1, Detect, [nc]]
"""


def test_channels_are_right_where_a_carafe_line_reads_from_another_layer_than_the_last(tasks, tmp_path):
    register_ultralytics()
    (tmp_path / "yolov8n-written-up.yaml").write_text(WRITE_UP)
    model = tasks.DetectionModel(tmp_path / "yolov8n-written-up.yaml", verbose=False)
    up, joined = model.model[4], model.model[6]
    # f=1: the 32 channels of layer 1, although the layer before it has 128; 32 + 16 are concatenated.
    assert up.c == 32
    assert joined.conv.conv.in_channels == 48
    assert (up.i, up.f, up.np) == (4, 1, parameters(up))
    assert model.model[2].dcnv3.group == 4
    assert (model.model[3].conv.conv.in_channels, model.model[3].dcnv3.channels) == (64, 128)
    assert (model.model[3].i, model.model[3].f, model.model[3].type) == (3, -1, "DCNV3_YoLo")
    assert model.stride.tolist() == [4, 8]
    assert model(torch.zeros(1, 3, 64, 64))["scores"].shape == (1, 2, 16 * 16 + 8 * 8)


def test_registering_twice_is_registering_once(tasks):
    register_ultralytics()
    parser = tasks.parse_model
    register_ultralytics()
    assert tasks.parse_model is parser


def test_a_model_without_such_lines_is_parsed_as_before(tasks):
    before = shapes(tasks.DetectionModel("yolov8n.yaml", verbose=False))
    register_ultralytics()
    assert shapes(tasks.DetectionModel("yolov8n.yaml", verbose=False)) == before


def test_a_carafe_line_of_several_layers_is_refused(tasks):
    register_ultralytics()
    lines = [[-1, 1, "Conv", [8, 1]], [[-1, 0], 1, "CARAFE", []]]
    with pytest.raises(OpbenchError, match="expected one layer to read from"):
        tasks.parse_model({"nc": 1, "backbone": lines, "head": []}, 3, verbose=False)


@pytest.mark.parametrize(
    "otherwise",
    [
        lambda d, ch, verbose: (_ for _ in ()).throw(KeyError("CARAFE")),
        lambda d, ch, verbose: (nn.Sequential(*(nn.Identity() for _ in d["backbone"])), []),
    ],
    ids=["raises", "other layers"],
)
def test_a_version_that_parses_otherwise_is_refused_by_name(tasks, monkeypatch, otherwise):
    monkeypatch.setattr(tasks, "parse_model", otherwise)
    with pytest.raises(OpbenchError, match=r"ultralytics \d+\.\d+\.\d+ parses YAML files otherwise"):
        register_ultralytics()
    assert tasks.parse_model is otherwise
    assert not hasattr(tasks, "CARAFE")


def test_an_edited_package_is_left_alone(tasks, monkeypatch):
    monkeypatch.setattr(tasks, "CARAFE", nn.Identity, raising=False)
    with pytest.raises(OpbenchError, match="of its own"):
        register_ultralytics()


def test_an_unknown_size_is_told_the_known_ones():
    with pytest.raises(OpbenchError, match=r"unknown size of YOLOv8 'xs'; did you mean .* \(known: l, m, n, s, x\)"):
        yolov8("xs")


def test_without_the_package_it_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "ultralytics"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    for call in (lambda: yolov8("n"), register_ultralytics):
        with pytest.raises(OpbenchError, match=r"can't be imported .* pip install 'opbench\[ultralytics\]'"):
            call()


def test_importing_it_sets_no_variable_of_the_process_and_resolves_no_host(tmp_path):
    code = (
        "import os, socket, sys\n"
        "def refused(*a, **o): raise SystemExit(f'resolved {a}')\n"
        "socket.getaddrinfo = refused\n"
        "before = dict(os.environ)\n"
        "from opbench.models.ultralytics_package import import_ultralytics\n"
        "assert 'ultralytics' not in sys.modules\n"
        "import_ultralytics('ultralytics.nn.tasks')\n"
        "assert dict(os.environ) == before, set(os.environ) ^ set(before)\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("YOLO_", "OMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**environment, "YOLO_CONFIG_DIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr


def photographs(side):
    """The two that the package ships, (2, 3, side, side) in 0..1, and a made-up box for each."""
    import cv2

    assets = import_ultralytics("ultralytics.utils").ASSETS
    images = [cv2.resize(cv2.imread(str(assets / name)), (side, side)) for name in ("bus.jpg", "zidane.jpg")]
    return {
        "img": torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image in images]).float() / 255,
        "batch_idx": torch.tensor([0.0, 1.0]),
        "cls": torch.tensor([[5.0], [0.0]]),
        "bboxes": torch.tensor([[0.5, 0.4, 0.9, 0.5], [0.3, 0.6, 0.4, 0.7]]),
    }


@pytest.mark.parametrize("carafe", [False, True])
@pytest.mark.parametrize("dcnv3", [False, True])
def test_a_forward_a_loss_and_an_optimiser_step_on_real_images(carafe, dcnv3):
    torch.manual_seed(0)
    model = yolov8("n", carafe=carafe, dcnv3=dcnv3).train()
    batch = photographs(96)
    assert batch["img"].std() > 0.1
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(2):
        optimiser.zero_grad()
        loss, _ = model.loss(batch)
        loss.sum().backward()
        optimiser.step()
        losses.append(loss.sum().item())
    assert losses[1] < losses[0]
    missing = [name for name, value in model.named_parameters() if value.grad is None and value.requires_grad]
    assert not missing
    for module in model.modules():
        if isinstance(module, (YoloCARAFE, DCNV3_YoLo)):
            assert all(value.grad.abs().sum() > 0 for value in module.parameters())


def test_the_package_is_imported_onto_the_cpu_whatever_the_default_device():
    script = """
import torch
from opbench.models.ultralytics_package import import_ultralytics
with torch.device("meta"):
    head = import_ultralytics("ultralytics.nn.modules.head")
print(head.Detect.anchors.device)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["cpu"], done.stderr


def test_what_the_package_says_on_a_new_machine_does_not_reach_stdout(tmp_path):
    script = "from opbench.models.ultralytics_package import import_ultralytics; import_ultralytics()"
    new = {**os.environ, "YOLO_CONFIG_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, env=new)
    assert done.stdout == ""
    assert "settings" in done.stderr.lower()
