"""How programs of a kernel that samples share out its output: tiles of pixels, of the channels of a group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from opbench.kernels.triton.launch import Candidate, power_of_two

# Rows and columns of a tile of output pixels, most channels, and warps.
Tile = tuple[int, int, int, int]


@dataclass(frozen=True)
class SharedOutput:
    """An output of N images of G groups: height, width, and channels of a group."""

    n: int
    groups: int
    height: int
    width: int
    channels: int

    def candidates(self, tiles: Sequence[Tile], wide: bool) -> list[Candidate]:
        """The tiles, cut down to the problem. `wide` (float64): only the first, with half as many channels."""
        found: list[Candidate] = []
        for rows, columns, channels, warps in tiles:
            channels = channels // 2 if wide else channels
            if found and (wide or self.channels <= channels // 2):
                continue  # the first does, cut down
            blocks = {
                "BH": min(rows, power_of_two(self.height)),
                "BW": min(columns, power_of_two(self.width)),
                "BC": min(channels, power_of_two(self.channels)),
            }
            found.append(Candidate(blocks, warps))
        return found

    def programs(self, by_channels: bool) -> Callable[[Mapping[str, int]], tuple[dict[str, int], int]]:
        """What `launch` asks for; `by_channels` shares out a group's channels, too."""

        def count(blocks: Mapping[str, int]) -> tuple[dict[str, int], int]:
            across, down = -(-self.width // blocks["BW"]), -(-self.height // blocks["BH"])
            channels = -(-self.channels // blocks["BC"])
            programs = self.n * self.groups * across * down * (channels if by_channels else 1)
            return {"columns": across, "tiles": across * down, "blocks": channels}, programs

        return count
