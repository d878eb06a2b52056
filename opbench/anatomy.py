"""How the core of an operator is recognised inside a module: the axes of its tensors, and what it is taken for.

Plain data that an operator declares (`Operator.anatomy`); `opbench check` reads a forward pass by it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# The axes of a tensor, each made of parts, the slowest first: (N, g*k*k, s*H, s*W) is
# (("n",), ("g", "ky", "kx"), ("h", "a"), ("w", "b")).
Layout = tuple[tuple[str, ...], ...]
OUTPUT = "output"
# A part that is counted from its end carries this before its name.
REVERSED = "-"
# The parts that every anatomy has: images, channels of one group, and the rows and columns of x.
BATCH, CHANNELS, ROWS, COLUMNS = "n", "c", "h", "w"


@dataclass(frozen=True)
class CoreReading:
    """A way to read a forward pass: the options of the core, and the length of every part but the channels.

    A `doubtful` one is believed only where nothing else, right or wrong, explains the pass.
    """

    options: Mapping[str, Any]
    lengths: Mapping[str, int]
    doubtful: bool = False


@dataclass(frozen=True)
class WrongDefinition:
    """What people compute instead. `sentence` ends "computes ...", and `function` has the definition's signature.

    Where `takes` leaves tensors out, the function does without them: then it has no options either but the reading's.
    """

    sentence: str
    function: Callable[..., torch.Tensor]
    takes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """The core of an operator as it shows in a forward pass.

    function        what the core is called in a sentence: "CARAFE's reassembly"
    layouts         for each tensor of the core, and OUTPUT, its axes in the core's own layout, in call order
    predicted       the tensors that a module predicts from its input
    normalised      of tensors that sum to 1: over which parts
    reversible      the parts that may be counted the other way round: (y, x) for (x, y)
    parameters      the tensors that are parameters of the module, such as a weight
    definition      the core's definition, with its signature
    quick           the same by faster means, to search with: what is found is held to the definition later
    readings        (rows, columns, counts, attributes) -> the readings worth trying, the likeliest first: of an image
                    of so many rows and columns, in a pass whose tensors have these numbers of elements, in a module
                    whose parts have these attributes
    lengths         (shapes of the tensors, options) -> the length of every part in a call of the core
    words           what parts are called in a sentence
    wrong           the wrong definitions to look for where the right one isn't found
    own             whose module `around` describes, in a sentence
    around          what that module has, by place: "before" the input, in the "branch" that predicts,
                    "behind" the core, in the words of `opbench.conformance.inside.surroundings`
    """

    function: str
    layouts: Mapping[str, Layout]
    predicted: tuple[str, ...]
    definition: Callable[..., torch.Tensor]
    readings: Callable[[int, int, Collection[int], Mapping[str, Any]], Iterator[CoreReading]]
    lengths: Callable[[Mapping[str, tuple[int, ...]], Mapping[str, Any]], Mapping[str, int]]
    quick: Callable[..., torch.Tensor] | None = None
    normalised: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reversible: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)
    wrong: tuple[WrongDefinition, ...] = ()
    own: str = "the paper's module"
    around: Mapping[str, Collection[str]] = field(default_factory=dict)
