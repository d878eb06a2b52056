"""What every command that takes a person's network is asked in the same words (`opbench model`, `opbench decide`)."""

from __future__ import annotations

from typing import Annotated

from opbench.errors import nearest
from opbench.options import CASES, INPUT, Argument, Option
from opbench.schema import DEVICES, DTYPES, MODES, OpbenchError

LARGEST_SIDE = 1 << 16

Target = Annotated[str, Argument("PACKAGE.MODULE:NAME or FILE.py:NAME, a model or what makes one; or yolov8n.yaml.")]
Size = Annotated[
    str,
    Option("Height and width of the input, channels before them if guessed wrongly.", metavar="[Cx]HxW", group=INPUT),
]
Batch = Annotated[int, Option("Images at once.", least=1, group=INPUT)]
DTypeName = Annotated[str, Option("float32, float64, bfloat16 or float16.", group=CASES)]
DeviceName = Annotated[str, Option("cpu or cuda.", group=CASES)]
ModeName = Annotated[str, Option("inference, or training: forward and backward.", group=CASES)]
Arguments = Annotated[
    tuple[str, ...], Option("An argument for what makes the model.", metavar="NAME=VALUE", group=INPUT)
]
Spread = Annotated[
    float,
    Option("Standard deviation of deformable layers' offsets, in pixels.", least=0, metavar="PIXELS", group=INPUT),
]


def check_words(device: str, dtype: str, mode: str) -> None:
    """Raises OpbenchError for a word that no device, dtype or mode has."""
    for kind, given, known in (("device", device, DEVICES), ("dtype", dtype, DTYPES), ("mode", mode, MODES)):
        if given not in known:
            raise OpbenchError(f"--{kind}: {nearest(kind, given, known)}")


def parse_size(text: str) -> tuple[int, ...]:
    """`480x640` is height x width; `640` is square; `1x480x640` has channels before them."""
    sides = text.lower().split("x")
    if len(sides) == 1:
        sides *= 2
    if len(sides) not in (2, 3) or not all(
        side.isascii() and side.isdigit() and 0 < int(side) <= LARGEST_SIDE for side in sides
    ):
        raise OpbenchError(
            f"--size {text}: expected HEIGHTxWIDTH in pixels, as in 640x640, or CHANNELSxHEIGHTxWIDTH: a cost is "
            f"one of a known size, so none may be left open"
        )
    return tuple(map(int, sides))
