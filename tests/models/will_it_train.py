"""Does a network with an operator swapped in survive the whole life of a model of ultralytics, on a CPU?

    python tests/models/will_it_train.py yolo11n.yaml -o results/xeon-2core/will-it-train

Each operator of each slot, in a process of its own: one epoch of the real trainer on a small set of drawn images, then
validation, saving, reloading in a new process, resuming, fusing, deep-copying, export, and one step under autocast in
bfloat16 (the trainer itself refuses mixed precision on a CPU). Whether it learns is another question: `opbench study`.
Writes NETWORK.jsonl.gz, and NETWORK.md with the table of what works.
"""

import argparse
import contextlib
import copy
import gzip
import importlib.machinery
import json
import os
import shlex
import subprocess
import sys
import tempfile
import traceback
import types
from pathlib import Path

HERE = Path(__file__).resolve()
# slot of a network: the task whose operators are swapped in there
SLOTS = {"upsample": "upsample2x", "conv3x3@bottleneck": "conv3x3", "downsample2x": "downsample2x"}
STEPS = (
    "builds", "trains", "validates", "reloads", "resumes", "fuses", "copies", "exports", "autocast",
)  # fmt: skip
ABOUT = {
    "builds": "swapped in, and called in training mode on one square image, as strides are found",
    "trains": "one epoch of the trainer; every loss finite, every new parameter with a gradient, weights saved",
    "validates": "on rectangular images",
    "reloads": "`best.pt` opened in a new process gives the same predictions",
    "resumes": "from `last.pt` of a training that was broken off, by the trainer's own `resume`",
    "fuses": "convolutions with their norms; predictions as before",
    "copies": "a deep copy, as for the moving average, gives the same predictions",
    "exports": "to TorchScript and to ONNX (opset 17), whose predictions are the network's",
    "autocast": "forward, loss and backward in bfloat16: finite, a gradient for every parameter",
}
IMAGES, CLASSES = 8, 2
# Seconds for one operator: each step takes a few.
PATIENCE = 600


