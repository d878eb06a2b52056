"""DCNv4 by its constructor's own arguments, as `opbench check` constructs anybody's."""

from __future__ import annotations

from torch import Tensor

from opbench.constructors import Constructor, Settings, padded_same
from opbench.operators.dcnv4.definition import dcnv4_module_definition
from opbench.schema import Tensors


def _module(settings: Settings, tensors: Tensors, training: bool) -> Tensor:
    given = {name: value for name, value in settings.items() if name not in ("channels", "output_bias")}
    return dcnv4_module_definition(tensors["x"], tensors, **given)


MODULE = Constructor(
    settings={
        # The error bounds take a sum of fewer than 9 terms for no layer, whose result is stored: in a half type the
        # offsets would seem exact.
        "channels": (12, 16, 20),
        "kernel_size": (3, 5, 1),
        "stride": (1,),
        "dilation": (1, 2),
        "group": (1, 2, 4),
        "offset_scale": (1.0, 0.5, 2.0),
        "dw_kernel_size": (None, 3, 5),
        "center_feature_scale": (False, True),
        "remove_center": (False, True),
        "output_bias": (True, False),
        "without_pointwise": (False, True),
    },
    definition=_module,
    channels="channels",
    groups="group",
    channels_last=True,
    derived=padded_same,
)
