"""Swapped networks in processes of their own: the file that ultralytics writes for them, and training side by side."""

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from drawn_images import drawn_set

from opbench.models.ultralytics_package import import_ultralytics

DESCRIBED = """
nc: 2
scales:
  n: [0.33, 0.25, 1024]
backbone:
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, C2f_DCNv3, [64, True]]
  - [-1, 1, Conv, [128, 3, 2]]
head:
  - [-1, 1, Carafe, []]
  - [[-1, 1], 1, Concat, [1]]
  - [-1, 1, C2f, [64]]
  - [[5], 1, Detect, [nc]]
"""
# After the lines of the file itself, in the place of trainer.train(): what it was given, and the same network anew.
ASKED = """
    names = {type(layer).__name__ for layer in trainer.model.modules()}
    anew = trainer.get_model(trainer.model.yaml, verbose=False)
    same = [value.shape for value in anew.parameters()] == [value.shape for value in trainer.model.parameters()]
    print("built", names >= {"YoloCARAFE", "DCNV3_YoLo"}, same)
"""


@pytest.fixture
def described(tmp_path):
    path = tmp_path / "yolov8n-swapped.yaml"
    path.write_text(DESCRIBED)
    return path


def test_the_file_that_ultralytics_writes_builds_the_swapped_model_by_itself(tasks, described, tmp_path, monkeypatch):
    # The two differ only for what can't be imported by name.
    monkeypatch.setitem(sys.modules, "cloudpickle", pickle)
    from opbench.models.target import load_model
    from opbench.models.ultralytics_trainer import SwappedTrainer

    dist = import_ultralytics("ultralytics.utils.dist")
    monkeypatch.setattr(dist, "USER_CONFIG_DIR", tmp_path)
    monkeypatch.setattr("ultralytics.utils.checks.check_requirements", lambda *_, **__: True)
    trainer = SwappedTrainer.__new__(SwappedTrainer)
    arguments = {"model": str(described), "data": "coco8.yaml", "device": "cpu", "save_dir": str(tmp_path / "run")}
    trainer.args, trainer.model, trainer.callbacks = SimpleNamespace(**arguments), load_model(str(described)), {}
    written = dist.generate_ddp_file(trainer)
    text = Path(written).read_text(encoding="utf-8")
    assert text.rstrip().endswith("trainer.train()")
    # Construction reads a data set from disk; the network is what is asked after.
    text = text.replace('state["trainer"](cfg=cfg, overrides=state["args"], _callbacks=state["callbacks"])', MADE)
    (tmp_path / "run.py").write_text(text.rstrip().removesuffix("trainer.train()").rstrip() + ASKED)
    new = {**os.environ, "YOLO_CONFIG_DIR": str(tmp_path)}
    command = [sys.executable, str(tmp_path / "run.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=new)
    assert done.stdout.splitlines()[-1:] == ["built True True"], done.stdout + done.stderr


MADE = """state["trainer"].__new__(state["trainer"])
    import types
    trainer.args, trainer.data = types.SimpleNamespace(**state["args"]), {"nc": 2, "channels": 3}
"""


# The file as it was written, in a process that has imported nothing of ours.
UNTOUCHED = """
import runpy, sys
sys.path.insert(0, sys.argv[2])
from drawn_images import suppressing
suppressing()
assert not [name for name in sys.modules if name.startswith("opbench")]
runpy.run_path(sys.argv[1], run_name="__main__")
"""


@pytest.mark.nightly
def test_the_file_that_ultralytics_writes_trains_the_swapped_model_in_a_fresh_process(
    tasks, described, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "cloudpickle", pickle)
    from opbench.models import register_ultralytics
    from opbench.models.ultralytics_trainer import SwappedTrainer

    register_ultralytics()
    dist = import_ultralytics("ultralytics.utils.dist")
    monkeypatch.setattr(dist, "USER_CONFIG_DIR", tmp_path)
    monkeypatch.setattr("ultralytics.utils.checks.check_requirements", lambda *_, **__: True)
    asked = {
        "model": str(described), "data": str(drawn_set(tmp_path / "set", 64)), "imgsz": 64, "epochs": 1, "batch": 4,
        "device": "cpu", "workers": 0, "plots": False, "project": str(tmp_path), "name": "run", "exist_ok": True,
        "amp": False,
    }  # fmt: skip
    trainer = SwappedTrainer(overrides=asked)
    trainer.model = trainer.get_model(cfg=str(described), verbose=False)
    trainer.callbacks = {}  # its own are lambdas, which cloudpickle alone takes along
    command = [sys.executable, "-c", UNTOUCHED, dist.generate_ddp_file(trainer), str(Path(__file__).parent)]
    new = {**os.environ, "YOLO_CONFIG_DIR": str(tmp_path), "YOLO_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=new, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    saved = torch.load(tmp_path / "run" / "weights" / "last.pt", weights_only=False)
    kinds = {type(layer).__name__ for layer in (saved["ema"] or saved["model"]).modules()}
    assert kinds >= {"YoloCARAFE", "DCNV3_YoLo"}


RANK = """
import sys, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
import opbench.models.ultralytics_trainer
from opbench.models.target import load_model
rank, port, described = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
model = load_model(described, seed=0)
from ultralytics.utils import DEFAULT_CFG
model.args = DEFAULT_CFG
parallel = DistributedDataParallel(model.train())
optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
torch.manual_seed(rank)
for step in range(3):
    batch = {"img": torch.rand(2, 3, 64, 64), "batch_idx": torch.tensor([0.0, 1.0]),
             "cls": torch.tensor([[0.0], [1.0]]),
             "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.3, 0.6, 0.4, 0.5]])}
    optimiser.zero_grad()
    loss, _ = parallel(batch)
    loss.sum().backward()
    assert all(value.grad is not None for value in model.parameters() if value.requires_grad)
    optimiser.step()
total = torch.stack([value.detach().double().sum() for value in model.parameters()])
both = [torch.zeros_like(total) for _ in range(2)]
dist.all_gather(both, total)
print("agree", torch.equal(*both), bool(torch.isfinite(total).all()))
dist.destroy_process_group()
"""


@pytest.mark.nightly
def test_two_processes_train_a_swapped_network_together(ultralytics_settings, described, tmp_path):
    """Every parameter gets a gradient at every step, or distributed training would refuse the next one."""
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    (tmp_path / "rank.py").write_text(RANK)
    started = [
        subprocess.Popen(
            [sys.executable, str(tmp_path / "rank.py"), str(rank), str(port), str(described)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for one in started:
        out, error = one.communicate(timeout=300)
        assert out.splitlines()[-1:] == ["agree True True"], out + error


def test_a_fused_swapped_yolo_predicts_as_before(tasks, described):
    """`predict()` and `val()` call the network through this back end, which fuses it."""
    from opbench.models.target import load_model

    torch.manual_seed(0)
    model, x = load_model(str(described)).eval(), torch.rand(1, 3, 64, 64)
    expected = model(x)[0]
    backend = import_ultralytics("ultralytics.nn.autobackend").AutoBackend
    called = backend(model=copy.deepcopy(model), device=torch.device("cpu"), fuse=True, verbose=False)
    assert torch.allclose(called(x)[0], expected, atol=1e-4)
    fused = copy.deepcopy(model).fuse(verbose=False)
    assert fused.is_fused()
    assert torch.allclose(fused(x)[0], expected, atol=1e-4)
