"""`opbench model` as a person or a script meets it."""

import functools
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from waiting import Waiting

from opbench.cli import main
from opbench.measure.disturbance import DisturbanceGuard
from opbench.models import side_by_side
from opbench.models.target import load_model
from opbench.operators.carafe import YoloCARAFE
from opbench.schema import OpbenchError

NETWORKS = Path(__file__).parent / "networks.py"
QUICK = ("--size", "32", "--budget", "0.05", "--precision", "50%")


@pytest.fixture
def opbench(monkeypatch):
    """The command in this process; its exit code."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["opbench", "model", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code

    return run


def test_it_prints_json_alone_whatever_the_model_prints_and_leaves_markdown(opbench, tmp_path, capsys):
    more = ("--json", "--markdown", tmp_path / "a.md")
    assert opbench(f"{NETWORKS}:Small", "--swap", "upsample=carafe", *QUICK, *more) == 0
    document = json.loads(capsys.readouterr().out)
    assert [variant["name"] for variant in document["variants"]] == ["as it is", "upsample=carafe"]
    (proven,) = document["proven"]
    assert 0 < proven["verdict"]["worst_ratio"] <= 1
    assert "carafe for 1 Upsample costs +" in (tmp_path / "a.md").read_text()


def test_it_prints_the_table_the_layers_and_the_sentence(opbench, capsys):
    assert opbench(f"{NETWORKS}:Small", "--swap", "conv3x3:mi*=depthwise3x3", *QUICK) == 0
    said = capsys.readouterr().out
    assert "depthwise3x3 for 1 Conv2d costs -2,160 params" in said.replace("\n", " ")
    assert "where the time goes: as it is" in said


@pytest.mark.parametrize("busy", [True, False])
def test_a_busy_machine_s_latency_is_named_disturbed_and_no_ratio_of_it_is_shown(opbench, capsys, monkeypatch, busy):
    guard = functools.partial(DisturbanceGuard, kernel=Waiting(0.5 if busy else 0.0), sleep=lambda seconds: None)
    monkeypatch.setattr(side_by_side, "DisturbanceGuard", guard)
    assert opbench(f"{NETWORKS}:Small", "--swap", "upsample=carafe", *QUICK) == 0
    said = " ".join(capsys.readouterr().out.split())
    shown = re.search(r"latency \(inference\) vs as it is (.*?) median latency", said)[1]
    ratios = re.findall(r"[0-9.]+x \[", said)
    if busy:
        assert shown == "disturbed disturbed"
        assert not ratios
        assert "a latency that isn't known (disturbed)" in said
        assert re.search(r"for \d+% of a block's time its threads were ready to run and had no core; use fewer", said)
    else:
        assert shown.startswith("baseline")
        assert ratios
        assert "disturbed" not in said


def test_a_pipe_is_told_a_line_a_step(opbench, capsys):
    opbench(f"{NETWORKS}:Small", "--swap", "upsample=carafe", *QUICK)
    told = capsys.readouterr().err.splitlines()
    steps = ["loading the model", "proving carafe", "counting: as it is", "counting: upsample=carafe", "timing"]
    places = [next(at for at, line in enumerate(told) if line.startswith(step)) for step in steps]
    assert places == sorted(places)


def test_threads_are_as_asked_for_and_as_before_afterwards(opbench, capsys):
    before = torch.get_num_threads()
    opbench(f"{NETWORKS}:Small", *QUICK, "--threads", 2, "--json")
    assert json.loads(capsys.readouterr().out)["threads"] == 2
    assert torch.get_num_threads() == before


def test_wrong_input_is_one_line_and_exit_code_two(opbench, capsys):
    assert opbench(f"{NETWORKS}:Small", "--swap", "conv3x3=carafe", *QUICK) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("opbench: mix (Conv2d) can't be swapped: expected height and width")


@pytest.mark.parametrize("option", [("--device", "tpu"), ("--mode", "evaluation"), ("--dtype", "float8")])
def test_an_unknown_choice_is_told_the_known_ones(opbench, capsys, option):
    assert opbench(f"{NETWORKS}:Small", *option) == 2
    assert f"opbench: {option[0]}: unknown {option[0][2:]} {option[1]!r}" in capsys.readouterr().err


@pytest.mark.usefixtures("tasks")
def test_a_yaml_is_a_target_and_its_own_carafe_lines_parse(tmp_path):
    (tmp_path / "yolov8n-mine.yaml").write_text(
        "nc: 1\nbackbone:\n  - [-1, 1, Conv, [16, 3, 2]]\n  - [-1, 1, CARAFE, []]\n"
        "head:\n  - [[0, 1], 1, Detect, [nc]]\n"
    )
    model = load_model(str(tmp_path / "yolov8n-mine.yaml"))
    assert isinstance(model.model[1], YoloCARAFE)
    with pytest.raises(OpbenchError, match="ultralytics can't build it: FileNotFoundError"):
        load_model("yolov99z.yaml")
    with pytest.raises(OpbenchError, match="not an address"):
        load_model("https://example.com/yolov8n.yaml")
