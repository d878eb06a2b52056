"""Copies of a model that has been called: what a forward left in a module is copied, too."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


def deep_copy(model: nn.Module, *, share_parameters: bool = False) -> nn.Module:
    """A copy of the model, with the parameters of the model itself or with its own.

    torch refuses to copy a tensor that was computed of others. A module may hold one: an activation that its forward
    kept, or a weight that pruning or a norm computes before each call. The copy has its values.
    """
    memo: dict[int, Any] = {id(one): one for one in model.parameters()} if share_parameters else {}
    with _Detached():
        return copy.deepcopy(model, memo)


class _Detached(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is Tensor.__deepcopy__ and not args[0].is_leaf:
            return args[0].detach().clone()
        return func(*args, **(kwargs or {}))
