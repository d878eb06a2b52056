"""The module whose kernels or points are shown: official initial values, seeded ones, or those of a state dict."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from opbench import registry
from opbench.build import draw_parameters
from opbench.operators.carafe import CARAFE, YoloCARAFE
from opbench.operators.dcnv3.module import ChannelsFirstDCNv3, DCNv3
from opbench.schema import OpbenchError

State = Mapping[str, Tensor]
CHANNELS, GROUPS = 64, 4
# By the key that only this module has: how its settings are read off its shapes.
_RECOGNISED: Mapping[str, Mapping[str, Callable[[State, Callable[..., Tensor]], nn.Module]]]


def seeded(operator: str, core: Callable[..., Tensor], *, fresh: bool, seed: int) -> nn.Module:
    """A module of 64 channels: as constructed if `fresh`, else with the parameters that measurements draw."""
    torch.manual_seed(seed)
    module = _MADE[operator](core)
    if not fresh:
        draw_parameters(module, torch.Generator().manual_seed(seed))
    return module.eval()


def channels_of(module: nn.Module) -> int:
    """The channels that a module of this file takes."""
    if isinstance(module, YoloCARAFE):
        return module.c
    assert isinstance(module, (CARAFE, DCNv3))
    return module.channels


def spread_points(module: nn.Module, x: Tensor, spread: float, seed: int) -> None:
    """Sets DCNv3's offsets to deviate by `spread` pixels on x (1, C, H, W), as measurements do."""
    prepare = registry.operator("conv3x3", "dcnv3").prepare
    assert prepare is not None
    prepare(module, {}, spread, torch.Generator().manual_seed(seed), x)


def computed(values: Tensor | None, what: str) -> Tensor:
    """What a core was handed, `values` of any shape; `OpbenchError` where NaN or infinity is in it."""
    assert values is not None
    if not values.isfinite().all():
        raise OpbenchError(f"the module's {what} hold NaN or infinity on this image, which can't be drawn")
    return values


def loaded(operator: str, path: Path, layer: str, core: Callable[..., Tensor]) -> nn.Module:
    """The module of a state dict file; `layer` is the prefix of its keys where the file holds several.

    Settings are read off the shapes, for a scale factor of 2, one CARAFE group and a 3x3 DCNv3 window.
    """
    state = _read(path)
    made = _RECOGNISED[operator]
    found = {key.removesuffix(ending): ending for key in state for ending in made if _ends(key, ending)}
    prefixes = [prefix for prefix in found if not layer or prefix.rstrip(".") == layer.rstrip(".")]
    if not prefixes:
        known = ", ".join(prefix.rstrip(".") or "(the file itself)" for prefix in found)
        wanted = " or ".join(made)
        asked = f"--layer {layer}: " if layer else ""
        raise OpbenchError(
            f"--weights {path}: {asked}no {operator} in it (keys end in {wanted}; found: {known or 'none'})"
        )
    if len(prefixes) > 1:
        names = ", ".join(prefix.rstrip(".") for prefix in prefixes)
        raise OpbenchError(f"--weights {path}: holds {len(prefixes)} of them; choose one by --layer: {names}")
    prefix = prefixes[0]
    own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    try:
        module = made[found[prefix]](own, core)
        module.load_state_dict({key: value.float() for key, value in own.items()})
    except (KeyError, IndexError, ValueError, RuntimeError) as error:  # IndexError: a weight of too few axes
        reason = " ".join(str(error).split())
        raise OpbenchError(f"--weights {path}: not the parameters of one {operator} module: {reason}") from error
    return module.eval()


def _read(path: Path) -> dict[str, Tensor]:
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        # torch's own sentence advises to load it anyway, which would run whatever code the file holds.
        raise OpbenchError(
            f"--weights {path}: expected a state dict that torch.save wrote, and this is none or holds whole objects, "
            "as a training checkpoint does: torch.save(model.state_dict(), FILE) makes one"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise OpbenchError(f"--weights {path}: expected a state dict that torch.save wrote: {reason}") from error
    for name in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict):
        raise OpbenchError(f"--weights {path}: expected a state dict, got {type(content).__name__}")
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}


def _ends(key: str, ending: str) -> bool:
    return key == ending or key.endswith("." + ending)


def _kernel(encoded: int) -> int:
    """k of 4*k*k encoded channels."""
    k = math.isqrt(encoded // 4)
    if 4 * k * k != encoded:
        raise ValueError(f"expected 4*k*k encoded channels (scale factor 2, one group), got {encoded}")
    return k


def _carafe(state: State, core: Callable[..., Tensor]) -> nn.Module:
    compressor, encoder = state["channel_compressor.weight"], state["content_encoder.weight"]
    return CARAFE(
        compressor.shape[1],
        up_kernel=_kernel(encoder.shape[0]),
        encoder_kernel=encoder.shape[2],
        compressed_channels=compressor.shape[0],
        implementation=core,
    )


def _yolo_carafe(state: State, core: Callable[..., Tensor]) -> nn.Module:
    compressor, encoder = state["comp.conv.weight"], state["enc.conv.weight"]
    k_up = _kernel(encoder.shape[0])
    return YoloCARAFE(compressor.shape[1], encoder.shape[2], k_up, compressor.shape[0], implementation=core)


def _dcnv3(state: State, core: Callable[..., Tensor]) -> nn.Module:
    depthwise, offset = state["dw_conv.0.weight"], state["offset.weight"]
    group, rest = divmod(offset.shape[0], 18)
    if rest:
        raise ValueError(f"expected 18 offset rows a group (a 3x3 window), got {offset.shape[0]}")
    return ChannelsFirstDCNv3(
        offset.shape[1],
        dw_kernel_size=depthwise.shape[2],
        group=group,
        norm_layer="LN" if "dw_conv.1.1.weight" in state else "BN",
        center_feature_scale="center_feature_scale_proj_weight" in state,
        implementation=core,
    )


_MADE: Mapping[str, Callable[[Callable[..., Tensor]], nn.Module]] = {
    "carafe": lambda core: CARAFE(CHANNELS, implementation=core),
    "dcnv3": lambda core: ChannelsFirstDCNv3(CHANNELS, group=GROUPS, implementation=core),
}
_RECOGNISED = {
    "carafe": {"channel_compressor.weight": _carafe, "comp.conv.weight": _yolo_carafe},
    "dcnv3": {"dw_conv.0.weight": _dcnv3},
}
