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
    aliases={
        **dict.fromkeys(("c1", "in_channels", "in_dim", "channels"), "inc"),
        **dict.fromkeys(("c2", "out_channels", "out_dim", "outc"), "ouc"),
        "kernel_size": "k",
    },
    definition=_defined,
    channels="ouc",
    inputs="inc",
    blocks=2,
)
