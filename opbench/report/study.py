"""A study as a report: what was trained, the scores against the baseline, what the operators learnt, the curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from opbench.documents import replace_file
from opbench.report import numbers
from opbench.report.escape import block, label, prose
from opbench.report.study_charts import charts
from opbench.report.table import Table
from opbench.slug import slug
from opbench.study.changes import QUANTITIES
from opbench.study.differences import Estimate, StudyStanding, changes, standings, step_ratio
from opbench.study.document import Metric, StudyDocument, StudyResult

SHOWS = (
    "These are small studies: tiny networks, minutes of training on a CPU, few images. They show that the operators "
    "train, that gradients flow through them, and in what order of magnitude they change the score of a small network. "
    "They don't show the accuracy on ImageNet or COCO, nor what a large network or a long training would make of them."
)
DECIDES = (
    "In brackets: 95 % intervals, Student's t over seeds. *vs baseline* is the mean of the differences seed by seed: a "
    "contender and the baseline share data, their order and the initial weights around the slot. Intervals are not "
    "corrected for the number of contenders. Each contender has the learning rate that scored best on validation "
    "images with a seed that isn't scored; held-out images chose nothing."
)
STEP = (
    "*CPU time of a step*: forward, loss, backward and update on one thread, median ratio of paired rounds in one "
    "process; a rough figure beside the study, no latency measurement (`opbench run` takes those). MACs: one image, "
    "forward, 1 MAC = 2 FLOPs."
)

SHARED = "Steps were timed on a machine that others shared: too few rounds came by in which they didn't."


def write_study(study: StudyDocument, folder: Path) -> Path:
    """Writes study.md and its charts; the same document gives the same bytes. The path of study.md."""
    for name, svg in charts(study).items():
        replace_file(folder / name, svg.encode())
    replace_file(folder / "study.md", markdown(study).encode())
    return folder / "study.md"


def markdown(study: StudyDocument) -> str:
    """The document as text and tables; charts are linked by the names that `charts` gives them."""
    where = study.environment
    torch = prose(where.versions.get("torch", "unknown"))
    minutes = f"{study.wall_seconds / 60:.1f} minutes"
    parts = [
        "# Do the operators learn?",
        SHOWS,
        *_warnings(study),
        f"{prose(where.cpu)}, trainings on one thread each, torch {torch}, {prose(study.started)}, {minutes}.",
        *(part for result in study.studies for part in _study(result)),
        "## How to repeat it",
        block([study.command]),
        "On the same machine with the same versions every loss comes out the same to the last bit.",
    ]
    return "\n\n".join(parts) + "\n"


def _warnings(study: StudyDocument) -> Iterator[str]:
    if study.quick:
        yield "**A quick check of two steps each: no figure below means anything.**"
    if not study.complete:
        done = sum(len(result.trainings) for result in study.studies)
        planned = sum(result.planned for result in study.studies)
        yield f"**Incomplete: interrupted after {done} of {planned} trainings.**"


def _study(result: StudyResult) -> Iterator[str]:
    yield f"## {prose(result.title)}"
    yield prose(result.question)
    yield "\n".join(f"- {line}" for line in _setting(result))
    yield _table(_scores(result))
    yield "\n".join(f"- {line}" for line in _anchors(result)) or "No score without training."
    shared = f" {SHARED}" if result.step_phase == "shared" else ""
    yield f"{DECIDES} {STEP}{shared}"
    for name, title in (("loss", "losses over seeds"), ("score", "differences to the baseline")):
        if any(result.of(result.baseline, "scored")):
            yield f"![{label(title)}]({name}-{slug(result.name)}.svg)"
    learnt = list(_learnt(result))
    if learnt:
        yield "### What the slots learnt"
        yield _table([("contender", "slot", "quantity", "before", "after"), *learnt])
        used = dict.fromkeys(row[2] for row in learnt)
        yield "\n".join(f"- *{prose(name)}*: {QUANTITIES.get(name, 'not known to this version')}" for name in used)
    yield "### Choosing the learning rate"
    yield _table(_search(result))


def _setting(result: StudyResult) -> Iterator[str]:
    yield f"Data: {prose(result.data)}."
    slots = "1 slot" if result.slots == 1 else f"{result.slots} slots"
    yield f"Network: {prose(result.network)} ({slots})."
    rates = ", ".join(f"{rate:g}" for rate in result.rates)
    yield (
        f"Training, the same for all: {result.steps} steps of {result.batch} images, {prose(result.schedule)}; the "
        f"peak is one of {rates}."
    )
    yield f"{len(result.seeds)} seeds; the learning rate was chosen with seed {result.search_seed}, which isn't one."


def _scores(result: StudyResult) -> list[tuple[str, ...]]:
    found = {metric.name: standings(result, metric.name) for metric in result.metrics}
    baseline = next((c for c in result.contenders if c.name == result.baseline), None)
    rows = [
        (
            "contender",
            *(
                text
                for metric in result.metrics
                for text in (f"{metric.title}, {metric.unit}", f"vs {result.baseline}, {_points(metric)}")
            ),
            "learning rate",
            "params",
            "in the slots",
            "MACs",
            "CPU time of a step",
        )
    ]
    for index, contender in enumerate(result.contenders):
        ratio = step_ratio(contender, baseline) if baseline else None
        is_baseline = contender.name == result.baseline
        rows.append(
            (
                f"{contender.name} ({contender.operator}[{contender.implementation}])",
                *(cell for metric in result.metrics for cell in _cells(found[metric.name][index], metric, is_baseline)),
                "not chosen yet" if contender.rate is None else f"{contender.rate:g}",
                numbers.exactly(contender.params),
                numbers.exactly(contender.slot_params),
                numbers.macs(contender.macs),
                "baseline" if is_baseline else numbers.ratio(ratio),
            )
        )
    return rows


def _points(metric: Metric) -> str:
    return "percentage points" if metric.unit == "%" else metric.unit


def _cells(standing: StudyStanding, metric: Metric, is_baseline: bool) -> tuple[str, str]:
    diverged = f" ({standing.diverged} diverged)" if standing.diverged else ""
    score = estimate(standing.score, metric) + diverged
    return score, "baseline" if is_baseline else estimate(standing.difference, metric, signed=True)


def estimate(found: Estimate | None, metric: Metric, *, signed: bool = False) -> str:
    """A score or a difference with its interval, to the metric's decimals."""
    if found is None:
        return numbers.NOT_MEASURED
    return numbers.estimate(found.value, found.low, found.high, metric.places, signed=signed)


