"""The module whose kernels or points are shown: official initial values, seeded ones, or those of a state dict."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from opbench.build import draw_parameters
from opbench.drawings import Shot
from opbench.schema import OpbenchError

State = Mapping[str, Tensor]
Core = Callable[..., Tensor]
# By the key that only this module has: how its settings are read off its shapes.
Makers = Mapping[str, Callable[[State, Core], nn.Module]]


def module_of(shot: Shot, operator: str, made: Callable[[], nn.Module], makers: Makers, core: Core) -> nn.Module:
    """The module to show, around `core`: of the state dict asked for, else `made()` with seeded parameters."""
    if shot.weights:
        return loaded(operator, makers, shot.weights, shot.layer, core)
    return seeded(made, fresh=shot.fresh, seed=shot.seed)


def seeded(made: Callable[[], nn.Module], *, fresh: bool, seed: int) -> nn.Module:
    """A module as constructed if `fresh`, else with the parameters that measurements draw."""
    torch.manual_seed(seed)
    module = made()
    if not fresh:
        draw_parameters(module, torch.Generator().manual_seed(seed))
    return module.eval()


def computed(values: Tensor | None, what: str) -> Tensor:
    """What a core was handed, `values` of any shape; `OpbenchError` where NaN or infinity is in it."""
    assert values is not None
    if not values.isfinite().all():
        raise OpbenchError(f"the module's {what} hold NaN or infinity on this image, which can't be drawn")
    return values


def loaded(operator: str, makers: Makers, path: Path, layer: str, core: Core) -> nn.Module:
    """The module of a state dict file; `layer` is the prefix of its keys where the file holds several."""
    state = _read(path)
    found = {key.removesuffix(ending): ending for key in state for ending in makers if _ends(key, ending)}
    prefixes = [prefix for prefix in found if not layer or prefix.rstrip(".") == layer.rstrip(".")]
    if not prefixes:
        known = ", ".join(prefix.rstrip(".") or "(the file itself)" for prefix in found)
        wanted = " or ".join(makers)
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
        module = makers[found[prefix]](own, core)
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
