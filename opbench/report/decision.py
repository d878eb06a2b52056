"""The answer of `opbench decide`: sentences, a table for each slot, its front in text and as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from opbench.decision.nouns import NetworkDecision, OutOfReach, PricedContender, PricedSlot, Versus
from opbench.documents import replace_file
from opbench.plural import counted
from opbench.quantities import MACS, PARAMS, PEAK, SAVED, TRAFFIC
from opbench.report import numbers
from opbench.report.charts import missing, svg
from opbench.report.decision_chart import front_picture
from opbench.report.escape import block, label, prose, visible
from opbench.report.table import Table
from opbench.slug import slug
from opbench.statistics.ratios import METHODS

REPORT = "decide.md"
STANDS = {
    "front": "on the front",
    "undecided": "undecided",
    "dominated": "dominated",
    "fixed": "learns nothing",
    "unpriced": "no price",
}


def write(decision: NetworkDecision, folder: Path) -> Path:
    """Writes decide.md and its pictures; the same decision gives the same bytes. The path of decide.md."""
    pictures = {} if missing() else charts(decision)
    for name, text in pictures.items():
        replace_file(folder / name, text.encode())
    replace_file(folder / REPORT, markdown(decision, tuple(pictures)).encode())
    return folder / REPORT


def charts(decision: NetworkDecision) -> dict[str, str]:
    """File name -> SVG of each slot's front; a slot of which nothing was timed has none."""
    drawn = {}
    for slot in decision.slots:
        picture = front_picture(decision, slot)
        if picture is not None:
            drawn[_file(slot)] = svg(picture)
    return drawn


def _file(slot: PricedSlot) -> str:
    return f"decide-{slug(slot.task)}.svg"


def markdown(decision: NetworkDecision, pictures: Sequence[str]) -> str:
    """The whole answer, everything from the network and the run escaped; `pictures` are those that were drawn."""
    parts = [
        f"# {prose(decision.target)}: what each operator would cost",
        prose(setting(decision)),
        *map(prose, about(decision)),
    ]
    for slot in decision.slots:
        table = priced(slot, decision.mode)
        parts += [f"## {prose(slot.task)}", *(f"- {prose(line)}" for line in sentences(slot)), table.markdown()]
        parts.append(prose(table.note))
        parts += ["### The front: latency against parameters", front(slot).markdown()]
        if _file(slot) in pictures:
            parts.append(f"![{label(f'{slot.task}: latency against parameters')}]({_file(slot)})")
        parts += ["### Its places", places(slot).markdown()]
        if slot.skipped:
            parts += ["### Not measured", unreached(slot.skipped, "contender").markdown()]
    if decision.left_out:
        parts += ["## Left as they are", unreached(decision.left_out, "place").markdown()]
    return "\n\n".join([*parts, "## How to repeat it", block([decision.command], "sh")]) + "\n"


def shown(decision: NetworkDecision) -> Iterator[RenderableType]:
    """The whole answer for a terminal, part by part, the sentences last."""
    yield Text(visible(f"{decision.target} ({decision.network}): {setting(decision)}"), "bold")
    for slot in decision.slots:
        yield Text(visible(f"{slot.task}: {_of_places(slot)}"), "bold")
        table = priced(slot, decision.mode)
        yield table.rich()
        yield Text(table.note, "dim")
        yield Text(visible(f"{slot.task}: the front, latency against parameters"), "bold")
        yield front(slot).rich()
    for slot in decision.slots:
        for sentence in sentences(slot):
            yield Text(visible(f"{slot.task}: {sentence}"))
    for sentence in about(decision):
        yield Text(visible(sentence))


# --- Sentences ------------------------------------------------------------------------------------------------------


def setting(decision: NetworkDecision) -> str:
    """Where and how it was measured."""
    batch, _, height, width = decision.input_shape
    threads = counted(decision.threads, "thread")
    return (
        f"{height}x{width}, batch {batch}, {decision.dtype}, {decision.mode} on {decision.device} "
        f"({decision.machine}, {threads}), {decision.started}"
    )


def sentences(slot: PricedSlot) -> list[str]:
    """What stands there, what is never worth its cost there, what is on the front, what is undecided."""
    return [line for line in (*_against_what_stands_there(slot), *_verdicts(slot), *_without_figures(slot)) if line]


def _against_what_stands_there(slot: PricedSlot) -> Iterator[str]:
    there = slot.stands_there
    yield f"{_of_places(slot)}; {slot.baseline} stands for what is there now."
    rivals = [one for one in slot.contenders if one.ratio is not None]
    if there is None or there.seconds is None or not rivals:
        return
    versus = [(one, Versus(slot.baseline, one.ratio)) for one in rivals if one.ratio is not None]
    for said, chosen in (
        ("Faster than it, by intervals", [one for one, against in versus if against.faster]),
        ("Slower than it, by intervals", [one for one, against in versus if against.slower]),
    ):
        if chosen:
            yield f"{said}: {', '.join(f'{one.contender} {numbers.ratio(one.ratio)}' for one in chosen)}."


def _verdicts(slot: PricedSlot) -> Iterator[str]:
    front = slot.of("front")
    if front:
        yield f"On the front (nothing that learns is faster with no more parameters): {_names(front)}."
    for one in slot.of("dominated"):
        best = one.beaten_by[0]
        other = _row(slot, best.contender)
        same = other.operator == one.operator
        yield (
            f"{one.contender} is never worth its cost here: it takes {numbers.ratio(best.ratio)} the time of "
            f"{best.contender}, which {'computes the same' if same else _smaller(one, other)}."
            f"{'' if same else ' Only a better score could pay for it.'}"
        )
    for one in slot.of("undecided"):
        against = ", ".join(f"{numbers.ratio(versus.ratio)} of {versus.contender}" for versus in one.perhaps)
        yield (
            f"{one.contender} is undecided: it takes {against}, with no fewer parameters; a larger --budget, or a "
            f"quieter machine, may tell."
        )
    fixed = [one for one in slot.of("fixed") if one.contender != slot.baseline]
    if fixed:
        yield f"Without parameters, so that they learn nothing and beat nobody who does: {_names(fixed)}."


