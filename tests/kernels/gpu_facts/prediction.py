"""How long a forward kernel should take by what it asks for: a prediction, never a measurement.

Four parts of a device work at once, and the slowest is what is waited for: memory, the L1, the instructions, and the
multiply-adds among them. Rates are a data sheet's (`opbench floor`); that of the CUDA cores' float32 gives
multiprocessors times clock, as each multiplies and adds 128 pairs a clock, issues 128 threads' instructions and answers
128 bytes from its L1. Latency that too few warps hide, launch, and clocks below the boost are left out: a device will
be slower.
"""

from dataclasses import dataclass
from math import prod

from opbench.floor.gpus import gpus

# The GPU whose rates stand for a compute capability.
DEVICES = {80: "a100", 90: "h100"}


@dataclass(frozen=True)
class Prediction:
    """Seconds of each part. `memory_again`: where the L2 keeps nothing between programs; `floor`: every byte once."""

    floor: float
    memory_again: float
    l1: float
    instructions: float

    @property
    def least(self):
        """Seconds where the L2 keeps all that several programs read."""
        return max(self.floor, self.l1, self.instructions)

    @property
    def most(self):
        """Seconds where it keeps nothing."""
        return max(self.memory_again, self.least)

    @property
    def bound_by(self):
        """The part that is waited for, the L2 keeping all."""
        return max(("memory", self.floor), ("L1", self.l1), ("instructions", self.instructions), key=lambda p: p[1])[0]

    @property
    def shares(self):
        """Least bytes over these seconds, as shares of the data sheet's memory rate: from, to."""
        return self.floor / self.most, self.floor / self.least


def multiply_adds(launch, tile):
    """Those that a launch's programs do, padding of tiles included."""
    more, count = launch.programs(tile)
    constants = launch.constants
    sides = prod(size for name, size in tile.items() if name.startswith("B"))
    of_carafe = launch.kernel.__module__.endswith("carafe_kernels")
    terms = constants["K"] ** 2 if of_carafe else 4 * constants.get("P", 1)
    return count * more.get("steps", 1) * sides * terms


def predicted(capability, *, least, distinct, asked, multiply_adds, instructions_each):
    """Of bytes: the operator's, those distinct in programs, those asked of the L1; and multiply-adds."""
    rates = gpus()[DEVICES[capability]]
    each_second = rates.macs_per_second("float32")
    return Prediction(
        floor=least / rates.bytes_per_second,
        memory_again=distinct / rates.bytes_per_second,
        l1=asked / each_second,
        instructions=multiply_adds * instructions_each / each_second,
    )
