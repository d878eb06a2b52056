"""What is asked of a swap and what is found out: the variants of a network and their costs."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from opbench import registry
from opbench.errors import nearest
from opbench.models.layers import Profile
from opbench.models.places import PlacesOfSlot
from opbench.models.replacements import operators
from opbench.models.selecting import role
from opbench.models.sites import Size
from opbench.models.swap import Change
from opbench.schema import Counted, Device, DType, Latency, Memory, Mode, OpbenchError, Verdict

BASELINE = "as it is"


@dataclass(frozen=True)
class Swap:
    """`WHAT@ROLE:WHERE=WITH[IMPLEMENTATION]`: a slot or a glob over names, with roles, a narrower glob, an operator."""

    what: str
    with_: str
    implementation: str = "auto"
    where: str | None = None

    @property
    def text(self) -> str:
        """As on the command line."""
        where = "" if self.where is None else f":{self.where}"
        implementation = "" if self.implementation == "auto" else f"[{self.implementation}]"
        return f"{self.what}{where}={self.with_}{implementation}"


@dataclass(frozen=True)
class CostRequest:
    """What `opbench model` was asked for."""

    target: str
    swaps: tuple[Swap, ...] = ()
    size: Size = (640, 640)
    batch: int = 1
    dtype: DType = "float32"
    device: Device = "cpu"
    mode: Mode = "inference"
    arguments: tuple[str, ...] = ()
    spread: float = 2.0
    precision: float = 0.01
    budget_seconds: float = 20.0
    seed: int = 0
    threads: int | None = None
    announce: Callable[[str], None] = field(default=lambda step: None, compare=False)


class Proven(msgspec.Struct, frozen=True):
    """A part held against its definition on its own channels. `verdict` is None where there is none, `why` says so."""

    part: str
    verdict: Verdict | None
    why: str = ""


class CostVariant(msgspec.Struct, frozen=True):
    """One network: what was swapped in it, in the command's words and in plain ones, and what it costs.

    `macs` are of one call in the asked mode, by torch's counter taught our operators; `stock` is what that counter
    says by itself. `memory` is of one call in inference, `training_memory` of forward and backward.
    """

    name: str
    title: str
    changes: tuple[Change, ...]
    params: int
    macs: Counted
    stock: Counted
    memory: Memory
    training_memory: Memory
    latency: Latency
    profile: Profile
    deformable: int = 0

    @property
    def disturbed(self) -> bool:
        """Whether other processes had the cores while it was timed."""
        return self.latency.stop == "disturbed"


class PassedOver(msgspec.Struct, frozen=True):
    """What a swap of a slot leaves as it is (of `conv3x3`, every other 3x3 convolution): why, and how many."""

    swap: str
    swapped: int
    reasons: dict[str, int]
    slot: str = "conv3x3"


class TakenPlaces(msgspec.Struct, frozen=True):
    """How many places a swap takes: in each part of the network, and inside bottlenecks."""

    swap: str
    total: int
    parts: dict[str, int]
    bottleneck: int


class Costs(msgspec.Struct, frozen=True):
    """The baseline first, then one variant for each swap alone, then all swaps together where there are several.

    Not together where two are `rivals` for the same layers. `places` are those of every slot, whatever was swapped;
    `taken` those that each swap takes. `disturbed` says what was seen of the machine where a
    variant could not be timed for it, and what to do: then it has no latency, whatever its samples say.
    """

    target: str
    model: str
    input_shape: tuple[int, ...]
    dtype: str
    device: str
    mode: str
    spread: float
    threads: int
    load: float | None
    variants: tuple[CostVariant, ...]
    proven: tuple[Proven, ...]
    out_of_reach: tuple[str, ...] = ()
    passed_over: tuple[PassedOver, ...] = ()
    rivals: tuple[str, ...] = ()
    disturbed: str = ""
    places: tuple[PlacesOfSlot, ...] = ()
    taken: tuple[TakenPlaces, ...] = ()


def parse_swap(text: str, implementation: str = "auto", where: str | None = None) -> Swap:
    """`upsample=carafe`, `conv3x3@bottleneck=dcnv3[gather]`, `conv3x3:backbone.*=dcnv3`, `model.2.*=deconv`.

    `implementation` and `where` are what holds where the text names none. Raises OpbenchError for any other form, and
    for a role or an operator that doesn't exist.
    """
    found = re.fullmatch(
        r"(?P<what>[^=:@]+(?:@[^=:@]+)*)(?::(?P<where>[^=]+))?=(?P<with>[^=\[\]]+)(?:\[(?P<of>[^\]]+)\])?", text.strip()
    )
    if found is None:
        raise OpbenchError(
            f"--swap {text}: expected WHAT=WITH, WHAT@ROLE=WITH, WHAT:GLOB=WITH or WHAT=WITH[IMPLEMENTATION]"
        )
    try:
        for narrowed in found["what"].split("@")[1:]:
            role(narrowed)
    except OpbenchError as error:
        raise OpbenchError(f"--swap {text}: {error}") from error
    known = operators()
    if found["with"] not in known:
        raise OpbenchError(f"--swap {text}: {registry.unknown_operator('operator', found['with'], known)}")
    asked, has = found["of"] or implementation, known[found["with"]].implementations
    if asked not in ("auto", *has):
        raise OpbenchError(f"--swap {text}: {nearest('implementation', asked, has)}")
    return Swap(found["what"], found["with"], asked, found["where"] or where)