def _anchors(result: StudyResult) -> Iterator[str]:
    for name, scores in result.anchors.items():
        known = [metric for metric in result.metrics if metric.name in scores]
        values = [f"{metric.title} {scores[metric.name]:.{metric.places}f} {metric.unit}" for metric in known]
        yield f"To compare with, {prose(name)}: {', '.join(map(prose, values))}."
    for contender in result.contenders:
        if contender.note:
            yield f"{prose(contender.name)}: {prose(contender.note)}."


def _learnt(result: StudyResult) -> Iterator[tuple[str, ...]]:
    for contender in result.contenders:
        trainings = result.of(contender.name, "scored")
        names = dict.fromkeys(change.quantity for training in trainings for change in training.changes)
        for name in names:
            for slot, before, after in changes(result, contender.name, name):
                text = numbers.estimate(after.value, after.low, after.high, 2)
                yield contender.name, str(slot), name, f"{before:.2f}", text


def _search(result: StudyResult) -> list[tuple[str, ...]]:
    metric = result.metrics[0]
    rows = [("contender", *(f"{metric.title} at {rate:g}, {metric.unit}" for rate in result.rates), "chosen")]
    for contender in result.contenders:
        scores = {training.rate: training.scores[metric.name] for training in result.of(contender.name, "search")}
        cells = [f"{scores[rate]:.{metric.places}f}" if rate in scores else "not trained" for rate in result.rates]
        rate = "not chosen yet" if contender.rate is None else f"{contender.rate:g}"
        edge = " (an end of the grid)" if contender.rate in (result.rates[0], result.rates[-1]) else ""
        rows.append((contender.name, *cells, rate + edge))
    return rows


def _table(rows: Sequence[Sequence[str]]) -> str:
    header, *body = map(tuple, rows)
    return Table(header, tuple(body), names=()).markdown()
