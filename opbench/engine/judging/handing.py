"""Tensors that the worker hands to the judge: their bytes in memory that both hold, and what they are in a message.

The bytes are written and read as a file's are and not mapped: who cuts the memory short under the judge makes it read
too little, which it says.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from math import prod

import torch

from opbench.engine.judging.messages import HandedTensor


def hand_over(
    file_descriptor: int, got: Mapping[str, object], shapes: Mapping[str, Sequence[int]], dtype: str
) -> tuple[HandedTensor, ...]:
    """Writes the tensors that have the expected shapes and dtype; says of the others what they are."""
    handed, begin = [], 0
    for name, value in got.items():
        if not isinstance(value, torch.Tensor):
            handed.append(HandedTensor(name, kind="None" if value is None else type(value).__name__))
            continue
        shape, of = tuple(value.shape), str(value.dtype).removeprefix("torch.")
        if shape != tuple(shapes.get(name, ())) or of != dtype or not value.numel():
            handed.append(HandedTensor(name, shape=shape, dtype=of))
            continue
        plain = value.detach().resolve_neg().contiguous().cpu()
        content = plain.flatten().view(torch.uint8).numpy().data
        handed.append(HandedTensor(name, shape=shape, dtype=of, begin=begin))
        _write(file_descriptor, content, begin)
        begin += len(content)
    return tuple(handed)


def taken_over(file_descriptor: int, handed: Sequence[HandedTensor]) -> dict[str, object]:
    """What was handed over; a tensor without its bytes has no values. Raises ValueError for one that can't be."""
    return {one.name: _taken(file_descriptor, one) for one in handed}


def _taken(file_descriptor: int, one: HandedTensor) -> object:
    if one.kind:
        return None if one.kind == "None" else type(one.kind, (), {})()
    dtype = getattr(torch, one.dtype, None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"{one.name}: {one.dtype!r} is no dtype")
    if one.begin is None:
        return torch.empty(one.shape, dtype=dtype, device="cpu" if 0 in one.shape else "meta")
    size = prod(one.shape) * dtype.itemsize
    content = _read(file_descriptor, size, one.begin)
    return torch.frombuffer(content, dtype=dtype).reshape(one.shape)


def _write(file_descriptor: int, content: memoryview, begin: int) -> None:
    while len(content):
        written = os.pwrite(file_descriptor, content, begin)
        content, begin = content[written:], begin + written


def _read(file_descriptor: int, size: int, begin: int) -> bytearray:
    if begin < 0 or begin + size > os.fstat(file_descriptor).st_size:
        raise ValueError("less was handed over than was said")
    content = bytearray()
    while len(content) < size:
        read = os.pread(file_descriptor, size - len(content), begin + len(content))
        if not read:
            raise ValueError("less was handed over than was said")
        content += read
    return content
