"""The survey of what survives ultralytics' trainer: its page is its document's; a module that breaks a step is told."""

import re
from pathlib import Path

import pytest
import torch
import training_page
import will_it_train
from drawn_images import drawn_set
from torch import nn
from training_life import ORDER, noted, step
from training_page import LEFT_OUT, STEPS, read, save, summary, table
from training_steps import Subject
from will_it_train import lived

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = sorted((ROOT / "results").glob("*/will-it-train/*.jsonl.gz"))


def document(**outcomes):
    steps = {step: outcomes.get(step, "ok") for step in STEPS}
    return {
        "network": "net.yaml", "size": 64, "machine": "a machine", "torch": "2", "ultralytics": "8",
        "rows": [{"slot": "upsample", "operator": "one", "steps": steps}], "command": "python again.py",
    }  # fmt: skip


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_a_page_of_results_is_what_its_document_says(path):
    page = path.with_name(path.name.removesuffix(".jsonl.gz") + ".md")
    assert page.read_text(encoding="utf-8") == table(read(path))


def test_the_page_of_the_docs_shows_what_the_documents_say():
    page = (ROOT / "docs" / "reference" / "will-it-train.md").read_text(encoding="utf-8")
    assert len(DOCUMENTS) > 1
    assert "\n".join(summary([read(path) for path in DOCUMENTS])) in page
    steps = dict(re.findall(r"^\| ([a-z]+) \| ([^|]+) \|$", page, re.MULTILINE))
    assert {step: steps.get(step) for step in STEPS} == training_page.ABOUT


def test_a_summary_says_what_fails_what_was_not_tried_and_what_is_left_as_it_is():
    other = document(trains="no", resumes="not reached")
    other["network"], other["rows"][0]["operator"] = "other.yaml", "two"
    other["rows"][0][LEFT_OUT] = "stem: 3 channels"
    assert summary([document(), other])[2:] == [
        "| `upsample` | `one` | all | not tried |",
        "| `upsample` | `two` | not tried | not: trains, resumes |",
        "",
        "- `two` in `upsample` of other leaves as it is stem: 3 channels.",
    ]


def test_the_table_says_yes_no_and_why_and_what_was_not_reached(tmp_path):
    found = document(fuses="predictions differ by 3", exports="not reached")
    text = table(found)
    assert "| `upsample` | `one` | yes | yes | yes | yes | yes | **no** | yes | yes | - | yes |" in text
    assert "- `one` in `upsample`, fuses: predictions differ by 3" in text
    assert "Nothing failed, and no place was left out." in table(document())
    left = document()
    left["rows"][0][LEFT_OUT] = "model.0.conv: 3 channels"
    assert "- `one` in `upsample` leaves as it is model.0.conv: 3 channels" in table(left)
    save(found, tmp_path / "net.jsonl.gz")
    assert read(tmp_path / "net.jsonl.gz") == found


def test_every_step_is_explained():
    assert list(training_page.ABOUT) == list(STEPS)
    assert {*ORDER, "reloads"} == {*STEPS}
    assert re.search(r"\*builds\*: swapped in", table(document()))


def test_a_step_is_noted_with_what_was_wrong(tmp_path, capsys):
    def raises():
        raise RuntimeError("no\n  such thing")

    assert step(tmp_path, "builds", lambda: None)
    assert not step(tmp_path, "fuses", lambda: "predictions differ by 3")
    assert not step(tmp_path, "trains", raises)
    assert noted(tmp_path) == {
        "builds": "ok", "fuses": "predictions differ by 3", "trains": "RuntimeError: no such thing"
    }  # fmt: skip


# In the place of training_life.py: `dies` ends its process at the second step, `hangs` is never done.
CHILD = """
import json, pathlib, sys, time
act, *_, network, size = sys.argv[1:4]
for folder in map(pathlib.Path, sys.argv[4:]):
    operator, found = json.loads((folder / "case.json").read_text())["operator"], folder / "found.json"
    if act == "live":
        found.write_text(json.dumps({"builds": "ok"}))
        if operator == "dies":
            sys.exit(3)
        if operator == "hangs":
            time.sleep(60)
        found.write_text(json.dumps({name: "ok" for name in ORDER}))
    else:
        found.write_text(json.dumps({**json.loads(found.read_text()), "reloads": "ok"}))
    (folder / f"{act}.done").touch()
"""


def test_a_process_that_ends_early_or_hangs_is_followed_by_another_for_the_rest(tmp_path, monkeypatch):
    child = tmp_path / "child.py"
    child.write_text(CHILD.replace("ORDER", repr(ORDER)))
    monkeypatch.setattr(will_it_train, "LIFE", child)
    monkeypatch.setattr(will_it_train, "PATIENCE", 2)
    heard = []
    found = lived(
        "upsample", ["first", "dies", "hangs", "last"], "net.yaml", 64, lambda name, steps: heard.append(name)
    )
    assert heard == ["first", "dies", "hangs", "last"]
    assert set(found["first"].values()) == set(found["last"].values()) == {"ok"}
    second = ORDER[1]
    assert (found["dies"]["builds"], found["dies"][second]) == ("ok", "its process ended with 3")
    assert found["hangs"][second] == "not done after 2 s"
    assert found["dies"]["trains"] == "not reached"


# --- Nightly: with the trainer itself ---------------------------------------------------------------------------


@pytest.mark.nightly
@pytest.mark.parametrize(("slot", "operator"), [("upsample", "carafe"), ("conv3x3@bottleneck", "dcnv3")])
def test_an_operator_lives_through_the_trainer(ultralytics, slot, operator):
    found = lived(slot, [operator], "yolo11n.yaml", 64)[operator]
    # What an export can't is told in the table; that it trains, saves and comes back is a promise.
    assert {step for step in STEPS if found[step] != "ok"} <= {"exports"}, found


class Deaf(nn.Module):
    """Learns nothing: its weight has no part in the output."""

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x):
        return nn.functional.interpolate(x, scale_factor=2) * self.weight.detach()[:, None, None]


class Forgetful(nn.Module):
    """Another answer at each call."""

    def __init__(self, channels):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return nn.functional.interpolate(x, scale_factor=2) * self.calls


@pytest.mark.nightly
def test_planted_faults_are_told_by_the_step_that_meets_them(ultralytics, tmp_path):
    def subject(kind):
        return Subject("upsample", kind, "yolo11n.yaml", 64, tmp_path, drawn_set(tmp_path, 64))

    assert subject(Deaf).autocast() == "weight gets no gradient"
    assert subject(Deaf).copies() is None
    assert subject(Forgetful).copies().startswith("predictions differ by")
