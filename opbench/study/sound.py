"""What the fields of a study document say of each other: who was trained, at which rate, by which scores."""

from __future__ import annotations

from collections.abc import Iterator

from opbench.documents.checks.flaws import Flaw, repeated
from opbench.slug import slug
from opbench.study.document import StudyDocument, StudyResult


def flaws(study: StudyDocument) -> Iterator[Flaw]:
    """Every contradiction of a study document."""
    for place in repeated(slug(result.name) for result in study.studies):
        yield Flaw(f"$.studies[{place}].name", "a study whose charts would have the names of another's")
    for place, result in enumerate(study.studies):
        yield from _result(result, f"$.studies[{place}]")


def _result(result: StudyResult, path: str) -> Iterator[Flaw]:
    for field in ("metrics", "rates", "contenders"):
        if not getattr(result, field):
            yield Flaw(f"{path}.{field}", "none at all")
    for place in repeated(metric.name for metric in result.metrics):
        yield Flaw(f"{path}.metrics[{place}].name", "a metric that stood before")
    contenders = {contender.name for contender in result.contenders}
    for place in repeated(contender.name for contender in result.contenders):
        yield Flaw(f"{path}.contenders[{place}].name", "a contender that stood before")
    if result.baseline not in contenders:
        yield Flaw(f"{path}.baseline", "none of the contenders")
    if len(result.trainings) > result.planned:
        yield Flaw(f"{path}.trainings", f"{len(result.trainings)} of them, {result.planned} were planned")
    metrics = {metric.name for metric in result.metrics}
    for place, training in enumerate(result.trainings):
        where = f"{path}.trainings[{place}]"
        if training.contender not in contenders:
            yield Flaw(f"{where}.contender", "none of the contenders")
        if missing := metrics - training.scores.keys():
            yield Flaw(f"{where}.scores", f"no score of {min(missing)!r}")
    for place in repeated((one.contender, one.purpose, one.rate, one.seed) for one in result.trainings):
        yield Flaw(f"{path}.trainings[{place}]", "a training that stood before")
