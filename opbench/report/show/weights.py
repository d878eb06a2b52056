"""The module whose kernels or points are shown: official initial values, seeded ones, or those of a state dict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from opbench.build import draw_parameters
from opbench.drawings import Shot
from opbench.report.show import state_dicts
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
    state = state_dicts.read(path)
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
    make = makers[found[prefix]]
    try:
        # A weight says how large the others are: whether they are is asked of a module without memory.
        with torch.device("meta"):
            promised = {key: value.shape for key, value in make(own, core).state_dict().items()}
        if promised != {key: value.shape for key, value in own.items()}:
            raise ValueError(_differing(promised, own))
        module = make(own, core)
        module.load_state_dict({key: value.float() for key, value in own.items()})
    except Exception as error:  # weights of anybody's, of any axes and sizes
        why = state_dicts.reason(error)
        raise OpbenchError(f"--weights {path}: not the parameters of one {operator} module: {why}") from error
    return module.eval()


def _differing(promised: Mapping[str, torch.Size], own: State) -> str:
    """The first entry by which a state dict differs from the module that it says it is of."""
    for key in [*promised, *own]:
        got = tuple(own[key].shape) if key in own else "nothing"
        expected = tuple(promised[key]) if key in promised else "no such entry"
        if got != expected:
            return f"{key}: got {got}, expected {expected}"
    return "its entries differ"


def _ends(key: str, ending: str) -> bool:
    return key == ending or key.endswith("." + ending)
