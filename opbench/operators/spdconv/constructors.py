"""SPDConv by its constructor's own arguments, as `opbench check` constructs anybody's: the whole block."""

from __future__ import annotations

from torch import Tensor

from opbench.constructors import Constructor, Settings
from opbench.operators.spdconv.definition import spdconv_definition
from opbench.schema import Tensors


def _defined(settings: Settings, tensors: Tensors, training: bool) -> Tensor:
    return spdconv_definition(tensors, training, block=settings["block"])


MODULE = Constructor(
    settings={"inc": (4, 1, 6, 8), "ouc": (4, 8, 6), "k": (3, 1, 5), "block": (True, False)},
    aliases={"channels": "inc"},
    definition=_defined,
    channels="ouc",
    inputs="inc",
    blocks=2,
)
