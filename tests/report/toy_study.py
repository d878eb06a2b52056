"""A study document made of seeded numbers: nothing is trained, so that a report's test is fast and always the same."""

import random

from factory import make_environment

from opbench.documents.kinds import STUDY_VERSION
from opbench.study.document import (
    Contender,
    Metric,
    SlotChange,
    StudyDocument,
    StudyResult,
    Training,
)

SEEDS = (0, 1, 2)
RATES = (0.01, 0.1)
STEPS = 60


def make_training(name, purpose, rate, seed, advantage):
    draw = random.Random(f"{name}/{purpose}/{rate}/{seed}")
    losses = tuple(round(3 / (1 + 0.1 * step) - advantage + 0.05 * draw.random(), 6) for step in range(STEPS))
    changes = (SlotChange(1, "offset spread", 0.0, 1.0 + draw.random()),) if name == "bends" else ()
    return Training(name, purpose, rate, seed, losses, {"score": 20 + 10 * advantage + draw.random()}, changes)


def make_result(name="toy", **changed):
    trainings, contenders = [], []
    for index, contender in enumerate(("base", "bends")):
        advantage = 0.2 * index
        trainings += [make_training(contender, "search", rate, 99, advantage) for rate in RATES]
        trainings += [make_training(contender, "scored", 0.1, seed, advantage) for seed in SEEDS]
        contenders.append(
            Contender(
                contender, contender, "torch", {"C": 4}, 1234 * (index + 1), 1000 * index, 10**6, 10**5 * index, 0.1,
                tuple((1 + index) * 0.01 for _ in range(8)),
            )
        )  # fmt: skip
    trainings.sort(key=lambda training: training.purpose == "scored")
    settings = {
        "title": "A toy", "question": "What of it?", "task": "toy", "baseline": "base", "data": "numbers",
        "network": "none", "slots": 1, "steps": STEPS, "batch": 4, "schedule": "flat", "rates": RATES,
        "search_seed": 99, "seeds": SEEDS, "metrics": (Metric("score", "PSNR", "dB", 2),), "loss_title": "loss",
        "contenders": tuple(contenders), "planned": len(trainings), "trainings": tuple(trainings),
        "anchors": {"doing nothing": {"score": 19.0}},
    }  # fmt: skip
    return StudyResult(name=name, **{**settings, **changed})


def make_study(*results, **changed):
    settings = {
        "schema_version": STUDY_VERSION, "environment": make_environment(), "command": "opbench study -o DIR",
        "started": "2026-01-01T00:00:00+00:00", "wall_seconds": 90.0, "quick": False,
    }  # fmt: skip
    return StudyDocument(studies=results or (make_result(),), **{**settings, **changed})
