"""Does a network with an operator swapped in survive the whole life of a model of ultralytics, on a CPU?

    python tests/models/will_it_train.py yolo11n.yaml -o results/xeon-2core/will-it-train

Each operator of each slot: one epoch of the real trainer on a small set of drawn images, then validation, saving,
reloading in a new process, resuming, fusing, predicting, deep-copying, export, and one step under autocast in bfloat16
(the trainer itself refuses mixed precision on a CPU). Whether it learns is another question: `opbench study`.
Writes NETWORK.jsonl.gz, and NETWORK.md with the table of what works.

One process takes several operators of a slot (`training_life.py`), and a second one reloads what the first has trained.
One that ends early, or takes too long over an operator, is followed by another for the rest. `--resume` goes on with a
survey that was broken off: what its document holds of the same versions isn't asked again.
"""

import argparse
import functools
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from training_life import ORDER, noted
from training_page import LEFT_OUT, STEPS, read, save, table

LIFE = Path(__file__).resolve().with_name("training_life.py")
# slot of a network: the task whose operators are swapped in there
SLOTS = {"upsample": "upsample2x", "conv3x3@bottleneck": "conv3x3", "downsample2x": "downsample2x"}
# Seconds for one operator: all of its steps take some twenty.
PATIENCE = 600
# Between two looks at what a process has written.
LOOK = 0.2
# Operators for a pair of processes: what a survey that is broken off loses.
TOGETHER = 6


def lived(slot, operators, network, size, told=lambda operator, steps: None):
    """What became of each step of each operator, by name; `told` hears of each operator that is through but reloading.

    A process that ended early says so of the step that it was at.
    """
    with tempfile.TemporaryDirectory(prefix="will-it-train-") as name:
        folders = {operator: Path(name) / operator for operator in operators}
        for operator, folder in folders.items():
            folder.mkdir()
            (folder / "case.json").write_text(json.dumps({"slot": slot, "operator": operator}))

        def steps(operator):
            found = noted(folders[operator])
            left_out = {LEFT_OUT: found[LEFT_OUT]} if found.get(LEFT_OUT) else {}
            return {step: found.get(step, "not reached") for step in STEPS} | left_out

        whose = {folder: operator for operator, folder in folders.items()}
        words = [network, str(size)]
        _taken("live", ORDER, words, list(whose), Path(name), lambda folder: told(whose[folder], steps(whose[folder])))
        _taken("reload", ("reloads",), words, list(whose), Path(name), lambda folder: None)
        return {operator: steps(operator) for operator in operators}


def _taken(act, order, words, waiting, home, told):
    """Has processes take all cases, until each is done or its process has ended over it."""
    environment = {
        **os.environ, "YOLO_CONFIG_DIR": str(home / "settings"), "YOLO_OFFLINE": "1",
        "YOLO_AUTOINSTALL": "false", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    while waiting:
        command = [sys.executable, str(LIFE), act, *words, *map(str, waiting)]
        with open(home / f"{act}.log", "ab") as log:
            process = subprocess.Popen(command, env=environment, cwd=home, stdout=log, stderr=subprocess.STDOUT)
            said, waiting = _watched(process, act, waiting, told)
        if waiting:
            over, *waiting = waiting
            found = noted(over)
            found[next((step for step in order if step not in found), order[-1])] = said
            (over / "found.json").write_text(json.dumps(found))
            told(over)


def _watched(process, act, waiting, told):
    """Waits for a process: what to say of the case that it ended over, and the cases that aren't done."""
    begun, said = time.monotonic(), ""
    while True:
        ended = process.poll()  # before looking: what it has done by then is there
        while waiting and (waiting[0] / f"{act}.done").exists():
            told(waiting[0])
            waiting, begun = waiting[1:], time.monotonic()
        if ended is not None:
            return said or f"its process ended with {ended}", waiting
        if time.monotonic() - begun > PATIENCE:
            said = f"not done after {PATIENCE} s"
            process.kill()
            process.wait()
        time.sleep(LOOK)


def main():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("network")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--operator", action="append", help="only this operator (repeatable)")
    parser.add_argument("--slot", action="append", choices=list(SLOTS), help="only this slot (repeatable)")
    parser.add_argument("--resume", action="store_true", help="go on with the document in the output folder")
    parser.add_argument("-o", "--output", type=Path, default=Path("results/local/will-it-train"))
    asked = parser.parse_args()
    asked.output.mkdir(parents=True, exist_ok=True)
    name = Path(asked.network).stem
    words = ["python", "tests/models/will_it_train.py", asked.network]
    words += ["--size", str(asked.size)] if asked.size != 64 else []
    words += [word for slot in asked.slot or () for word in ("--slot", slot)]
    words += [word for operator in asked.operator or () for word in ("--operator", operator)]

    def keep(document):
        document = {**document, "command": shlex.join(words)}
        save(document, asked.output / f"{name}.jsonl.gz")
        (asked.output / f"{name}.md").write_text(table(document))

    path = asked.output / f"{name}.jsonl.gz"
    before = read(path) if asked.resume and path.exists() else {}
    survey(asked.network, asked.size, asked.slot or list(SLOTS), asked.operator, keep, before)
    print(asked.output / f"{name}.md")


def processor():
    """The name of the processor, as runs record it."""
    from opbench.engine.environment import environment

    return environment().cpu


def _position(row):
    """Of its operator among those of the slot's task."""
    from opbench import registry

    return list(registry.operators(SLOTS[row["slot"]])).index(row["operator"])


def survey(network, size, slots, operators, keep, before):
    """Gives `keep` the document so far after every few operators: what a survey that is broken off has found stays.

    Rows of `before`, a document of the same network, size, machine and versions, are taken as they are.
    """
    import torch

    from opbench import registry
    from opbench.models.ultralytics_package import version

    registry.load()
    shared = {"network": network, "size": size, "machine": processor()}
    shared |= {"torch": torch.__version__, "ultralytics": version()}
    same = all(before.get(name) == value for name, value in shared.items())
    rows = list(before["rows"]) if same else []

    def told(slot, operator, steps):
        failed = [f"{step}: {said}" for step, said in steps.items() if said != "ok" and step in ORDER]
        print(f"{slot} {operator}: {', '.join(failed) or 'ok'}", flush=True)

    for slot in slots:
        task = registry.tasks()[SLOTS[slot]]
        known = {row["operator"] for row in rows if row["slot"] == slot} | {task.baseline.partition("[")[0]}
        chosen = [one for one in registry.operators(task.name) if one in (operators or [one]) and one not in known]
        for first in range(0, len(chosen), TOGETHER):
            some = chosen[first : first + TOGETHER]
            found = lived(slot, some, network, size, functools.partial(told, slot))
            for operator, steps in found.items():
                left_out = {name: steps.pop(name) for name in (LEFT_OUT,) if name in steps}
                rows.append({"slot": slot, "operator": operator, "steps": steps, **left_out})
            rows.sort(key=lambda row: (list(SLOTS).index(row["slot"]), _position(row)))
            keep({**shared, "rows": rows})


if __name__ == "__main__":
    main()
