"""The published modules of CARAFE and DCNv3 as a table: their constructors' arguments, and what they compute."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from opbench.build import draw_parameters
from opbench.operators.carafe import CARAFE, YoloCARAFE
from opbench.operators.carafe.definition import carafe_module, yolo_carafe_module
from opbench.operators.dcnv3 import DCNv3, DCNV3_YoLo
from opbench.operators.dcnv3.module_definition import dcnv3_module_definition, yolo_block_definition
from opbench.schema import Tensors

Settings = Mapping[str, Any]
DIMENSIONS = ("N", "H", "W")


@dataclass(frozen=True)
class Kind:
    """A published module. `settings` are its constructor's arguments with the values to draw, plainest first.

    `channels` and `groups` name two of them; `aliases` are what others call a setting. `derived` completes drawn
    settings, `definition(settings, tensors, training)` gives the output, channels first unless `channels_last`.
    A setting with one value to draw, and an argument that is no setting, has no other in the definition.
    """

    name: str
    module: type[nn.Module]
    settings: Mapping[str, tuple[Any, ...]]
    aliases: Mapping[str, str]
    definition: Callable[[Settings, Tensors, bool], Tensor]
    channels: str
    groups: str | None = None
    channels_last: bool = False
    derived: Callable[[Settings], Settings] = lambda settings: settings
    title: str = ""

    @property
    def published(self) -> str:
        """What the module is called."""
        return self.title or self.module.__name__

    def buffers(self, settings: Settings) -> frozenset[str]:
        """The names in its state dict that a call isn't differentiated by."""
        return frozenset(name for name, _ in self.module(**settings).named_buffers())

    def fits(self, settings: Settings) -> bool:
        """Whether the module is defined at these settings."""
        if self.groups is not None and settings[self.channels] % settings[self.groups]:
            return False
        return not (settings.get("remove_center") and settings["kernel_size"] == 1)

    def beyond(self, asked: Settings) -> str:
        """Why the definition can't judge a module for which these of its arguments were asked; "" if it can."""
        published = inspect.signature(self.module).parameters
        for name, value in asked.items():
            drawn = self.settings.get(name, ())
            counts = name in DIMENSIONS or (drawn and type(drawn[0]) is int)
            if counts and (type(value) is not int or value < 1):
                return f"{name}={value}: expected an integer of at least 1"
            if len(drawn) == 1 and value != drawn[0]:
                return f"{name}={value}: the definition of {self.module.__name__} has {name}={drawn[0]} only"
            if name not in self.settings and name in published and value != published[name].default:
                return f"{name}={value}: the definition of {self.module.__name__} has no {name} to choose"
        return ""

    def default(self, name: str) -> Any:
        """What a setting is where the constructor at hand has no argument for it: as published, else the plainest."""
        published = inspect.signature(self.module).parameters[name].default
        return self.settings[name][0] if published is inspect.Parameter.empty else published

    def parameters(self, settings: Settings, seed: int) -> dict[str, Tensor]:
        """Parameters and running statistics by name, float64, drawn so that none is degenerate."""
        module = self.module(**settings).double()
        draw_parameters(module, torch.Generator().manual_seed(seed))
        return {name: value for name, value in module.state_dict().items() if value.is_floating_point()}


def _paper(settings: Settings, tensors: Tensors, training: bool) -> Tensor:
    names = ("up_kernel", "up_group", "scale_factor")
    return carafe_module(tensors, **{name: settings[name] for name in names})


def _yolo(settings: Settings, tensors: Tensors, training: bool) -> Tensor:
    return yolo_carafe_module(tensors, k_up=settings["k_up"], scale=settings["scale"], training=training)


def _dcnv3(settings: Settings, tensors: Tensors, training: bool) -> Tensor:
    window = {name: value for name, value in settings.items() if name != "channels"}
    return dcnv3_module_definition(tensors["x"], tensors, **window)


def _block(settings: Settings, tensors: Tensors, training: bool) -> Tensor:
    return yolo_block_definition(tensors["x"], tensors, training, kernel_size=settings["k"], group=settings["g"])


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "carafe",
            CARAFE,
            {
                "channels": (4, 1, 6, 8),
                "scale_factor": (2, 1, 3),
                "up_kernel": (5, 1, 3),
                "up_group": (1, 2),
                "encoder_kernel": (3, 1, 5),
                "encoder_dilation": (1,),
                "compressed_channels": (4, 7, 64),
            },
            {
                "c": "channels", "c1": "channels", "in_channels": "channels", "scale": "scale_factor",
                "k_up": "up_kernel", "kernel_size": "up_kernel", "group_size": "up_group", "k_enc": "encoder_kernel",
                "c_mid": "compressed_channels",
            },
            _paper,
            "channels",
            "up_group",
        ),
        Kind(
            "yolo-carafe",
            YoloCARAFE,
            {"c": (4, 1, 6, 8), "k_enc": (3, 1, 5), "k_up": (5, 1, 3), "c_mid": (4, 7, 64), "scale": (2, 1, 3)},
            {
                "c1": "c", "channels": "c", "in_channels": "c", "encoder_kernel": "k_enc", "up_kernel": "k_up",
                "compressed_channels": "c_mid", "scale_factor": "scale",
            },
            _yolo,
            "c",
        ),
        Kind(
            "dcnv3",
            DCNv3,
            {
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
            {"in_channels": "channels", "dim": "channels", "groups": "group"},
            _dcnv3,
            "channels",
            "group",
            channels_last=True,
            derived=lambda settings: {**settings, "pad": settings["dilation"] * (settings["kernel_size"] - 1) // 2},
        ),
        Kind(
            "yolo-dcnv3",
            DCNV3_YoLo,
            {"inc": (4, 8, 6), "ouc": (4, 8, 12), "k": (3, 1, 5), "s": (1,), "g": (1, 2, 4), "d": (1,)},
            {
                "c1": "inc", "c2": "ouc", "in_channels": "inc", "out_channels": "ouc", "kernel_size": "k",
                "stride": "s", "group": "g", "groups": "g", "dilation": "d",
            },
            _block,
            "ouc",
            "g",
        ),
    )
}  # fmt: skip
# A person who says "carafe" may mean either of the modules that go by that name: the state dict tells.
FAMILIES: Mapping[str, tuple[str, ...]] = {"carafe": ("carafe", "yolo-carafe"), "dcnv3": ("dcnv3", "yolo-dcnv3")}
