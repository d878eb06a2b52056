"""The GPUs whose data-sheet rates are known."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from opbench.errors import nearest
from opbench.schema import DType, OpbenchError

_FILE = Path(__file__).with_name("gpus.toml")
FLOPS_PER_MAC = 2


class GPU(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rates of one GPU, and the data sheet that they are from."""

    title: str
    bytes_per_second: float
    flops_per_second: dict[DType, float]
    source: str

    def macs_per_second(self, dtype: DType) -> float | None:
        """None where the data sheet gives no rate for the dtype."""
        rate = self.flops_per_second.get(dtype)
        return None if rate is None else rate / FLOPS_PER_MAC


def gpus() -> Mapping[str, GPU]:
    """Every known GPU, by the name that a command takes."""
    return msgspec.convert(tomllib.loads(_FILE.read_text(encoding="utf-8")), dict[str, GPU])


def gpu(name: str) -> GPU:
    """One by its name; raises OpbenchError for one that isn't known."""
    known = gpus()
    if name not in known:
        raise OpbenchError(nearest("GPU", name, known))
    return known[name]
