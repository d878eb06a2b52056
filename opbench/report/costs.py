"""The costs of a swap in words and tables: cells are plain text, which whoever prints them escapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from opbench.models.costs import Costs, CostVariant, TakenPlaces
from opbench.models.places import NO_PART
from opbench.models.roles import PARTS
from opbench.plural import counted
from opbench.quantities import MACS, PARAMS, PEAK, SAVED, SECONDS
from opbench.report import numbers
from opbench.report.table import Table
from opbench.statistics.ratios import METHODS, Ratio, quartiles, ratio

# Of a network's layers, how many of the slowest are listed, and how far down those that were swapped.
LISTED = 8
SWAPPED_LISTED = 12
# In place of a figure in time: other processes had the cores.
DISTURBED = "disturbed"
_IN = {part: f"the {part}" for part in PARTS}


def sentences(costs: Costs) -> list[str]:
    """What each swap costs, and then what to know of how that was found out."""
    said = [_cost(costs, variant) for variant in costs.variants[1:]]
    missed = [line for variant in costs.variants if (line := _missed(variant))]
    return [*said, *missed, *_about(costs)]


def _cost(costs: Costs, variant: CostVariant) -> str:
    base = costs.variants[0]
    found = latency_ratio(variant, base)
    latency = f"{numbers.ratio(found)} latency" if found else "a latency that isn't known (disturbed)"
    return (
        f"{variant.title} costs "
        f"{numbers.signed(variant.params - base.params)} params ({numbers.relative(variant.params, base.params)}), "
        f"{numbers.relative(variant.macs.macs, base.macs.macs)} {MACS.title}, "
        f"{numbers.relative(variant.memory.peak_bytes, base.memory.peak_bytes)} {PEAK.title}, "
        f"{numbers.relative(variant.training_memory.peak_bytes, base.training_memory.peak_bytes)} training memory and "
        f"{latency} at {setting(costs)}."
    )


def latency_ratio(variant: CostVariant, base: CostVariant) -> Ratio | None:
    """None where the machine was too busy for either: its samples are no figure."""
    return None if variant.disturbed or base.disturbed else ratio(variant.latency, base.latency)


def setting(costs: Costs) -> str:
    """At what size, batch, dtype, mode and device."""
    batch, _, height, width = costs.input_shape
    return f"{height}x{width}, batch {batch}, {costs.dtype}, {costs.mode} on {costs.device}"


def _missed(variant: CostVariant) -> str:
    """How far torch's counter by itself is off, and what it has no formula for that ours has."""
    taught, stock = variant.macs.macs, variant.stock.macs
    if stock is None or taught is None or stock == taught:
        return ""
    unseen = [f"{name} ({n})" for name, n in variant.stock.unaccounted.items() if name not in variant.macs.unaccounted]
    reasons = [f"it has no formula for {', '.join(unseen)}"] if unseen else []
    if stock > taught:  # the only formula of torch's that is wrong: measure/macs.py
        reasons.insert(0, "it takes the weight gradient of a grouped convolution for a dense one's")
    by = f"{numbers.macs(abs(taught - stock))} MACs {'over' if stock > taught else 'short'}"
    return f"Of {variant.name}, torch's own counter is {by}: {', and '.join(reasons) or 'its formulas differ'}."


def _about(costs: Costs) -> Iterator[str]:
    if costs.disturbed:
        yield f"Disturbed, so that no latency is known: {costs.disturbed}."
    elif any(variant.latency.phase == "shared" for variant in costs.variants):
        yield "Latency is that of a machine that others shared: too few rounds came by in which they didn't."
    if costs.out_of_reach:
        yield (
            f"Not reached by any swap: {', '.join(costs.out_of_reach)} upsample by calling "
            f"torch.nn.functional.interpolate inside a forward."
        )
    for one in costs.passed_over:
        reasons = ", ".join(f"{count} {reason}" for reason, count in one.reasons.items())
        total = one.swapped + sum(one.reasons.values())
        noun = "3x3 convolutions" if one.slot == "conv3x3" else "places"
        yield f"{one.swap} takes {one.swapped} of {total} {noun}; left as they are: {reasons}."
    yield from (line for one in costs.taken if (line := _taken(one)))
    if costs.rivals:
        yield f"Not measured together: {' and '.join(costs.rivals)} take the same layers."
    notes = dict.fromkeys(variant.training_memory.note for variant in costs.variants)
    yield from (f"Training memory not measured: {note}." for note in notes if note)
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
    yield f"Side by side in random order, {counted(costs.threads, 'thread')}{load}{training}."


