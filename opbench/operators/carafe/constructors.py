"""CARAFE's two modules by their constructors' own arguments, as `opbench check` constructs anybody's."""

from __future__ import annotations

from torch import Tensor

from opbench.constructors import Constructor, Settings
from opbench.operators.carafe.definition import carafe_module, yolo_carafe_module
from opbench.schema import Tensors


def _paper(settings: Settings, tensors: Tensors, training: bool) -> Tensor:
    names = ("up_kernel", "up_group", "scale_factor")
    return carafe_module(tensors, **{name: settings[name] for name in names})


def _yolo(settings: Settings, tensors: Tensors, training: bool) -> Tensor:
    return yolo_carafe_module(tensors, k_up=settings["k_up"], scale=settings["scale"], training=training)


PAPER = Constructor(
    settings={
        "channels": (4, 1, 6, 8),
        "scale_factor": (2, 1, 3),
        "up_kernel": (5, 1, 3),
        "up_group": (1, 2),
        "encoder_kernel": (3, 1, 5),
        "encoder_dilation": (1,),
        "compressed_channels": (4, 7, 64),
    },
    aliases={
        "k_up": "up_kernel", "kernel_size": "up_kernel", "group_size": "up_group", "k_enc": "encoder_kernel",
        "c_mid": "compressed_channels",
    },
    definition=_paper,
    channels="channels",
    groups="up_group",
)  # fmt: skip
YOLO = Constructor(
    settings={"c": (4, 1, 6, 8), "k_enc": (3, 1, 5), "k_up": (5, 1, 3), "c_mid": (4, 7, 64), "scale": (2, 1, 3)},
    aliases={"encoder_kernel": "k_enc", "up_kernel": "k_up", "compressed_channels": "c_mid"},
    definition=_yolo,
    channels="c",
)  # fmt: skip
