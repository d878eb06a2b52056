"""`opbench model`: what a swap costs a network, in one table, a plain sentence for each swap, and where it shows."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from opbench.analyse.statistics import METHODS, Ratio, quartiles, ratio
from opbench.document import replace_file
from opbench.models.costs import Costs, Request, Variant, measure, parse_swap
from opbench.registry import nearest
from opbench.report import numbers
from opbench.report.escape import prose, visible
from opbench.report.markdown import render
from opbench.report.tables import MACS_UNIT, Table
from opbench.schema import DEVICES, DTYPES, OpbenchError

# Of a network's layers, how many of the slowest are listed, and how far down those that were swapped.
LISTED = 8
SWAPPED_LISTED = 24
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


def parse_size(text: str) -> tuple[int, int]:
    """`480x640` is height x width; `640` is square."""
    sides = text.lower().split("x")
    if len(sides) == 1:
        sides *= 2
    if len(sides) != 2 or not all(
        side.isascii() and side.isdigit() and 0 < int(side) <= LARGEST_SIDE for side in sides
    ):
        raise OpbenchError(
            f"--size {text}: expected HEIGHTxWIDTH in pixels, as in 640x640: a cost is one of a known size, so none "
            f"may be left open"
        )
    height, width = map(int, sides)
    return height, width


# --- In words ---------------------------------------------------------------------------------------------------


def sentences(costs: Costs) -> list[str]:
    """What each swap costs, and then what to know of how that was found out."""
    base = costs.variants[0]
    said = [_cost(costs, variant) for variant in costs.variants[1:]]
    missed = [line for variant in costs.variants if (line := _missed(variant, base))]
    return [*said, *missed, *_about(costs)]


def _cost(costs: Costs, variant: Variant) -> str:
    base = costs.variants[0]
    found = ratio(variant.latency, base.latency)
    return (
        f"{variant.title} costs "
        f"{numbers.signed(variant.params - base.params)} params ({numbers.relative(variant.params, base.params)}), "
        f"{numbers.relative(variant.macs.macs, base.macs.macs)} MACs, "
        f"{numbers.relative(variant.memory.peak_bytes, base.memory.peak_bytes)} peak memory, "
        f"{numbers.relative(variant.training_memory.peak_bytes, base.training_memory.peak_bytes)} training memory and "
        f"{numbers.ratio(found)} latency at {_setting(costs)}."
    )


def _setting(costs: Costs) -> str:
    batch, _, height, width = costs.input_shape
    return f"{height}x{width}, batch {batch}, {costs.dtype}, {costs.mode} on {costs.device}"


def _missed(variant: Variant, base: Variant) -> str:
    """What torch's counter doesn't see of the swapped parts: what it has no formula for, and nobody else dispatches."""
    if variant.stock.macs is None or variant.macs.macs is None or variant.stock.macs == variant.macs.macs:
        return ""
    unseen = [f"{name} ({n})" for name, n in variant.stock.unaccounted.items() if name not in variant.macs.unaccounted]
    by = numbers.macs(abs(variant.macs.macs - variant.stock.macs))
    named = f": it has no formula for {', '.join(unseen)}" if unseen else ""
    way = "misses" if variant.stock.macs < variant.macs.macs else "adds, wrongly,"
    return f"Of {variant.name}, torch's own counter {way} {by} MACs{named}."


def _about(costs: Costs) -> Iterator[str]:
    if costs.out_of_reach:
        yield (
            f"Not reached by any swap: {', '.join(costs.out_of_reach)} upsample by calling "
            f"torch.nn.functional.interpolate inside a forward."
        )
    judged = [proven.verdict for proven in costs.proven if proven.verdict]
    if judged:
        worst = max(verdict.worst_ratio for verdict in judged)
        parts = f"{len(judged)} kind{'' if len(judged) == 1 else 's'} of part"
        yield (
            f"Proven against the float64 definition before timing: {parts}, "
            f"worst error {numbers.plain(worst)} of its bound."
        )
    for proven in costs.proven:
        if proven.verdict is None:
            yield f"Not proven: {proven.part}: {proven.why}."
    if any(variant.deformable for variant in costs.variants):
        yield (
            f"Offsets of deformable layers deviate by {costs.spread:g} px; a fresh layer's are zero, which no trained "
            f"one's are and which flatters its time."
        )
    training = "; in training forward and backward of the mean of the outputs" if costs.mode == "training" else ""
    load = "" if costs.load is None else f", load {costs.load:.1f} when it ended"
    yield f"Side by side in random order, {costs.threads} thread{'' if costs.threads == 1 else 's'}{load}{training}."


# --- Tables -----------------------------------------------------------------------------------------------------


def comparison(costs: Costs) -> Table:
    """A row for each network, the model as it is first."""
    base = costs.variants[0]
    ratios = [ratio(variant.latency, base.latency) for variant in costs.variants[1:]]
    rows = [
        (
            variant.name,
            numbers.exactly(variant.params),
            numbers.macs(variant.macs.macs),
            numbers.macs(variant.stock.macs, missing=variant.stock.note or numbers.NOT_MEASURED),
            numbers.size(variant.memory.peak_bytes),
            numbers.size(variant.training_memory.peak_bytes),
            numbers.size(variant.training_memory.saved_bytes),
            "baseline" if found is None and variant is base else numbers.ratio(found),
            _median(variant),
        )
        for variant, found in zip(costs.variants, [None, *ratios], strict=True)
    ]
    header = (
        "network",
        "params",
        f"MACs ({costs.mode})",
        "of these torch's counter sees",
        "peak memory (inference)",
        "peak memory (training)",
        "saved for backward",
        f"latency ({costs.mode}) vs as it is",
        "median latency",
    )
    return Table(header, tuple(rows), _note(ratios))


def _median(variant: Variant) -> str:
    found = quartiles(variant.latency)
    return numbers.seconds(found.median_seconds if found else None)


def _note(ratios: Sequence[Ratio | None]) -> str:
    methods = dict.fromkeys(METHODS[found.method] for found in ratios if found)
    brackets = f" In brackets: {'; '.join(methods)}." if methods else ""
    return f"Above 1x is slower.{brackets} {MACS_UNIT}. Memory is above inputs and parameters."


def changes(costs: Costs) -> Table:
    """A row for each layer that was swapped."""
    alone = [variant for variant in costs.variants[1:] if variant is not costs.variants[-1] or len(costs.variants) == 2]
    rows = tuple(
        (
            ", ".join(change.names),
            change.before,
            change.after,
            f"{_shape(change.shape_in)} -> {_shape(change.shape_out)}",
            f"{numbers.exactly(change.params_before)} -> {numbers.exactly(change.params_after)}",
        )
        for variant in alone
        for change in variant.changes
    )
    return Table(("layer", "was", "is", "shape", "params"), rows, names=(0, 1, 2))


def layers(variant: Variant) -> Table:
    """The slowest layers of one evaluation, and swapped ones further down than others."""
    ranked = enumerate(variant.profile.layers)
    rows: list[tuple[str, ...]] = [
        (
            layer.name,
            layer.kind + (" (swapped)" if layer.changed else ""),
            numbers.share(layer.share, 1.0),
            numbers.seconds(layer.seconds),
            numbers.size(layer.peak_bytes),
            numbers.share(layer.peak_bytes, variant.memory.peak_bytes),
        )
        for rank, layer in ranked
        if rank < LISTED or (layer.changed and rank < SWAPPED_LISTED)
    ]
    changed = [layer for layer in variant.profile.layers if layer.changed]
    if changed:
        share = numbers.share(sum(layer.share for layer in changed), 1.0)
        rows.append(("all swapped", f"{len(changed)} layers", share, *[""] * 3))
    rows.append(
        ("outside layers", "sums, concatenations, Python", numbers.share(variant.profile.outside, 1.0), *[""] * 3)
    )
    header = ("layer", "kind", "share of time", "time", "holds at most", "of the network's peak")
    return Table(header, tuple(rows), "One evaluation (inference), a clock around every layer.")


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape[1:]))


# --- Where it goes ----------------------------------------------------------------------------------------------


def as_markdown(costs: Costs) -> str:
    """The whole answer, everything from the model escaped."""
    table = comparison(costs)
    parts = [
        f"## {prose(costs.target)} ({prose(costs.model)}) at {prose(_setting(costs))}",
        *map(prose, sentences(costs)),
        render(table),
        prose(table.note),
    ]
    if len(costs.variants) > 1:
        parts += ["### Layers that were swapped", render(changes(costs))]
    for variant in costs.variants:
        parts += [f"### Where the time goes: {prose(variant.name)}", render(layers(variant))]
    return "\n\n".join([*parts, prose(layers(costs.variants[0]).note)]) + "\n"


def _print(costs: Costs) -> None:
    console = Console()
    console.print(Text(visible(f"{costs.target} ({costs.model}) at {_setting(costs)}"), "bold"))
    table = comparison(costs)
    console.print(_grid(table))
    console.print(Text(table.note, "dim"))
    if len(costs.variants) > 1:
        console.print(_grid(changes(costs)))
    for variant in costs.variants:
        console.print(Text(visible(f"where the time goes: {variant.name}"), "bold"))
        console.print(_grid(layers(variant)))
    for sentence in sentences(costs):
        console.print(Text(visible(sentence)))


def _grid(table: Table) -> Grid:
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False)
    for column, name in enumerate(table.header):
        grid.add_column(name, overflow="fold", justify="left" if column in table.names else "right")
    for row in table.rows:
        grid.add_row(*(Text(visible(cell, 80)) for cell in row))
    return grid
