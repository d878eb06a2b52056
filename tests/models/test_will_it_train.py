"""The survey of what survives ultralytics' trainer: its page is its document's; a module that breaks a step is told."""

import re
from pathlib import Path

import pytest
import torch
import will_it_train
from torch import nn
from will_it_train import STEPS, Subject, drawn_set, lived, read, save, table

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


def test_the_table_says_yes_no_and_why_and_what_was_not_reached(tmp_path):
    found = document(fuses="predictions differ by 3", exports="not reached")
    text = table(found)
    assert "| `upsample` | `one` | yes | yes | yes | yes | yes | **no** | yes | - | yes |" in text
    assert "- `one` in `upsample`, fuses: predictions differ by 3" in text
    assert "Nothing failed." in table(document())
    save(found, tmp_path / "net.jsonl.gz")
    assert read(tmp_path / "net.jsonl.gz") == found


def test_every_step_is_explained():
    assert list(will_it_train.ABOUT) == list(STEPS)
    assert re.search(r"\*builds\*: swapped in", table(document()))


# --- Nightly: with the trainer itself ---------------------------------------------------------------------------


@pytest.mark.nightly
@pytest.mark.parametrize(("slot", "operator"), [("upsample", "carafe"), ("conv3x3@bottleneck", "dcnv3")])
def test_an_operator_lives_through_the_trainer(ultralytics, slot, operator):
    found = lived(slot, operator, "yolo11n.yaml", 64)
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
