"""`opbench model`: what a swap costs a network, in one table, a plain sentence for each swap, and where it shows."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.text import Text

from opbench.document import replace_file
from opbench.models.costs import Costs, Request, parse_swap
from opbench.models.side_by_side import measure
from opbench.registry import nearest
from opbench.report.costs import changes, comparison, layers, sentences, setting
from opbench.report.escape import prose, visible
from opbench.report.table import Table
from opbench.schema import DEVICES, DTYPES, OpbenchError

LARGEST_SIDE = 1 << 16


def run_model(
    target: str,
    *,
    swaps: Sequence[str] = (),
    size: str = "640x640",
    batch: int = 1,
    dtype: str = "float32",
    device: str = "cpu",
    mode: str = "inference",
    implementation: str = "auto",
    where: str | None = None,
    arguments: Sequence[str] = (),
    spread: float = 2.0,
    precision: float = 0.01,
    budget_seconds: float = 20.0,
    seed: int = 0,
    markdown: Path | None = None,
    json_output: bool = False,
) -> int:
    """Measures TARGET with its swaps and prints the answer. Returns 0; OpbenchError for wrong usage or input."""
    for kind, given, known in (
        ("device", device, DEVICES),
        ("dtype", dtype, DTYPES),
        ("mode", mode, ("inference", "training")),
    ):
        if given not in known:
            raise OpbenchError(f"--{kind}: {nearest(kind, given, known)}")
    progress = Console(stderr=True)
    with contextlib.redirect_stdout(sys.stderr):  # what a model or its framework prints is no part of the answer
        parsed = tuple(parse_swap(text, implementation, where) for text in swaps)
        with progress.status("") if sys.stderr.isatty() else contextlib.nullcontext() as status:
            costs = measure(
                Request(
                    target=target,
                    swaps=parsed,
                    size=parse_size(size),
                    batch=batch,
                    dtype=dtype,  # type: ignore[arg-type]
                    device=device,  # type: ignore[arg-type]
                    mode=mode,  # type: ignore[arg-type]
                    arguments=tuple(arguments),
                    spread=spread,
                    precision=precision,
                    budget_seconds=budget_seconds,
                    seed=seed,
                    announce=lambda step: status.update(visible(step)) if status else None,
                )
            )
    if markdown is not None:
        replace_file(markdown, as_markdown(costs).encode())
    if json_output:
        print(msgspec.json.format(msgspec.json.encode(costs), indent=2).decode())
    else:
        _print(costs)
    return 0


def parse_size(text: str) -> tuple[int, ...]:
    """`480x640` is height x width; `640` is square; `1x480x640` has channels before them."""
    sides = text.lower().split("x")
    if len(sides) == 1:
        sides *= 2
    if len(sides) not in (2, 3) or not all(
        side.isascii() and side.isdigit() and 0 < int(side) <= LARGEST_SIDE for side in sides
    ):
        raise OpbenchError(
            f"--size {text}: expected HEIGHTxWIDTH in pixels, as in 640x640, or CHANNELSxHEIGHTxWIDTH: a cost is "
            f"one of a known size, so none may be left open"
        )
    return tuple(map(int, sides))


def as_markdown(costs: Costs) -> str:
    """The whole answer, everything from the model escaped."""
    table = comparison(costs)
    parts = [
        f"## {prose(costs.target)} ({prose(costs.model)}) at {prose(setting(costs))}",
        *map(prose, sentences(costs)),
        table.markdown(),
        prose(table.note),
    ]
    if len(costs.variants) > 1:
        parts += ["### Layers that were swapped", changes(costs).markdown()]
    for variant in costs.variants:
        parts += [f"### Where the time goes: {prose(variant.name)}", layers(variant).markdown()]
    return "\n\n".join([*parts, prose(layers(costs.variants[0]).note)]) + "\n"


def _print(costs: Costs) -> None:
    console = Console()
    console.print(Text(visible(f"{costs.target} ({costs.model}) at {setting(costs)}"), "bold"))
    table = comparison(costs)
    console.print(_turned(table).rich())
    console.print(Text(table.note, "dim"))
    if len(costs.variants) > 1:
        console.print(changes(costs).rich())
    for variant in costs.variants:
        console.print(Text(visible(f"where the time goes: {variant.name}"), "bold"))
        console.print(layers(variant).rich())
    for sentence in sentences(costs):
        console.print(Text(visible(sentence)))


def _turned(table: Table) -> Table:
    """A column for each network: there are few, and their figures are what a narrow terminal must not break."""
    header, *rows = zip(table.header, *table.rows, strict=True)
    return Table(header, tuple(rows), numbers=tuple(range(1, len(header))))