def drawn_set(folder, size):
    """Grey images with bright rectangles, some wider than high, and their boxes; the file that describes them."""
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    for part, count in (("train", IMAGES), ("val", IMAGES // 2)):
        for kind in ("images", "labels"):
            (folder / kind / part).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            height, width = size, size + (size // 2 if index % 2 else 0)
            picture = generator.integers(90, 110, (height, width, 3)).astype(np.uint8)
            lines = []
            for label in range(CLASSES):
                w, h = (int(side * generator.uniform(0.3, 0.5)) for side in (width, height))
                x, y = int(generator.uniform(0, width - w)), int(generator.uniform(0, height - h))
                picture[y : y + h, x : x + w, label] = 250
                lines.append(f"{label} {(x + w / 2) / width} {(y + h / 2) / height} {w / width} {h / height}")
            Image.fromarray(picture).save(folder / "images" / part / f"{index}.png")
            (folder / "labels" / part / f"{index}.txt").write_text("\n".join(lines) + "\n")
    described = folder / "set.yaml"
    described.write_text(f"path: {folder}\ntrain: images/train\nval: images/val\nnames: [red, green]\n")
    return described


# --- One operator, in a process of its own ------------------------------------------------------------------------


def suppressing():
    """Lets ultralytics suppress boxes where torchvision is built for another torch than the one installed.

    Its validator imports torchvision for that one function, of which it has a version of its own. Whether a stand-in
    was needed.
    """
    try:
        import torchvision.ops  # noqa: F401
    except (ImportError, RuntimeError):
        from ultralytics.utils.nms import TorchNMS

        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        stand_in, operations = types.ModuleType("torchvision"), types.ModuleType("torchvision.ops")
        stand_in.ops, operations.nms = operations, TorchNMS.nms
        for one in (stand_in, operations):  # whoever asks whether torchvision is installed reads it
            one.__spec__ = importlib.machinery.ModuleSpec(one.__name__, None)
        sys.modules |= {"torchvision": stand_in, "torchvision.ops": operations}
        return True
    return False


class BrokenOffError(Exception):
    """Stands for whatever breaks a training off."""


def life(slot, operator, network, size, folder):
    """Runs the steps; `folder`/found.json has what became of each that was begun, at any moment."""
    import torch

    from opbench.models.ultralytics_package import import_ultralytics

    torch.set_num_threads(1)
    torch.manual_seed(0)
    import_ultralytics()
    suppressing()
    found = {}

    def step(name, act):
        try:
            found[name] = act() or "ok"
        except Exception as error:  # whatever a module or the trainer raises is what is asked for
            traceback.print_exc()
            found[name] = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
        (folder / "found.json").write_text(json.dumps(found))
        return found[name] == "ok"

    described = drawn_set(folder, size)
    subject = Subject(slot, operator, network, size, folder, described)
    if not step("builds", subject.builds):
        return
    step("autocast", subject.autocast)
    step("copies", subject.copies)
    step("fuses", subject.fuses)
    if step("trains", subject.trains):
        step("validates", subject.validates)
        step("reloads", subject.reloads)
        step("exports", subject.exports)
        step("resumes", subject.resumes)


class Subject:
    """A network with an operator in a slot, and what is done to it."""

    def __init__(self, slot, operator, network, size, folder, described):
        self.slot, self.operator, self.network, self.size = slot, operator, network, size
        self.folder, self.described = folder, described
        self.changes = ()

    def trainer(self):
        """Ultralytics' own trainer, which builds the network anew: with the swap in it."""
        from ultralytics.models.yolo.detect import DetectionTrainer

        subject = self

        class SwappingTrainer(DetectionTrainer):
            def get_model(self, cfg=None, weights=None, verbose=True):
                model = super().get_model(cfg, None, verbose)
                subject.swap(model)
                if weights:
                    model.load(weights)
                return model

        return SwappingTrainer

    def swap(self, model):
        """In place; raises OpbenchError where it can't be."""
        from opbench.models.swap import swap

        self.changes = swap(model, self.slot, self.operator, size=(self.size, self.size))

    def built(self):
        """A fresh network with the swap in it."""
        import torch
        from ultralytics.nn.tasks import DetectionModel

        torch.manual_seed(0)
        model = DetectionModel(self.network, nc=CLASSES, verbose=False)
        self.swap(model)
        return model

    def image(self, *sides):
        import torch

        return torch.rand(1, 3, *(sides or (self.size, self.size)), generator=torch.Generator().manual_seed(1))

    def builds(self):
        self.built().train()(self.image())

    def autocast(self):
        import torch
        from ultralytics.cfg import get_cfg

        model = self.built().train()
        model.args = get_cfg()
        batch = {
            "img": torch.cat([self.image(), self.image().flip(3)]),
            "batch_idx": torch.tensor([0.0, 1.0]),
            "cls": torch.zeros(2, 1),
            "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.4]] * 2),
        }
        with torch.autocast("cpu", torch.bfloat16):
            loss, _ = model(batch)
        loss.sum().backward()
        return self.judged(model, loss)

    def judged(self, model, loss):
        """What is wrong with the loss, or with the gradients of what was swapped in."""
        import torch

        if not torch.isfinite(loss).all():
            return f"the loss is {loss.tolist()}"
        for change in self.changes:
            for name, value in model.get_submodule(change.name).named_parameters():
                if value.grad is None:
                    return f"{name} gets no gradient"
                if not torch.isfinite(value.grad).all():
                    return f"the gradient of {name} is not finite"
        return None

    def copies(self):
        model = self.built().eval()
        return self.differs(copy.deepcopy(model)(self.image()), model(self.image()))

    def fuses(self):
        model = self.built().eval()
        before = model(self.image(self.size, 2 * self.size))
        return self.differs(model.fuse(verbose=False)(self.image(self.size, 2 * self.size)), before, 1e-3)

    def differs(self, now, before, tolerance=0.0):
        """By how much two predictions differ, or nothing. Boxes are in pixels."""
        now, before = (one[0] if isinstance(one, (tuple, list)) else one for one in (now, before))
        gap = float((now - before).abs().max())
        return None if gap <= tolerance * float(before.abs().max()) else f"predictions differ by {gap:.3g}"

    def train(self, model, **options):
        asked = {
            "data": str(self.described), "imgsz": self.size, "batch": 4, "device": "cpu", "workers": 0, "plots": False,
            "project": str(self.folder), "exist_ok": True, "verbose": False, "seed": 0, "amp": False,
        } | options  # fmt: skip
        model.train(trainer=self.trainer(), **asked)
        return model

    def trains(self):
        import torch
        from ultralytics import YOLO

        yolo = YOLO(self.network, verbose=False)
        infinite = []

        def losses(trainer):
            if not torch.isfinite(trainer.loss).all():
                infinite.append(f"the loss is {trainer.loss.tolist()}")

        # Between backward and the optimiser's step there is no callback: the hook of a parameter hears its gradient.
        silent = set()

        def hooks(trainer):
            for change in self.changes:
                for name, value in trainer.model.get_submodule(change.name).named_parameters():
                    key = f"{change.name}.{name}"
                    silent.add(key)
                    value.register_hook(lambda gradient, key=key: silent.discard(key))

        yolo.add_callback("on_train_start", hooks)
        yolo.add_callback("on_train_batch_end", losses)
        self.train(yolo, name="one", epochs=1)
        if infinite or silent:
            return infinite[0] if infinite else f"{min(silent)} gets no gradient"
        best = self.folder / "one" / "weights" / "best.pt"
        return None if best.exists() else "no best.pt was saved"

    def best(self):
        """The trained model; raises ValueError where it isn't what was swapped in that was saved."""
        from ultralytics import YOLO

        yolo = YOLO(str(self.folder / "one" / "weights" / "best.pt"))
        for change in self.changes:
            kind = type(yolo.model.get_submodule(change.name)).__name__
            if kind != change.after:
                raise ValueError(f"{change.name} was saved as {kind}, expected {change.after}")
        return yolo

    def validates(self):
        self.best().val(
            data=str(self.described), imgsz=self.size, batch=2, device="cpu", workers=0, plots=False, rect=True,
            project=str(self.folder), name="val", exist_ok=True, verbose=False,
        )  # fmt: skip

    def reloads(self):
        import torch

        model = self.best().model.float().eval()
        here = model(self.image())[0]
        out = self.folder / "elsewhere.pt"
        torch.save(self.image(), self.folder / "image.pt")
        code = (
            "import sys, torch; from ultralytics import YOLO; best, image, out = sys.argv[1:];"
            "torch.set_num_threads(1);"
            "torch.save(YOLO(best).model.float().eval()(torch.load(image))[0], out)"
        )
        best = self.folder / "one" / "weights" / "best.pt"
        words = [sys.executable, "-c", code, str(best), str(self.folder / "image.pt"), str(out)]
        ended = subprocess.run(words, capture_output=True, text=True, check=False)
        if ended.returncode:
            return f"a new process: {ended.stderr.strip().splitlines()[-1]}"
        return self.differs(torch.load(out), here)

    def exports(self):
        import onnxruntime
        import torch

        yolo = self.best()
        model = copy.deepcopy(yolo.model).float().eval()
        expected = model(self.image())[0]
        asked = {"imgsz": self.size, "device": "cpu", "verbose": False}
        scripted = torch.jit.load(str(yolo.export(format="torchscript", **asked)))
        if said := self.differs(scripted(self.image()), expected, 1e-3):
            return f"TorchScript: {said}"
        path = self.best().export(format="onnx", opset=17, simplify=False, **asked)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (got,) = session.run(None, {session.get_inputs()[0].name: self.image().numpy()})
        said = self.differs(torch.from_numpy(got), expected, 1e-3)
        return f"ONNX: {said}" if said else None

    def resumes(self):
        from ultralytics import YOLO

        yolo = YOLO(self.network, verbose=False)

        def break_off(trainer):
            raise BrokenOffError

        yolo.add_callback("on_model_save", break_off)
        with contextlib.suppress(BrokenOffError):
            self.train(yolo, name="two", epochs=2)
        last = self.folder / "two" / "weights" / "last.pt"
        if not last.exists():
            return "no last.pt was saved"
        again = YOLO(str(last))
        epochs = []
        again.add_callback("on_train_epoch_start", lambda trainer: epochs.append(trainer.epoch))
        again.train(resume=True, trainer=self.trainer(), device="cpu", workers=0, plots=False)
        return None if epochs == [1] else f"it began with epoch {epochs}, expected the second alone"


# --- All operators ------------------------------------------------------------------------------------------------


def lived(slot, operator, network, size):
    """What became of each step, by name; a process that ended early says so of the step that it was at."""
    with tempfile.TemporaryDirectory(prefix="will-it-train-") as name:
        folder = Path(name)
        words = [sys.executable, str(HERE), network, "--size", str(size), "--case", slot, operator, str(folder)]
        environment = {
            **os.environ, "YOLO_CONFIG_DIR": str(folder / "settings"), "YOLO_OFFLINE": "1",
            "YOLO_AUTOINSTALL": "false", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        try:
            ended = subprocess.run(
                words, env=environment, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False
            )
            said = "" if not ended.returncode else f"its process ended with {ended.returncode}"
        except subprocess.TimeoutExpired:
            said = f"not done after {PATIENCE} s"
        written = folder / "found.json"
        found = json.loads(written.read_text()) if written.exists() else {}
    if said:
        order = ("builds", "autocast", "copies", "fuses", "trains", "validates", "reloads", "exports", "resumes")
        found[next(step for step in order if step not in found)] = said
    return {step: found.get(step, "not reached") for step in STEPS}


def save(document, path):
    """What all rows share in the first line, then a line an operator; the same bytes of the same document."""
    shared = {name: value for name, value in document.items() if name != "rows"}
    lines = "".join(json.dumps(one) + "\n" for one in (shared, *document["rows"]))
    path.write_bytes(gzip.compress(lines.encode(), mtime=0))


def read(path):
    """A document that was saved."""
    shared, *rows = map(json.loads, gzip.decompress(path.read_bytes()).decode().splitlines())
    return {**shared, "rows": rows}


def table(document):
    """The page: a row an operator, a column a step, failures in words below."""
    rows = ["| slot | operator | " + " | ".join(STEPS) + " |", "| --- | --- " + "| --- " * len(STEPS) + "|"]
    words = []
    for row in document["rows"]:
        cells = []
        for step in STEPS:
            outcome = row["steps"][step]
            cells.append("yes" if outcome == "ok" else "-" if outcome == "not reached" else "**no**")
            if outcome not in ("ok", "not reached"):
                words.append(f"- `{row['operator']}` in `{row['slot']}`, {step}: {outcome.replace('|', '/')}")
        rows.append(f"| `{row['slot']}` | `{row['operator']}` | " + " | ".join(cells) + " |")
    legend = [f"- *{step}*: {ABOUT[step]}" for step in STEPS]
    return "\n".join(
        [
            f"# Will it train: {document['network']} at {document['size']} px",
            "",
            f"{document['machine']}, torch {document['torch']}, ultralytics {document['ultralytics']}, on the CPU.",
            "",
            *rows,
            "",
            *(words or ["Nothing failed."]),
            "",
            "What is asked:",
            "",
            *legend,
            "",
            "To repeat it:",
            "",
            "```sh",
            document["command"],
            "```",
            "",
        ]
    )


def main():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("network")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--operator", action="append", help="only this operator (repeatable)")
    parser.add_argument("--slot", action="append", choices=list(SLOTS), help="only this slot (repeatable)")
    parser.add_argument("-o", "--output", type=Path, default=Path("results/local/will-it-train"))
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.case:
        slot, operator, folder = asked.case
        life(slot, operator, asked.network, asked.size, Path(folder))
        return
    asked.output.mkdir(parents=True, exist_ok=True)
    name = Path(asked.network).stem
    words = ["python", "tests/models/will_it_train.py", asked.network]
    words += ["--size", str(asked.size)] if asked.size != 64 else []
    words += [word for slot in asked.slot or () for word in ("--slot", slot)]
    words += [word for operator in asked.operator or () for word in ("--operator", operator)]
    for document in survey(asked.network, asked.size, asked.slot or list(SLOTS), asked.operator):
        # After each operator: what a survey that is broken off has found is kept.
        document["command"] = shlex.join(words)
        save(document, asked.output / f"{name}.jsonl.gz")
        (asked.output / f"{name}.md").write_text(table(document))
    print(asked.output / f"{name}.md")


def processor():
    """The name of the processor, as runs record it."""
    from opbench.engine.environment import environment

    return environment().cpu


def survey(network, size, slots, operators=None):
    """The document so far, after every operator of every slot but what stands there already."""
    import torch

    from opbench import registry
    from opbench.models.ultralytics_package import version

    registry.load()
    shared = {"network": network, "size": size, "machine": processor()}
    shared |= {"torch": torch.__version__, "ultralytics": version()}
    rows = []
    for slot in slots:
        task = registry.tasks()[SLOTS[slot]]
        for operator in registry.operators(task.name):
            if (operators and operator not in operators) or operator == task.baseline.partition("[")[0]:
                continue
            steps = lived(slot, operator, network, size)
            rows.append({"slot": slot, "operator": operator, "steps": steps})
            failed = [step for step, outcome in steps.items() if outcome != "ok"]
            print(f"{slot} {operator}: {', '.join(f'{step}: {steps[step]}' for step in failed) or 'ok'}", flush=True)
            yield {**shared, "rows": rows}


if __name__ == "__main__":
    main()
