"""`opbench model` as a person or a script meets it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

NETWORKS = Path(__file__).parent / "networks.py"


def opbench(*arguments, cwd=None):
    command = [sys.executable, "-m", "opbench", "model", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=cwd, check=False)


QUICK = ("--size", "32", "--budget", "0.05", "--precision", "50%")


def test_it_prints_json_alone_whatever_the_model_prints_and_leaves_markdown(tmp_path):
    done = opbench(f"{NETWORKS}:Small", "--swap", "upsample=carafe", *QUICK, "--json", "--markdown", tmp_path / "a.md")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [variant["name"] for variant in document["variants"]] == ["as it is", "upsample=carafe"]
    assert "carafe for 1 Upsample costs +" in (tmp_path / "a.md").read_text()


def test_wrong_input_is_one_line_and_exit_code_two():
    done = opbench(f"{NETWORKS}:Small", "--swap", "conv3x3=carafe", *QUICK)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("opbench: mix (Conv2d) can't be swapped: expected height and width")


@pytest.mark.usefixtures("ultralytics")
def test_a_yaml_is_a_target_and_its_own_carafe_lines_parse(tmp_path, monkeypatch):
    from opbench.models.target import load_model
    from opbench.operators.carafe import YoloCARAFE
    from opbench.schema import OpbenchError

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
