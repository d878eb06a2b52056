"""What a definition has to keep to, or its verdict would be a guess.

It is evaluated on meta tensors too, for shapes alone decide what its output is; and where it finds the cell of a
sampling location it uses `torch.floor`: there the derivative of a bilinear sample jumps, which bounds allow for
(`opbench.verify.rounding.kinks`). A location that is truncated or rounded instead jumps unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from opbench import registry
from opbench.build import not_on_meta, on_meta
from opbench.schema import OpbenchError

aten = torch.ops.aten
# What makes whole numbers of any; and what jumps where another number is whole than `floor` says.
_FLOORS = frozenset({aten.floor, aten.arange, aten.sign})
_OTHERS = {
    aten.trunc: "torch.trunc", aten.round: "torch.round", aten.ceil: "torch.ceil", aten.frac: "torch.frac",
    aten.fmod: "torch.fmod", aten.remainder: "torch.remainder",
}  # fmt: skip
# With whole operands these give whole numbers.
_NAMES = (
    "add sub rsub mul neg abs clamp clamp_min clamp_max minimum maximum where view _unsafe_view reshape "
    "expand unsqueeze squeeze permute transpose t select slice cat stack gather index_select alias detach "
    "clone flip repeat split unbind _to_copy new_zeros new_ones zeros ones zeros_like ones_like full_like "
    "new_full"
)
_WHOLE = frozenset(getattr(aten, name) for name in _NAMES.split())


def demand(task: str, operator: str, dims: Mapping[str, Any], tensors: Mapping[str, Tensor], training: bool) -> None:
    """Raises OpbenchError, in one sentence, where the definition of an operator doesn't keep to this."""
    shapes = tuple((name, tuple(value.shape)) for name, value in tensors.items())
    sentence = _broken(task, operator, tuple(dims.items()), shapes, training)
    if sentence:
        raise OpbenchError(f"{task}/{operator}: its definition {sentence}")


@lru_cache(maxsize=256)
def _broken(
    task: str,
    operator: str,
    dims: tuple[tuple[str, Any], ...],
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    training: bool,
) -> str:
    return broken(lambda: on_meta(registry.operator(task, operator), dims, shapes, training))


def broken(evaluate: Callable[[], object]) -> str:
    """What is wrong with a definition that is called on meta tensors; "" if nothing is."""
    cells = _Cells()
    try:
        with torch.no_grad(), cells:
            evaluate()
    except Exception as error:
        return not_on_meta(error)
    if cells.found:
        return f"finds a sample's cell by {cells.found}: only torch.floor's jumps are known to the error bounds"
    return ""


class _Cells(TorchDispatchMode):
    """Follows which tensors hold whole numbers, and notes what else is made an integer."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = ""
        # By identity; kept alive, so that no other tensor takes the place.
        self._whole: dict[int, Tensor] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        packet, given = func.overloadpacket, tree_leaves(args)
        if packet in _OTHERS and not self._holds(given):
            self.found = self.found or _OTHERS[packet]
        if (
            packet is aten._to_copy
            and not out.is_floating_point()
            and out.dtype != torch.bool
            and not self._holds(given)
        ):
            self.found = self.found or "a conversion to integers"
        if packet in _FLOORS or (packet in _WHOLE and self._holds(given)):
            for value in tree_leaves(out):
                if isinstance(value, Tensor):
                    self._whole[id(value)] = value
        return out

    def _holds(self, given: Iterable[object]) -> bool:
        """Whether every operand is whole: integers, what came from them, and whole numbers."""
        return all(
            (not one.is_floating_point() or id(one) in self._whole)
            if isinstance(one, Tensor)
            else not isinstance(one, float) or one.is_integer()
            for one in given
        )
