"""DCNv3's two modules by their constructors' own arguments, as `opbench check` constructs anybody's."""

from __future__ import annotations

from torch import Tensor

from opbench.constructors import Constructor, Settings, padded_same
from opbench.operators.dcnv3.module_definition import dcnv3_module_definition, yolo_block_definition
from opbench.schema import Tensors


def _module(settings: Settings, tensors: Tensors, training: bool) -> Tensor:
    window = {name: value for name, value in settings.items() if name != "channels"}
    return dcnv3_module_definition(tensors["x"], tensors, **window)


def _block(settings: Settings, tensors: Tensors, training: bool) -> Tensor:
    return yolo_block_definition(tensors["x"], tensors, training, kernel_size=settings["k"], group=settings["g"])


MODULE = Constructor(
    settings={
        "channels": (4, 8, 12),
        "kernel_size": (3, 5, 1),
        "dw_kernel_size": (None, 3, 5),
        "stride": (1,),
        "dilation": (1, 2),
        "group": (1, 2, 4),
        "offset_scale": (1.0, 0.5, 2.0),
        "center_feature_scale": (False, True),
        "remove_center": (False, True),
    },
    definition=_module,
    channels="channels",
    groups="group",
    channels_last=True,
    derived=padded_same,
)
BLOCK = Constructor(
    settings={"inc": (4, 8, 6), "ouc": (4, 8, 12), "k": (3, 1, 5), "s": (1,), "g": (1, 2, 4), "d": (1,)},
    definition=_block,
    channels="ouc",
    inputs="inc",
    groups="g",
)  # fmt: skip
