"""An operator declared in one file is everywhere that operators are: command by command, with nothing else edited."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import in_process
import pytest

FILE = Path(__file__).parent / "an_operator.py"
NETWORK = """
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.up, self.b = nn.Conv2d(3, 16, 3), nn.Upsample(scale_factor=2), nn.Conv2d(16, 8, 3)
    def forward(self, x):
        return self.b(self.up(self.a(x)))
"""
TO_PARSE = """
import torch
from opbench.models import register_ultralytics
register_ultralytics()
from ultralytics.nn.tasks import parse_model
lines = [[-1, 1, "Conv", [8, 1]], [-1, 1, "Wander", []], [-1, 1, "Wander", [2]], [-1, 1, "Conv", [4, 1]]]
layers, _ = parse_model({"nc": 1, "backbone": lines, "head": []}, 3, verbose=False)
print(type(layers[1]).__name__, layers[1].groups, layers[2].groups, tuple(layers(torch.rand(1, 3, 8, 8)).shape))
"""


def opbench(*words, code=0, with_=True):
    done = in_process.opbench(*words, *(["--with", FILE] if with_ else []))
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """One run of it, in the slot's smallest workload, by a process of its own as a person starts it."""
    folder = tmp_path_factory.mktemp("an_operator")
    words = ["run", "--suite", "smoke", "--task", "upsample2x", "--operator", "wander", "--budget", "0", "--share-cpu"]
    command = [sys.executable, "-m", "opbench", *words, "--with", str(FILE), "-o", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_it_is_listed():
    assert "Wander (static scope)" in opbench("list", "operators")
    assert "wander" not in opbench("list", "operators", with_=False)


@pytest.mark.parametrize("suite", ["smoke", "default", "yolov8", "fpn", "sweep", "kernels"])
def test_it_competes_in_every_suite_that_its_task_is_in(suite):
    planned = opbench("run", "--suite", suite, "--task", "upsample2x", "--dry-run")
    assert "wander[gather]/spread=2px" in planned
    assert "wander[grid-sample]/spread=2px" in planned


def test_its_rows_are_verified_counted_and_named_by_their_spread(measured):
    records = json.loads((measured / "run.json").read_text())["records"]
    ours = [record for record in records if record["case"]["operator"] == "wander"]
    assert {record["case"]["implementation"] for record in ours} == {"grid-sample", "gather"}
    assert {record["case"]["mode"] for record in ours} == {"inference", "training"}
    for record in ours:
        assert record["outcome"] == "ok"
        assert record["verdict"]["worst_ratio"] <= 0.5
        assert record["verdict"]["basis"] == ""
        assert record["case"]["settings"] == {"groups": 4}
        assert record["case"]["spread"] == 2.0
        assert record["case"]["variant"] == ["spread=2px"]
        counts = record["counts"]
        assert counts["params"] == 1056
        assert counts["macs"] == counts["torch"]["macs"]


def test_its_setting_is_asked_for_by_name(measured):
    planned = opbench("run", "--suite", "smoke", "--task", "upsample2x", "--set", "wander.groups=2", "--dry-run")
    assert "wander[gather]/spread=2px/groups=2" in planned


def test_its_module_and_a_function_in_the_place_of_its_core_are_proven():
    words = ("--operator", "wander", "--quick", "--only")
    proven = opbench("check", f"{FILE}:Wander", *words, "evaluation", "--only", "training")
    assert "right: Wander computes wander" in proven
    assert "right: gather computes wander" in opbench("check", f"{FILE}:gather", *words, "evaluation")


def test_a_wrong_core_is_convicted(tmp_path):
    """By a process of its own, as a person starts it."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "import sys\ndef near(x, offset):\n    core = sys.modules['opbench_with_an_operator'].gather\n"
        "    return core(x, offset * 0.9)\n"
    )
    words = ("check", f"{wrong}:near", "--operator", "wander", "--quick", "--only", "evaluation", "--with", FILE)
    command = [sys.executable, "-m", "opbench", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    said = done.stdout
    assert "wrong: near does not compute wander: " in said
    assert "--with" in said.split("reproduce:")[1].splitlines()[0]


def test_a_relation_of_its_own_is_tried_on_its_module_and_on_functions(tmp_path):
    """Found where the definition isn't asked: by the relation itself."""
    words = ("--operator", "wander", "--quick", "--only", "constant-image", "--json")
    for target in ("Wander", "gather"):
        found = json.loads(opbench("check", f"{FILE}:{target}", *words))
        assert {result["property"]: result["status"] for result in found["results"]} == {"constant-image": "holds"}
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "import sys\ndef bright(*given):\n    return 1.01 * sys.modules['opbench_with_an_operator'].gather(*given)\n"
    )
    (result,) = json.loads(opbench("check", f"{wrong}:bright", *words, code=1))["results"]
    assert result["message"].startswith("output: expected 1 everywhere, got one that is 0.01 off")


NOT_RELATIONS = """
from torch import nn
from opbench.registry import register_operator
from opbench.schema import Cost, Operator

register_operator(Operator(name="odd", task="upsample2x", module=lambda *_: nn.Upsample(scale_factor=2),
                           definition=lambda dims, tensors, training: tensors["x"], relations={declared},
                           cost=lambda dims: Cost(params=0, macs=0, macs_backward=0, elements=1)))
"""


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ('"nowhere:RELATIONS"', "operator 'odd': relations: ModuleNotFoundError"),
        ("lambda: 3", "operator 'odd': relations: expected a tuple of opbench.relations.Relation, got 3"),
    ],
)
def test_relations_that_are_none_are_said_in_a_sentence(tmp_path, declared, said):
    file = tmp_path / "odd.py"
    file.write_text(NOT_RELATIONS.format(declared=declared))
    answer = opbench("check", "torch.nn:Upsample", "--operator", "odd", "--with", file, with_=False, code=2)
    assert said in answer
    assert "Traceback" not in answer


