"""Traffic: the bytes that one call asks of memory, summed over the operations that torch dispatches for it.

An operation reads each of its inputs once and writes each of its outputs once; views and allocations move nothing. Of
an input, distinct bytes count: one that is expanded, or a view of overlapping windows, is as large as what lies behind
it. What is updated in place is read and written. Of a table that rows are looked up in, no more counts than is asked
for. What an operation does inside (a library's workspace, a second pass over its input) isn't seen: an operation that
isn't torch's own declares it (`Implementation.traffic`). Code that is compiled apart is one operation.

Shapes and strides decide the figure, so that it is the same on every machine. It is what an implementation asks for,
and no time: caches answer much of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from opbench.build import Built
from opbench.kernels.fused import FusedWatcher
from opbench.schema import DEFAULT_RUNTIME, MovedBytes

# They only change what a tensor says of itself.
_METADATA_NAMES = """
    set_ resize_ resize_as_ t_ transpose_ squeeze_ unsqueeze_ as_strided_ detach_ swapaxes_ swapdims_
"""
# They write their first argument without reading it.
_OVERWRITING_NAMES = """
    copy_ fill_ zero_ normal_ uniform_ bernoulli_ random_ exponential_ log_normal_ cauchy_ geometric_
"""
# They write, at places of their first argument, as much as their values hold.
_SCATTERING_NAMES = "index_put_ _index_put_impl_ index_copy_ index_add_ scatter_ scatter_add_ scatter_reduce_"
_METADATA, _OVERWRITING, _SCATTERING = (
    frozenset(names.split()) for names in (_METADATA_NAMES, _OVERWRITING_NAMES, _SCATTERING_NAMES)
)
# What rows (or elements) are taken from, and what tells how many: the output, or the indices.
_LOOKED_UP: Mapping[str, tuple[str, str]] = {
    "index": ("self", ""),
    "index_select": ("self", ""),
    "gather": ("self", ""),
    "take": ("self", ""),
    "constant_pad_nd": ("self", ""),  # a negative padding leaves out what it doesn't read
    "embedding": ("weight", ""),
    "_embedding_bag": ("weight", "indices"),
    "_embedding_bag_forward_only": ("weight", "indices"),
    "_embedding_bag_per_sample_weights_backward": ("weight", "indices"),
}


def count_traffic(built: Built) -> int | None:
    """Bytes that one call of the case reads and writes (training: forward and backward).

    None where the implementation moves bytes out of the dispatcher's sight.
    """
    implementation = built.operator.implementations[built.case.implementation]
    if not implementation.seen or built.case.runtime != DEFAULT_RUNTIME:
        return None
    with Traffic(implementation.traffic) as traffic:
        built.call_once()
    return int(traffic.total)


class Traffic(FusedWatcher):
    """Sums the bytes of the operations inside; `by_operation` holds each one's, by its qualified name.

    `declared` are the bytes of operations that move more than their inputs and outputs once.
    """

    def __init__(self, declared: Mapping[str, MovedBytes]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.by_operation: Counter[str] = Counter()
        self._declared = declared

    @property
    def total(self) -> int:
        """All bytes so far."""
        return self.by_operation.total()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func._schema.name
        outputs = _tensors(out)
        if name in self._declared:
            self.by_operation[name] += self._declared[name]([*args, *kwargs.values()], outputs)
        else:
            self.by_operation[name] += operation_bytes(func, args, kwargs, outputs)
        return out

    def fused(self, name: str, inputs: Iterable[Any], outputs: Any) -> None:
        """Counts one call of code that is compiled apart."""
        self.by_operation[name] += _once(_tensors(list(inputs))) + _once(_tensors(outputs))


def operation_bytes(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], outputs: Sequence[torch.Tensor]) -> int:
    """Bytes of one dispatched operation, from its schema and the shapes and strides of its tensors."""
    namespace, _, name = func._schema.name.partition("::")
    if namespace == "prim" or name in _METADATA:
        return 0
    reads: list[torch.Tensor] = []
    writes: list[torch.Tensor] = []
    given = _given(func, args, kwargs)
    for argument, value in given:
        tensors = _tensors(value)
        written = argument.alias_info is not None and argument.alias_info.is_write
        if written:
            writes += tensors
        if not (written and (argument.kwarg_only or name in _OVERWRITING)):
            reads += tensors
    held = {_storage(tensor) for tensor in (*reads, *writes)}
    made = [tensor for tensor in outputs if _storage(tensor) not in held]
    if outputs and not made and not writes:
        return 0  # a view
    if name.startswith("empty") or name in ("new_empty", "new_empty_strided"):
        return 0
    if name.startswith("new_") or name.endswith("_like"):
        return _once(made)
    by_name = {argument.name: value for argument, value in given}
    if name == "copy_" and _place(by_name["self"]) == _place(by_name["src"]):
        return 0  # x[i] += y ends with a copy of x[i] to itself
    if name in _SCATTERING:
        return _scattered(name, by_name)
    found = _once(reads) + _once([*writes, *made])
    if name in _LOOKED_UP:
        table_name, indices_name = _LOOKED_UP[name]
        table, indices = by_name[table_name], by_name.get(indices_name)
        asked = _once(made) if indices is None else indices.numel() * table.shape[-1] * table.element_size()
        found -= max(0, distinct_bytes(table) - asked)
    return found


def distinct_bytes(tensor: torch.Tensor) -> int:
    """The bytes that lie behind a tensor: fewer than its elements' where it is expanded or its windows overlap."""
    if tensor.layout != torch.strided or not tensor.numel():
        return tensor.numel() * tensor.element_size()
    elements = reach = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        if stride and size > 1:
            elements *= size
            reach += (size - 1) * stride
    return min(elements, reach) * tensor.element_size()


def _scattered(name: str, given: Mapping[str, Any]) -> int:
    """Values and indices are read; as much of the target is written, and read before where it is added to."""
    target = given["self"]
    sources = [tensor for key, value in given.items() if key != "self" for tensor in _tensors(value)]
    values = max((source.numel() for source in sources), default=0) * target.element_size()
    touched = min(distinct_bytes(target), values)
    adds = name in ("index_add_", "scatter_add_", "scatter_reduce_") or bool(given.get("accumulate"))
    return int(_once(sources) + touched * (2 if adds else 1))


def _given(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """Each argument of the schema that was given, with its value."""
    declared = func._schema.arguments
    by_name = {argument.name: argument for argument in declared}
    return [*zip(declared, args, strict=False), *((by_name[name], value) for name, value in kwargs.items())]


def _once(tensors: Iterable[torch.Tensor]) -> int:
    """The distinct bytes of tensors, one that is given twice counted once."""
    return sum(map(distinct_bytes, {_place(tensor): tensor for tensor in tensors}.values()))


def _place(tensor: torch.Tensor) -> tuple[object, ...]:
    return _storage(tensor), tensor.storage_offset(), tensor.shape, tensor.stride()


def _tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
