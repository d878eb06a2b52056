"""A small set of drawn images in ultralytics' format; its own suppression of boxes for where torchvision fails."""

import importlib.machinery
import sys
import types

IMAGES, CLASSES = 4, 2


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


def suppressing():
    """Lets ultralytics suppress boxes where torchvision is built for another torch than the one installed.

    Its predictor and its validator import torchvision for that one function, of which it has a version of its own.
    Whether a stand-in was needed.
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