def _smaller(one: PricedContender, other: PricedContender) -> str:
    if other.params == one.params:
        return f"has as many parameters ({numbers.exactly(other.params)})"
    return f"has fewer parameters ({numbers.exactly(other.params)} against {numbers.exactly(one.params)})"


def _row(slot: PricedSlot, contender: str) -> PricedContender:
    return next(one for one in slot.contenders if one.contender == contender)


def _without_figures(slot: PricedSlot) -> Iterator[str]:
    """Once for each outcome, with what the first of them said."""
    by_outcome: dict[str, list[PricedContender]] = {}
    for one in slot.of("unpriced"):
        by_outcome.setdefault(one.outcome, []).append(one)
    for outcome, those in by_outcome.items():
        message = next((one.message for one in those if one.message), "")
        said = "no latency at one of the shapes" if outcome == "ok" else outcome
        yield f"No price, {said}: {_names(those)}{f' ({message})' if message else ''}."


def _of_places(slot: PricedSlot) -> str:
    calls = sum(place.calls for place in slot.places)
    shapes = f"{len(slot.places)} shape{'' if len(slot.places) == 1 else 's'}"
    return f"{calls} place{'' if calls == 1 else 's'} of {shapes}, each priced as often as the network calls it"


def _names(contenders: Sequence[PricedContender]) -> str:
    return ", ".join(one.contender for one in contenders)


def about(decision: NetworkDecision) -> list[str]:
    """What the answer doesn't speak of, and how good its figures are."""
    elsewhere = "a GPU" if decision.device == "cpu" else "a CPU"
    said = [
        "Accuracy was not measured: what is dominated in cost may score better, and what is on the front worse; that "
        "takes training on your data.",
        f"This is the cost of the places alone, on this machine: it says nothing of {elsewhere}, of another machine, "
        "or of an exported network.",
        "Every contender was proven against its own float64 definition at these shapes before it was timed, all side "
        "by side.",
    ]
    if any(slot.task == "conv3x3" for slot in decision.slots) or decision.spread:
        said.append(f"Offsets of deformable operators deviate by {decision.spread:g} px, as trained ones do.")
    return [*said, *([decision.quality] if decision.quality else [])]


# --- Tables ---------------------------------------------------------------------------------------------------------


def priced(slot: PricedSlot, mode: str) -> Table:
    """A row for each contender, the baseline first, then from fastest to slowest."""
    training = mode == "training"
    header = (
        "contender",
        "rank",
        "latency vs baseline",
        "latency of all",
        PARAMS.title,
        MACS.title,
        TRAFFIC.title,
        PEAK.title,
        *([SAVED.title] if training else []),
        "verdict",
    )
    rows = tuple(
        (
            one.contender,
            _rank(one),
            "baseline" if one.contender == slot.baseline else numbers.ratio(one.ratio, one.outcome),
            numbers.seconds(one.seconds, one.outcome),
            numbers.exactly(one.params, _absent(one)),
            numbers.macs(one.macs, _absent(one)),
            numbers.size(one.traffic_bytes, _absent(one)),
            numbers.size(one.peak_bytes, _absent(one)),
            *([numbers.size(one.saved_bytes, _absent(one))] if training else []),
            STANDS[one.standing],
        )
        for one in slot.contenders
    )
    methods = dict.fromkeys(one.ratio.method for one in slot.contenders if one.ratio)
    brackets = f" In brackets: {'; '.join(METHODS[method] for method in methods)}." if methods else ""
    note = (
        f"Of all places together, each as often as it is called; peak memory is the largest of any.{brackets} A range "
        f"of ranks: intervals don't tell. {MACS.note} {TRAFFIC.note}"
    )
    return Table(header, rows, note, numbers=tuple(range(1, len(header) - 1)))


def _absent(one: PricedContender) -> str:
    return numbers.NOT_MEASURED if one.outcome == "ok" else one.outcome


def _rank(one: PricedContender) -> str:
    if one.ranks is None:
        return "-"
    first, last = one.ranks
    return str(first) if first == last else f"{first} to {last}"


def front(slot: PricedSlot) -> Table:
    """What is, or may be, on the front, from the fewest parameters to the most."""
    held = sorted(slot.of("front", "undecided"), key=lambda one: (one.params or 0, one.seconds or 0.0))
    rows = tuple(
        (
            one.contender,
            numbers.exactly(one.params),
            numbers.seconds(one.seconds),
            "baseline" if one.contender == slot.baseline else numbers.ratio(one.ratio),
            STANDS[one.standing],
        )
        for one in held
    )
    return Table(
        ("contender", PARAMS.title, "latency of all", "latency vs baseline", "verdict"), rows, numbers=(1, 2, 3)
    )


def places(slot: PricedSlot) -> Table:
    """Where the slot is found in the network."""
    rows = tuple(
        (
            place.workload,
            " ".join(f"{name}={value}" for name, value in place.dims.items()),
            str(place.modules),
            str(place.calls),
            ", ".join(place.names),
        )
        for place in slot.places
    )
    return Table(("workload", "dimensions", "modules", "calls", "layers"), rows, numbers=(2, 3))


def unreached(left_out: Sequence[OutOfReach], what: str) -> Table:
    """What no figure is of, and why."""
    return Table((what, "why"), tuple((one.what, one.why) for one in left_out))
