"""What a deployment is in words and numbers: the documents `deployment` and `device`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from opbench.statistics.ratios import Ratio

# Of an artifact in a runtime. refused: the runtime's own words say why it can't load or execute it.
Proof = Literal["right", "wrong", "refused", "crashed", "timed-out"]
# What is bad news, the worst first: who refuses computes nothing wrong.
BAD_PROOFS: tuple[Proof, ...] = ("crashed", "timed-out", "wrong")
# Whether batch, height and width are written down as they were, or left open.
Axes = Literal["fixed", "free"]
INT8_NOT_MEASURED = "int8: not measured"
INT8_NOT_PROVEN = "int8: signal over error against float64, not proven"
# Of an ncnn artifact, which is two files: the first ends so, the second as the other.
PARAM, BIN = ".param", ".bin"


class ShippedArtifact(msgspec.Struct, frozen=True):
    """A file that was written: of which contender, by which exporter, and what is in it.

    `opset` is 0 of a format that has none. `operations` are its nodes by their type, those of nested graphs included.
    """

    contender: str
    file: str
    format: str
    exporter: str
    opset: int
    axes: Axes
    bytes: int
    nodes: int
    sha256: str
    operations: dict[str, int] = {}
    dtype: str = "float32"

    @property
    def parts(self) -> tuple[str, ...]:
        """The files that it consists of, itself first; `sha256` is of them all, one after the other."""
        if not self.file.endswith(PARAM):
            return (self.file,)
        return (self.file, self.file.removesuffix(PARAM) + BIN)


class RefusedArtifact(msgspec.Struct, frozen=True):
    """What could not be written, in a sentence with the exporter's own words."""

    contender: str
    format: str
    opset: int
    axes: Axes
    reason: str
    dtype: str = "float32"


class ProvenAt(msgspec.Struct, frozen=True):
    """An artifact's output for one set of inputs, against the bound of the definition.

    `worst_ratio` is the largest |error| / bound. `reason` names the worst element, or what the runtime said.
    """

    shape: tuple[int, ...]
    proof: Proof
    worst_ratio: float | None = None
    reason: str = ""


class DeviceProof(msgspec.Struct, frozen=True):
    """A file in a runtime on a machine, as `on_device.py` has found it: proof, times, memory, and what runs elsewhere.

    Its `elsewhere` are operations that this provider hands to another one, or computes by its reference code, by their
    type, with how often. `samples_seconds` are single calls at the first set of inputs, in the order they were made:
    of this one file alone, not side by side with another. `peak_bytes` are of the whole process.
    """

    contender: str
    file: str
    sha256: str
    runtime: str
    version: str
    provider: str
    at: tuple[ProvenAt, ...]
    load_seconds: float | None = None
    first_call_seconds: float | None = None
    peak_bytes: int | None = None
    elsewhere: dict[str, int] = {}
    samples_seconds: tuple[float, ...] = ()
    note: str = ""

    @property
    def proof(self) -> Proof:
        """The worst at any size."""
        order: tuple[Proof, ...] = (*BAD_PROOFS, "refused", "right")
        return min((one.proof for one in self.at), key=order.index, default="refused")

    @property
    def reason(self) -> str:
        """Of the first set of inputs for which it isn't right."""
        return next((one.reason for one in self.at if one.proof != "right"), "")


class DeviceRun(msgspec.Struct, frozen=True):
    """The document that `on_device.py` writes: a machine, what was asked for, and every file in the runtime.

    `definition` says what the outputs were held against. It is a person's own file: nothing in it is believed but
    shown.
    """

    schema_version: int
    target: str
    definition: str
    machine: str
    system: str
    python: str
    threads: int
    started: str
    proofs: tuple[DeviceProof, ...]


class RuntimeLatency(msgspec.Struct, frozen=True):
    """A contender in a runtime, from the run: its outcome, its latency, and the ratio to the panel's baseline."""

    runtime: str
    contender: str
    baseline: str
    outcome: str
    seconds: float | None = None
    ratio: Ratio | None = None
    message: str = ""
    dtype: str = "float32"


class QuantisedArtifact(msgspec.Struct, frozen=True):
    """A contender in int8 in a runtime: how far its signal is above the error against float64. No proof.

    `method` is what quantised it, over so many `calibration` draws of its inputs; `decibels` are 10 log10 of the sum of
    the squares of the definition's output over that of the error, None where there is none for the `reason` given.
    """

    contender: str
    runtime: str
    method: str
    calibration: int
    file: str = ""
    bytes: int = 0
    decibels: float | None = None
    reason: str = ""


class ApplyingIssue(msgspec.Struct, frozen=True):
    """A known issue of a runtime that was not tried here, of files with these operations; `sources` are public."""

    id: str
    runtime: str
    sentence: str
    files: tuple[str, ...]
    sources: tuple[str, ...]


class Deployment(msgspec.Struct, frozen=True):
    """The answer of `opbench deploy`. The run that the latencies are of lies beside it as run.json."""

    target: str
    swaps: tuple[str, ...]
    shape: dict[str, int]
    dtype: str
    definition: str
    threads: int
    machine: str
    started: str
    command: str
    artifacts: tuple[ShippedArtifact, ...]
    refused: tuple[RefusedArtifact, ...]
    proofs: tuple[DeviceProof, ...]
    latencies: tuple[RuntimeLatency, ...]
    issues: tuple[ApplyingIssue, ...] = ()
    not_tried: tuple[str, ...] = ()
    verdict: tuple[str, ...] = ()
    quality: str = ""
    quantised: tuple[QuantisedArtifact, ...] = ()
    int8: str = INT8_NOT_MEASURED

    def proofs_of(self, contender: str) -> Iterator[DeviceProof]:
        """Of every file of a contender."""
        return (one for one in self.proofs if one.contender == contender)
