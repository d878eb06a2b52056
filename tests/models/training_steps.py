"""What a network with an operator swapped in is put through: a method a step, which returns what was wrong."""

import contextlib
import copy
import functools
import re
import shutil

from drawn_images import CLASSES

# Of an operator, for the process that reloads it.
BEST, IMAGE, PREDICTED = "best.pt", "image.pt", "predicted.pt"


class BrokenOffError(Exception):
    """Stands for whatever breaks a training off."""


def differs(now, before, tolerance=0.0):
    """By how much two predictions differ, or nothing. Boxes are in pixels."""
    now, before = (one[0].detach() if isinstance(one, (tuple, list)) else one.detach() for one in (now, before))
    gap = float((now - before).abs().max())
    return None if gap <= tolerance * float(before.abs().max()) else f"predictions differ by {gap:.3g}"


def swap_where_it_fits(model, slot, operator, size):
    """In place, but for the places that the operator refuses: the changes, and place -> why it was left out.

    Raises OpbenchError where it takes none.
    """
    from opbench.models.selecting import matching
    from opbench.models.swap import swap
    from opbench.schema import OpbenchError

    wanted, left_out = {names[0] for names in matching(model, slot)}, {}
    while True:
        try:
            chosen = re.compile("|".join(f"^{re.escape(name)}$" for name in sorted(wanted)))
            return swap(model, chosen, operator, size=size), left_out
        except OpbenchError as error:
            refused = re.match(r"(\S+) \(\w+\) can't be swapped: (.*)", str(error), re.DOTALL)
            if refused is None or wanted == {refused[1]}:
                raise
            left_out[refused[1]] = refused[2]
            wanted -= {refused[1]}


class Subject:
    """A network with an operator in a slot, and what is done to it."""

    def __init__(self, slot, operator, network, size, folder, described):
        self.slot, self.operator, self.network, self.size = slot, operator, network, size
        self.folder, self.described = folder, described
        self.changes = ()
        self.left_out = {}

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
        """In place; raises OpbenchError where it takes no place."""
        self.changes, self.left_out = swap_where_it_fits(model, self.slot, self.operator, (self.size, self.size))

    @functools.cached_property
    def model(self):
        """A network with the swap in it, which the steps before training share."""
        import torch
        from ultralytics.cfg import get_cfg
        from ultralytics.nn.tasks import DetectionModel

        torch.manual_seed(0)
        model = DetectionModel(self.network, nc=CLASSES, verbose=False)
        self.swap(model)
        model.args = get_cfg()
        return model

    def image(self, *sides):
        import torch

        return torch.rand(1, 3, *(sides or (self.size, self.size)), generator=torch.Generator().manual_seed(1))

    def builds(self):
        self.model.train()(self.image())

    def autocast(self):
        import torch

        model = self.model.train()
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
        model = self.model.eval()
        return differs(copy.deepcopy(model)(self.image()), model(self.image()))

    def fuses(self):
        image, model = self.image(self.size, 2 * self.size), copy.deepcopy(self.model).eval()
        before = model(image)
        return differs(model.fuse(verbose=False)(image), before, 1e-3)

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
        return None if self.saved.exists() else "no best.pt was saved"

    @property
    def saved(self):
        """Where the trainer leaves the trained network."""
        return self.folder / "one" / "weights" / "best.pt"

    def best(self):
        """The trained model; raises ValueError where it isn't what was swapped in that was saved."""
        from ultralytics import YOLO

        yolo = YOLO(str(self.saved))
        for change in self.changes:
            kind = type(yolo.model.get_submodule(change.name)).__name__
            if kind != change.after:
                raise ValueError(f"{change.name} was saved as {kind}, expected {change.after}")
        return yolo

    def hand_over(self, folder):
        """Leaves the trained network, an image and what is predicted of it to the process that reloads it."""
        import torch

        model = self.best().model.float().eval()
        torch.save(self.image(), folder / IMAGE)
        torch.save(model(self.image())[0], folder / PREDICTED)
        shutil.copy(self.saved, folder / BEST)

    def validates(self):
        self.best().val(
            data=str(self.described), imgsz=self.size, batch=2, device="cpu", workers=0, plots=False, rect=True,
            project=str(self.folder), name="val", exist_ok=True, verbose=False,
        )  # fmt: skip

    def predicts(self):
        import torch

        picture = self.folder / "images" / "train" / "1.png"
        (found,) = self.best().predict(
            str(picture), imgsz=self.size, device="cpu", conf=0.0, verbose=False, save=False, project=str(self.folder)
        )
        boxes, (height, width) = found.boxes.xyxy, found.orig_shape
        if not len(boxes):
            return "no boxes at a confidence of 0"
        inside = (boxes >= 0).all() and (boxes <= torch.tensor([width, height, width, height])).all()
        return None if inside and torch.isfinite(found.boxes.data).all() else "boxes outside the picture"

    def exports(self):
        import onnxruntime
        import torch

        yolo = self.best()
        model = copy.deepcopy(yolo.model).float().eval()
        expected = model(self.image())[0]
        asked = {"imgsz": self.size, "device": "cpu", "verbose": False}
        scripted = torch.jit.load(str(yolo.export(format="torchscript", **asked)))
        if said := differs(scripted(self.image()), expected, 1e-3):
            return f"TorchScript: {said}"
        path = self.best().export(format="onnx", opset=17, simplify=False, **asked)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (got,) = session.run(None, {session.get_inputs()[0].name: self.image().numpy()})
        said = differs(torch.from_numpy(got), expected, 1e-3)
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
