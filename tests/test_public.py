"""The public names of opbench: there, light to import, and none of them in the way of a package."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from factory import make_record, make_run

import opbench
from opbench.documents import save


@pytest.mark.parametrize("name", opbench.__all__)
def test_a_public_name_is_there_and_no_package_s(name):
    assert getattr(opbench, name).__name__ == name
    assert name in dir(opbench)
    assert importlib.util.find_spec(f"opbench.{name}") is None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'opbench' has no attribute 'Operater'"):
        opbench.Operater  # noqa: B018 - the access is what is tested


def test_importing_opbench_loads_nothing_else_and_nouns_load_no_torch():
    script = """
import json, sys
import opbench
alone = [name for name in sys.modules if name.startswith("opbench.") or name in ("torch", "msgspec", "hypothesis")]
opbench.Operator, opbench.Relation, opbench.Drawing, opbench.Constructor, opbench.register_operator
print(json.dumps([alone, [name for name in ("torch", "hypothesis") if name in sys.modules]]))
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == [[], []]


CLIENT = """
import torch
from torch import nn

import opbench
from opbench.operators.carafe import YoloCARAFE

model: nn.Module = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Upsample(scale_factor=2))
changed: list[str] = [change.name for change in opbench.swap(model, nn.Upsample, YoloCARAFE)]
found: opbench.Run = opbench.run("smoke", task=["carafe_core"], dtype=["float32"], seed=1)
verdict: bool = opbench.check("file.py:mine", "carafe", quick=True, fix={"kernel_size": 3}).conformant
again: opbench.Run = opbench.load_run("run.json")
regressed: bool = opbench.compare_runs(found, "run.json", allow=["peak"]).regressed
opbench.declare("operators.py")
"""


MISTAKEN = """
import opbench

opbench.run(suit="smoke")
opbench.check("a:b", "carafe").conformant.lower()
"""


# A type check of everything, without its cache.
@pytest.mark.nightly
def test_a_client_s_file_is_strictly_typed_and_its_mistakes_are_found(tmp_path):
    pytest.importorskip("mypy", reason="mypy is not installed")
    (tmp_path / "client.py").write_text(CLIENT)
    (tmp_path / "mistaken.py").write_text(MISTAKEN)
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir", str(tmp_path / "c")]
    command += ["client.py", "mistaken.py"]
    # mypy doesn't look where an editable install points; an installed wheel it finds by itself.
    found = {**os.environ, "MYPYPATH": str(Path(opbench.__file__).parents[1])}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=found)
    assert "(checked 2 source files)" in done.stdout
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert {line.partition(":")[0] for line in errors} == {"mistaken.py"}, done.stdout
    assert 'Unexpected keyword argument "suit"' in done.stdout
    assert '"bool" has no attribute "lower"' in done.stdout


def test_runs_are_loaded_and_compared(tmp_path):
    run = make_run([make_record()])
    save(run, tmp_path / "run.json")
    assert opbench.load_run(tmp_path) == opbench.load_run(tmp_path / "run.json") == run
    assert not opbench.compare_runs(run, tmp_path / "run.json").regressed
    with pytest.raises(opbench.OpbenchError, match="no such file"):
        opbench.load_run(tmp_path / "other.json")


TARGET = """
from opbench.operators.carafe import IMPLEMENTATIONS

def mine(x, mask, *, kernel_size, group_size, scale_factor):
    out = IMPLEMENTATIONS["shift-add"].function(
        x, mask, kernel_size=kernel_size, group_size=group_size, scale_factor=scale_factor
    )
    return out * FACTOR
"""


@pytest.mark.parametrize(("factor", "conformant"), [("1", True), ("1.001", False)])
def test_a_function_is_checked_by_its_place_or_by_itself(tmp_path, monkeypatch, factor, conformant):
    (tmp_path / "a_target.py").write_text(TARGET.replace("FACTOR", factor))
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("a_target", None)
    mine = importlib.import_module("a_target").mine
    found = opbench.check(mine, "carafe", quick=True, only=["definition"])
    assert found.conformant is conformant
    assert found.request.target == f"{tmp_path / 'a_target.py'}:mine"


def test_what_no_other_process_can_import_is_not_checked():
    with pytest.raises(opbench.OpbenchError, match="must be a function or class at the top of a file"):
        opbench.check(lambda x: x, "carafe")


def test_a_run_is_measured_in_silence_and_kept_only_where_asked(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    suite = tmp_path / "tiny.toml"
    suite.write_text(
        '[timing]\nprecision = 0.5\nbudget_seconds = 0.05\n[contenders]\ncarafe_core = ["carafe[shift-add]"]\n'
        '[[workload]]\ntask = "carafe_core"\nname = "tiny"\nsource = "made up"\n'
        'dims = { N = 1, C = 4, H = 4, W = 4 }\nmodes = ["inference"]\n'
    )
    found = opbench.run(suite, threads=1)
    assert {record.outcome for record in found.records} <= {"ok", "disturbed"}
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.toml"]
    kept = opbench.run(suite, threads=1, output=tmp_path / "kept")
    assert opbench.load_run(tmp_path / "kept") == kept
    assert (Path(tmp_path) / "kept" / "report.md").exists()
    assert capfd.readouterr().out == ""


def test_a_declared_task_and_operator_are_known_from_then_on():
    script = """
import opbench, torch
opbench.declare(opbench.Task("a_slot", "a slot", "a[torch]", ("N", "C", "H", "W")))
opbench.declare(opbench.Operator(
    name="mine", task="upsample2x", module=lambda dims, chosen: torch.nn.Upsample(scale_factor=2),
    definition=lambda dims, tensors, training: tensors["x"].repeat_interleave(2, 2).repeat_interleave(2, 3),
    cost=lambda dims: opbench.Cost(params=0, macs=0, elements=5 * dims["N"] * dims["C"] * dims["H"] * dims["W"]),
))
from opbench import registry
assert "a_slot" in registry.tasks()
assert registry.operator("upsample2x", "mine").title == "mine"
try:
    opbench.declare("no-such-file.py")
except opbench.OpbenchError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "no-such-file.py" in done.stdout
