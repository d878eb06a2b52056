"""The steps of `will_it_train.py`, by one process for many operators.

    python tests/models/training_life.py live|reload NETWORK SIZE FOLDER...

Each folder holds a `case.json` of a slot and an operator; `found.json` there has what became of each step that was
begun, at any moment, and `live.done` or `reload.done` ends it.
"""

import contextlib
import json
import shutil
import sys
import traceback
from pathlib import Path

from drawn_images import drawn_set, suppressing
from training_page import LEFT_OUT
from training_steps import BEST, IMAGE, PREDICTED, Subject, differs

# As they are taken; `reloads` by another process, when this one is through.
ORDER = ("builds", "copies", "autocast", "fuses", "trains", "validates", "predicts", "exports", "resumes")


def step(folder, name, act):
    """Takes a step and notes what became of it: "ok", or what was wrong. Whether it was ok."""
    found = {}
    try:
        found[name] = act() or "ok"
    except Exception as error:  # whatever a module or the trainer raises is what is asked for
        traceback.print_exc()
        found[name] = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
    note(folder, name, found[name])
    return found[name] == "ok"


def note(folder, name, said):
    """Keeps what is said of a step."""
    (folder / "found.json").write_text(json.dumps({**noted(folder), name: said}))


def noted(folder):
    """What became of the steps so far, by name."""
    path = folder / "found.json"
    return json.loads(path.read_text()) if path.exists() else {}


def live(slot, operator, network, size, folder):
    """All steps that one process can take. Of what they write, what `reload` needs is left in the folder."""
    work = folder / "work"
    work.mkdir()
    subject = Subject(slot, operator, network, size, work, drawn_set(work, size))
    # Nothing of what follows is asked of what can't be built, nor the last ones of what doesn't train.
    after_building, after_training = ORDER[1 : ORDER.index("trains")], ORDER[ORDER.index("trains") + 1 :]
    if step(folder, "builds", subject.builds):
        note(folder, LEFT_OUT, "; ".join(f"{place}: {why}" for place, why in subject.left_out.items()))
        for name in after_building:
            step(folder, name, getattr(subject, name))
        if step(folder, "trains", subject.trains):
            for name in after_training:
                step(folder, name, getattr(subject, name))
            # Another process tells, unless there is nothing to hand over.
            step(folder, "reloads", lambda: subject.hand_over(folder) or "not reached")
    shutil.rmtree(work)


def reload(slot, operator, network, size, folder):
    """Opens the trained network in this process, which has never seen it, and predicts."""
    import torch
    from ultralytics import YOLO

    def reloads():
        model = YOLO(str(folder / BEST)).model.float().eval()
        return differs(model(torch.load(folder / IMAGE)), torch.load(folder / PREDICTED))

    if (folder / BEST).exists():
        step(folder, "reloads", reloads)


def main():
    """Takes the cases of all folders, one after another."""
    import torch

    from opbench.models.ultralytics_package import import_ultralytics

    act, network, size, *folders = sys.argv[1:]
    torch.set_num_threads(1)
    import_ultralytics()
    suppressing()
    for folder in map(Path, folders):
        torch.manual_seed(0)
        torch.use_deterministic_algorithms(False)  # a training that failed leaves them switched on
        case = json.loads((folder / "case.json").read_text())
        with contextlib.chdir(folder):
            {"live": live, "reload": reload}[act](case["slot"], case["operator"], network, int(size), folder)
        (folder / f"{act}.done").touch()


if __name__ == "__main__":
    main()
