"""What a swap costs a network, in one table, a plain sentence for each swap, and where it shows."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from opbench.models.costs import Costs
from opbench.report.costs import changes, comparison, layers, places, sentences, setting
from opbench.report.escape import prose, visible
from opbench.report.table import Table


def as_markdown(costs: Costs) -> str:
    """The whole answer, everything from the model escaped."""
    table = comparison(costs)
    parts = [
        f"## {prose(costs.target)} ({prose(costs.model)}) at {prose(setting(costs))}",
        *map(prose, sentences(costs)),
        table.markdown(),
        prose(table.note),
    ]
    if costs.places:
        parts += ["### Places to swap", places(costs).markdown(), prose(places(costs).note)]
    if len(costs.variants) > 1:
        parts += ["### Layers that were swapped", changes(costs).markdown()]
    for variant in costs.variants:
        parts += [f"### Where the time goes: {prose(variant.name)}", layers(variant).markdown()]
    return "\n\n".join([*parts, prose(layers(costs.variants[0]).note)]) + "\n"


def shown(costs: Costs) -> Iterator[RenderableType]:
    """The whole answer for a terminal, part by part."""
    yield Text(visible(f"{costs.target} ({costs.model}) at {setting(costs)}"), "bold")
    table = comparison(costs)
    yield _turned(table).rich()
    yield Text(table.note, "dim")
    if costs.places:
        yield places(costs).rich()
        yield Text(places(costs).note, "dim")
    if len(costs.variants) > 1:
        yield changes(costs).rich()
    for variant in costs.variants:
        yield Text(visible(f"where the time goes: {variant.name}"), "bold")
        yield layers(variant).rich()
    for sentence in sentences(costs):
        yield Text(visible(sentence))


def _turned(table: Table) -> Table:
    """A column for each network: there are few, and their figures are what a narrow terminal must not break."""
    header, *rows = zip(table.header, *table.rows, strict=True)
    return Table(header, tuple(rows), numbers=tuple(range(1, len(header))))
