"""`opbench decide` as a person or a script meets it."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from opbench import documents
from opbench.cli import main
from opbench.commands import decide
from opbench.decision.nouns import NetworkDecision
from opbench.schema import Run, Settings

NETWORKS = Path(__file__).parent / "networks.py"
# Whatever else this machine does, there is an answer.
QUICK = ("--size", "32", "--share-cpu", "--budget", "0.02", "--precision", "50%")


@pytest.fixture
def opbench(monkeypatch, tmp_path):
    """A command in this process, in a folder of its own; its exit code."""
    monkeypatch.chdir(tmp_path)

    def run(command, *arguments):
        monkeypatch.setattr(sys, "argv", ["opbench", command, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code

    return run


def test_it_prices_a_slot_and_leaves_a_run_that_every_command_reads(opbench, capsys, tmp_path):
    asked = (f"{NETWORKS}:Small", "--task", "upsample2x", "--operator", "deconv", *QUICK)
    assert opbench("decide", *asked, "-o", tmp_path / "out", "--json") == 0
    printed = capsys.readouterr()
    decision = documents.parse(printed.out.encode(), NetworkDecision)
    (slot,) = decision.slots
    assert {one.contender for one in slot.contenders} == {"nearest[torch]", "deconv[torch]"}
    assert [(place.workload, place.calls) for place in slot.places] == [("16x16x16", 1)]
    assert all(one.seconds > 0 and one.macs is not None for one in slot.contenders)
    assert decision.command.startswith(f"opbench decide {NETWORKS}:Small --task upsample2x --operator deconv")
    assert "2 cases in 1 panel," in printed.err
    assert "Accuracy was not measured" in (tmp_path / "out" / "decide.md").read_text()
    run = documents.read(tmp_path / "out" / "run.json", Run)
    assert {record.outcome for record in run.records} == {"ok"}
    # The suite of the run is a file beside it: a row of the report is repeated from there.
    assert run.command.startswith(f"opbench run --suite {tmp_path / 'out' / 'networks-small.toml'}")
    assert opbench("run", "--suite", tmp_path / "out" / "networks-small.toml", "--dry-run") == 0
    assert opbench("report", "out/run.json", "-o", "r") == 0
    assert opbench("compare", "out/run.json", "out/run.json") in (0, 2)  # too few rounds tell nothing
    assert opbench("export", "out/run.json", "--format", "csv", "-o", "run.csv") == 0
    assert opbench("dashboard", "out", "-o", "site") == 0


def test_a_longer_estimate_is_said_before_it_starts_and_how_to_shorten_it(opbench, capsys, monkeypatch):
    said = []
    monkeypatch.setattr(decide, "_measured", lambda request, planned, told: said.append(capsys.readouterr().err))
    assert opbench("decide", f"{NETWORKS}:Small", "--size", "32", "--budget", "400") == 130
    assert "at most about 20." in said[0], "three slots of 400 s each"
    assert "longer than 5 minutes; shorter: --task upsample2x or --task conv3x3 or --task downsample2x" in said[0]
    assert "a smaller --size" in said[0]


@pytest.mark.parametrize(
    ("seconds", "budget", "longer"), [(1.0, decide.LEAST_BUDGET, True), (3e3, decide.MOST_BUDGET, False)]
)
def test_the_time_of_a_panel_is_what_is_left_for_it(opbench, capsys, monkeypatch, seconds, budget, longer):
    planned = []
    monkeypatch.setattr(decide, "_measured", lambda request, asked, told: planned.append(asked))
    monkeypatch.setattr(decide, "SECONDS", seconds)
    opbench("decide", f"{NETWORKS}:Small", "--size", "32")
    assert planned[0].budget == budget
    assert ("that is longer than 5 minutes" in capsys.readouterr().err) == longer


@pytest.mark.parametrize(
    ("fixed", "asked", "budget", "visits"),
    [(243.0, None, 8.1, 3), (260.0, None, 5.7, 3), (292.0, None, 8.2, 1), (400.0, None, decide.LEAST_BUDGET, 1),
     (100.0, 20.0, 20.0, 3), (100.0, 60.0, 60.0, 1)],
)  # fmt: skip
def test_what_is_left_of_five_minutes_is_shared_and_where_it_is_little_by_one_visit(
    monkeypatch, fixed, asked, budget, visits
):
    """Never a tenth of a second more than there is: each visit but the first takes 25 s here."""
    monkeypatch.setattr("opbench.engine.estimate.seconds", lambda plan, given: fixed - 25 * (3 - given.replicas))
    settings = Settings(suite="s", precision=0.02, budget_seconds=0.0, replicas=3)
    found = decide._fitted(SimpleNamespace(plan=SimpleNamespace(panels=range(7)), settings=settings), asked)
    assert (found.budget, found.visits) == (budget, visits)
    assert found.whole == pytest.approx(fixed - 25 * (3 - visits) + 7 * budget)
    if asked is None and fixed < 300:
        assert found.whole <= decide.SECONDS


def test_an_interrupted_decision_says_how_to_go_on(opbench, capsys, monkeypatch, tmp_path):
    def interrupted(asked, folder, *_):
        (folder / "journal.jsonl").write_text("{}\n")
        raise KeyboardInterrupt

    monkeypatch.setattr("opbench.commands.run.measured", interrupted)
    assert opbench("decide", f"{NETWORKS}:Small", "--size", "32", "-o", "out") == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"opbench decide {NETWORKS}:Small --size 32 -o out --resume"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--task", "upsampl"), "--task: unknown task of a network 'upsampl'"),
        (("--size", "0x0"), "--size 0x0: expected HEIGHTxWIDTH"),
        (("--dtype", "float31"), "--dtype: unknown dtype 'float31'"),
        (("--where", "nothing*"), "no place of upsample2x or conv3x3 or downsample2x where 'nothing*'"),
        (("--operator", "caraf"), "unknown operator 'caraf'"),
        (("--resume",), "--resume needs -o DIR"),
    ],
)
def test_wrong_usage_is_a_sentence_and_exit_code_two(opbench, capsys, arguments, said):
    assert opbench("decide", f"{NETWORKS}:Small", "--size", "32", *arguments) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_a_network_without_ultralytics_is_refused_with_what_to_install(opbench, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "ultralytics"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    monkeypatch.setitem(sys.modules, "ultralytics.nn.tasks", None)
    monkeypatch.setitem(sys.modules, "ultralytics.models.yolo.model", None)
    assert opbench("decide", "yolov8n.yaml") == 2
    said = capsys.readouterr().err
    assert "pip install 'opbench[ultralytics]'" in said
    assert "opbench.models.plain_yolov8:yolov8n" in said
    planned = []
    monkeypatch.setattr(decide, "_measured", lambda request, asked, told: planned.append(asked))
    assert opbench("decide", "opbench.models.plain_yolov8:yolov8n", "--size", "64", "--role", "bottleneck") == 130
    assert Path(planned[0].suite).name == "plain-yolov8-yolov8n.toml"


@pytest.mark.nightly
@pytest.mark.parametrize("network", ["yolov8n.yaml", "yolo11n.yaml", "yolo12n.yaml"])
def test_three_real_networks_are_decided(opbench, capsys, ultralytics, network):
    assert opbench("decide", network, "--share-cpu", "-o", "out", "--json") == 0
    decision = json.loads(capsys.readouterr().out)
    assert [slot["task"] for slot in decision["slots"]] == ["upsample2x", "conv3x3", "downsample2x"]
    for slot in decision["slots"]:
        for one in slot["contenders"]:
            assert one["outcome"] == "ok", one
            assert one["ranks"][0] <= one["ranks"][1]