def _taken(one: TakenPlaces) -> str:
    """In which parts; and how to take those alone that write-ups mean, where it takes others along."""
    if set(one.parts) <= {NO_PART}:
        return ""
    parts = ", ".join(f"{count} in {_IN.get(part, part)}" for part, count in one.parts.items())
    said = f"{one.swap} takes {parts}"
    slot, _, rest = one.swap.partition("=")
    if slot.partition(":")[0] != "conv3x3" or not one.bottleneck < one.total:
        return f"{said}."
    if not one.bottleneck:
        return f"{said}; none is in a bottleneck."
    alone = f"conv3x3@bottleneck{slot.removeprefix('conv3x3')}={rest}"
    return f"{said}; {one.bottleneck} of them are in bottlenecks, where write-ups swap: {alone} takes those alone."


# --- Tables -----------------------------------------------------------------------------------------------------


def comparison(costs: Costs) -> Table:
    """A row for each network, the model as it is first."""
    base = costs.variants[0]
    ratios = [latency_ratio(variant, base) for variant in costs.variants[1:]]
    rows = [
        (
            variant.name,
            numbers.exactly(variant.params),
            numbers.macs(variant.macs.macs),
            numbers.macs(variant.stock.macs, missing=variant.stock.note or numbers.NOT_MEASURED),
            numbers.size(variant.memory.peak_bytes),
            numbers.size(variant.training_memory.peak_bytes),
            numbers.size(variant.training_memory.saved_bytes),
            "baseline" if variant is base and not base.disturbed else numbers.ratio(found, DISTURBED),
            _median(variant),
        )
        for variant, found in zip(costs.variants, [None, *ratios], strict=True)
    ]
    header = (
        "network",
        PARAMS.title,
        f"{MACS.title} ({costs.mode})",
        "torch's counter alone",
        f"{PEAK.title} (inference)",
        f"{PEAK.title} (training)",
        SAVED.title,
        f"latency ({costs.mode}) vs as it is",
        SECONDS.title,
    )
    return Table(header, tuple(rows), _note(ratios))


def _median(variant: CostVariant) -> str:
    if variant.disturbed:
        return DISTURBED
    found = quartiles(variant.latency)
    return numbers.seconds(found.median_seconds if found else None)


def _note(ratios: Sequence[Ratio | None]) -> str:
    methods = dict.fromkeys(METHODS[found.method] for found in ratios if found)
    brackets = f" In brackets: {'; '.join(methods)}." if methods else ""
    return f"Above 1x is slower.{brackets} {MACS.note} {PEAK.note}"


def places(costs: Costs) -> Table:
    """A row for each slot that the network has a place of: how many, and where."""
    told = any(set(one.parts) - {NO_PART} for one in costs.places)
    parts = [part for part in (*PARTS, NO_PART) if told and any(part in one.parts for one in costs.places)]
    uncalled = any(one.uncalled for one in costs.places)
    rows = tuple(
        (
            one.slot,
            str(one.total),
            *(str(one.parts.get(part, 0)) for part in parts),
            str(one.bottleneck),
            *([str(one.uncalled)] if uncalled else []),
        )
        for one in costs.places
    )
    header = ("slot", "places", *parts, "in bottlenecks", *(["never called"] if uncalled else []))
    note = "A swap takes all places of a slot, or those of a role: conv3x3@bottleneck=..., upsample@neck=..."
    return Table(header, rows, note, names=(0,), numbers=tuple(range(1, len(header))))


def changes(costs: Costs) -> Table:
    """A row for each layer that was swapped."""
    single = len(costs.variants) == 2 or bool(costs.rivals)
    alone = costs.variants[1:] if single else costs.variants[1:-1]
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
    return Table(("layer", "was", "is", "shape", PARAMS.title), rows, names=(0, 1, 2), numbers=(3, 4))


def layers(variant: CostVariant) -> Table:
    """The slowest layers of one evaluation, and swapped ones further down than others."""

    def share(of_time: float) -> str:
        return DISTURBED if variant.disturbed else numbers.share(of_time, 1.0)

    ranked = enumerate(variant.profile.layers)
    rows: list[tuple[str, ...]] = [
        (
            layer.name,
            layer.kind + (" (swapped)" if layer.changed else ""),
            share(layer.share),
            DISTURBED if variant.disturbed else numbers.seconds(layer.seconds),
            numbers.size(layer.peak_bytes),
            numbers.share(layer.peak_bytes, variant.memory.peak_bytes),
        )
        for rank, layer in ranked
        if rank < LISTED or (layer.changed and rank < SWAPPED_LISTED)
    ]
    changed = [layer for layer in variant.profile.layers if layer.changed]
    if changed:
        of_all = share(sum(layer.share for layer in changed))
        rows.append(("all swapped", counted(len(changed), "layer"), of_all, *[""] * 3))
    rows.append(("outside layers", "sums, concatenations, Python", share(variant.profile.outside), *[""] * 3))
    header = ("layer", "kind", "share of time", "time", "holds at most", "of the network's peak")
    return Table(
        header, tuple(rows), "One evaluation (inference), a clock around every layer.", numbers=(1, 2, 3, 4, 5)
    )


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape[1:]))
