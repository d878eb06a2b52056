"""DySample by its constructor's own arguments, as `opbench check` constructs anybody's."""

from __future__ import annotations

from torch import Tensor

from opbench.constructors import Constructor, Settings
from opbench.operators.dysample import definition
from opbench.schema import Tensors


def _module(settings: Settings, tensors: Tensors, training: bool) -> Tensor:
    return definition.module(tensors, **{name: settings[name] for name in ("scale", "style", "groups")})


# Of these channels every style, scale and group takes its part.
MODULE = Constructor(
    settings={
        "in_channels": (16, 32),
        "scale": (2, 1, 4),
        "style": ("lp", "pl"),
        "groups": (4, 1, 2, 8),
        "dyscope": (False, True),
    },
    definition=_module,
    channels="in_channels",
    groups="groups",
)
