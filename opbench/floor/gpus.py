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
    """Rates of one GPU, and the data sheet that they are from.

    `named` is a word of the name that its driver gives, by which a run's GPU is known; what stands beside it tells one
    GPU from another. "" and nothing where it isn't told.
    """

    title: str
    bytes_per_second: float
    flops_per_second: dict[DType, float]
    source: str
    named: str = ""
    compute_capability: str = ""
    multiprocessors: tuple[int, ...] = ()
    clock_mhz: float = 0.0

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
