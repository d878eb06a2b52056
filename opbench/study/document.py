"""study.json: every loss of every training, every score, and where and how they came about.

One versioned document, written whole or not at all; after each training under another name (`PART`), so that an
interrupted study keeps what it has trained. Losses are those of the training batches, step by step, with the digits
that tell one float32 from the next.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from opbench.schema import Environment, Phase, Setting

NAME = "study.json"
PART = "study.part.json"  # while trainings go on; a finished document is never replaced by half a one

Purpose = Literal["search", "scored"]


class Metric(msgspec.Struct, frozen=True):
    """One number that a trained network is scored by on images it has not seen; more is better."""

    name: str
    title: str
    unit: str
    places: int


class SlotChange(msgspec.Struct, frozen=True):
    """What one slot does to held-out images, before the first step and after the last. Counted from the input on."""

    slot: int
    quantity: str
    before: float
    after: float


class Training(msgspec.Struct, frozen=True):
    """One training: the loss of each step, and the scores at the end.

    search: to choose a learning rate, scored on validation images. scored: counts, scored on held-out images.
    """

    contender: str
    purpose: Purpose
    rate: float
    seed: int
    losses: tuple[float, ...]
    scores: dict[str, float]
    changes: tuple[SlotChange, ...] = ()


class Contender(msgspec.Struct, frozen=True):
    """Who fills the slot. Parameters and MACs of the whole network, and of its slots; MACs of one image, forward."""

    name: str
    operator: str
    implementation: str
    dims: dict[str, Setting]
    params: int
    slot_params: int
    macs: int
    slot_macs: int
    rate: float | None = None
    step_seconds: tuple[float, ...] = ()
    note: str = ""


class StudyResult(msgspec.Struct, frozen=True):
    """One study. `trainings` is in the order of contenders and seeds; `planned` is how many there are at the end.

    `step_seconds` of the contenders pair up: round r of each was taken beside round r of the others. They are of one
    `step_phase` of the machine; "" where nothing watched, as in older documents.
    """

    name: str
    title: str
    question: str
    task: str
    baseline: str
    data: str
    network: str
    slots: int
    steps: int
    batch: int
    schedule: str
    rates: tuple[float, ...]
    search_seed: int
    seeds: tuple[int, ...]
    metrics: tuple[Metric, ...]
    loss_title: str
    contenders: tuple[Contender, ...]
    planned: int
    trainings: tuple[Training, ...] = ()
    anchors: dict[str, dict[str, float]] = {}
    step_phase: Phase = ""

    @property
    def complete(self) -> bool:
        """Whether every training and the timing came to an end."""
        return len(self.trainings) == self.planned and all(contender.step_seconds for contender in self.contenders)

    def of(self, contender: str, purpose: Purpose) -> tuple[Training, ...]:
        """The trainings of a contender, in the order of seeds."""
        return tuple(t for t in self.trainings if t.contender == contender and t.purpose == purpose)


class StudyDocument(msgspec.Struct, frozen=True):
    """The studies of one command on one machine."""

    schema_version: int
    environment: Environment
    command: str
    started: str
    wall_seconds: float
    quick: bool
    studies: tuple[StudyResult, ...]

    @property
    def complete(self) -> bool:
        """Whether every study came to an end."""
        return all(study.complete for study in self.studies)
