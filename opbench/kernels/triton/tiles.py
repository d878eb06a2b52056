"""How programs of a kernel share out its output: tiles of pixels, of the channels of a group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from opbench.kernels.triton.launch import Candidate, power_of_two, steps_of
from opbench.kernels.triton.tile_table import Layout, TileEntry, entries

# What `launch` asks for: arguments and the number of programs, by the sizes of a tile.
Programs = Callable[[Mapping[str, int]], tuple[dict[str, int], int]]


def cut(tiles: Iterable[TileEntry], sides: Mapping[str, int]) -> list[Candidate]:
    """Tiles cut down to a problem, in their order: a block is no longer than the side that it divides needs.

    `sides` are lengths by the names of blocks; tiles that have become alike are one candidate.
    """
    found: dict[tuple[tuple[int, ...], int], Candidate] = {}
    for tile in tiles:
        blocks = {name: min(tile.blocks[name], power_of_two(side)) for name, side in sides.items()}
        found.setdefault((tuple(blocks.values()), tile.warps), Candidate(blocks, tile.warps))
    return list(found.values())


@dataclass(frozen=True)
class SharedOutput:
    """An output of N images of G groups: height, width, and channels of a group."""

    n: int
    groups: int
    height: int
    width: int
    channels: int

    def candidates(self, kernel: str, layout: Layout, element: int) -> list[Candidate]:
        """The kernel's tiles for elements of so many bytes, cut down to the problem: the table's choice comes first."""
        elements = self.n * self.groups * self.height * self.width * self.channels
        suiting = entries(kernel, layout, element, elements=elements, width=self.width)
        return cut(suiting, {"BH": self.height, "BW": self.width, "BC": self.channels})

    def programs(self, by_channels: bool) -> Programs:
        """A program for each tile and group; `by_channels` shares out a group's channels, too."""

        def count(blocks: Mapping[str, int]) -> tuple[dict[str, int], int]:
            tiles, arguments = self._tiles(blocks)
            programs = self.n * self.groups * tiles * (arguments["blocks"] if by_channels else 1)
            return arguments, programs

        return count

    def stepping_programs(self) -> Programs:
        """A program takes several blocks of channels, and groups, of its tile, where that leaves programs enough."""

        def count(blocks: Mapping[str, int]) -> tuple[dict[str, int], int]:
            tiles, arguments = self._tiles(blocks)
            units = self.groups * arguments["blocks"]
            steps = steps_of(units, self.n * tiles)
            shares = units // steps
            return {**arguments, "shares": shares, "steps": steps}, self.n * tiles * shares

        return count

    def _tiles(self, blocks: Mapping[str, int]) -> tuple[int, dict[str, int]]:
        across, down = -(-self.width // blocks["BW"]), -(-self.height // blocks["BH"])
        channels = -(-self.channels // blocks["BC"])
        return across * down, {"columns": across, "tiles": across * down, "blocks": channels}