def test_it_takes_a_place_in_a_model(tmp_path):
    (tmp_path / "net.py").write_text(NETWORK)
    said = opbench("model", f"{tmp_path}/net.py:Net", "--swap", "upsample=wander", "--size", "32x32", "--budget", "0.2")
    assert "wander for 1 Upsample costs +544 params" in " ".join(said.split())
    assert "Offsets of deformable layers deviate by 2 px" in " ".join(said.split())


def test_it_is_drawn_as_it_says(tmp_path):
    opbench("show", "wander", "-o", tmp_path / "picture.svg")
    assert (tmp_path / "picture.svg").read_text().count("<circle") == 4
    said = opbench("show", "wander", "-o", tmp_path / "x.svg", with_=False, code=2)
    assert re.search(r"known: [a-z0-9, -]*carafe, [a-z0-9, -]*dcnv3[a-z0-9, -]*\)", said)


def test_it_is_exported_compared_and_on_the_dashboard(measured, tmp_path):
    opbench("export", measured / "run.json", "--format", "csv", "-o", tmp_path / "run.csv")
    assert "wander[gather]/spread=2px" in (tmp_path / "run.csv").read_text()
    assert "6 of 6 cases exactly as before" in opbench("compare", measured / "run.json", measured / "run.json")
    opbench("dashboard", measured, "-o", tmp_path / "site")
    assert "wander[gather]/spread=2px" in (tmp_path / "site" / "index.html").read_text()
    opbench("report", measured / "run.json", "-o", tmp_path / "report")
    assert "wander[gather]/spread=2px" in (tmp_path / "report" / "report.md").read_text()


def test_no_claim_is_recorded_for_it():
    assert "wander: no claim of a paper or write-up is recorded for it" in opbench("claims")


def test_its_line_parses_in_a_yaml_of_ultralytics():
    pytest.importorskip("ultralytics")
    done = subprocess.run(
        [sys.executable, "-c", TO_PARSE],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OPBENCH_WITH": str(FILE)},
    )
    assert done.stdout.split(maxsplit=3) == ["Wander", "4", "2", "(1, 8, 32, 32)\n"], done.stderr


SPREADS = """
[timing]
budget_seconds = 0.05
[defaults]
devices = ["cpu"]
spreads = [0.5, 2.0]
[[workload]]
task = "upsample2x"
name = "small"
source = "made up"
dims = { N = 1, C = 16, H = 6, W = 6 }
[[target]]
quantity = "speed-up"
task = "upsample2x"
workload = "small"
contender = "carafe[cpu]"
at_least = 0.001
"""


@pytest.fixture(scope="module")
def spread_out(tmp_path_factory):
    """A run at two spreads, with a setting of its own: the suite, and the folder."""
    folder = tmp_path_factory.mktemp("spread_out")
    suite = folder / "spreads.toml"
    suite.write_text(SPREADS)
    asked = ("--operator", "wander", "--operator", "carafe", "--set", "wander.groups=2")
    opbench("run", "--suite", suite, *asked, "-o", folder / "run")
    return suite, folder / "run"


def test_each_spread_is_judged_by_a_reference_of_its_own(spread_out):
    """Parameters differ by spread: one definition for both convicted every second row."""
    suite, folder = spread_out
    records = json.loads((folder / "run.json").read_text())["records"]
    ours = [record for record in records if record["case"]["operator"] == "wander"]
    assert {tuple(record["case"]["variant"]) for record in ours} == {
        ("spread=0.5px", "groups=2"),
        ("spread=2px", "groups=2"),
    }
    assert {record["outcome"] for record in ours} == {"ok"}
    report = (folder / "report.md").read_text()
    assert f"opbench run --suite {suite} --task upsample2x --workload small --operator wander" in report


def test_a_row_s_own_command_carries_the_settings(spread_out):
    _, folder = spread_out
    report = (folder / "report.md").read_text()
    rows = [line for line in report.splitlines() if line.startswith("opbench run") and "--workload" in line]
    assert rows
    assert all("--set wander.groups=2" in line for line in rows)


BROKEN = """
from torch import nn
from opbench.registry import register_operator
from opbench.schema import Cost, Operator

def broken(dims, implementation):
    raise RuntimeError("not today")

register_operator(Operator(name="late", task="upsample2x", module=broken, definition=lambda *_: None,
                           cost=lambda dims: Cost(params=0, macs=0, macs_backward=0, elements=1)))
"""


def test_it_trains_in_the_study_and_an_operator_that_can_not_be_built_takes_no_part(tmp_path):
    (tmp_path / "late.py").write_text(BROKEN)
    words = ("study", "upsample", "--quick", "--seeds", "2", "--images", "generated", "--processes", "1")
    said = opbench(*words, "-o", tmp_path / "study", "--with", tmp_path / "late.py")
    assert "upsample: late takes no part: RuntimeError: not today" in said
    document = json.loads((tmp_path / "study" / "study.json").read_text())
    trained = [one for one in document["studies"][0]["trainings"] if one["contender"] == "wander"]
    assert len(trained) >= 2


def test_an_operator_that_can_not_be_built_is_not_judged(tmp_path):
    (tmp_path / "late.py").write_text(BROKEN)
    said = opbench(
        "check", f"{tmp_path}/late.py:broken", "--operator", "late", "--with", tmp_path / "late.py", with_=False, code=2
    )
    assert "RuntimeError: not today" in said
    assert "Traceback" not in said
