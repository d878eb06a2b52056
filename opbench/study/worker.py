"""A process that trains: `python -m opbench.study.worker` answers every `Job` with what came of it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from opbench.process.channel import serve
from opbench.study.document import Training
from opbench.study.training import TrainingJob, train


class Trained(msgspec.Struct, frozen=True, tag=True):
    """The training that a job asked for."""

    training: Training


def trained(job: TrainingJob) -> Iterator[Trained]:
    """The answer to a job."""
    yield Trained(train(job))


if __name__ == "__main__":
    serve(TrainingJob, trained)
