"""One case in a test: held against its definition, and timed only after that."""

from __future__ import annotations

from typing import Any

import torch

from opbench.engine.check_case import CheckedCase, check_case, count_case
from opbench.schema import Case, OpbenchError
from opbench.testing import watched
from opbench.verify.gate import call


class ProvenCase:
    """A case of the fixture `opbench_case`: `prove()`, or `time(benchmark)`, which begins with it.

    It runs in the test's own process. That a contender interferes with what judges it is guarded against by
    `opbench run` alone.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        self._checked: CheckedCase | None = None

    @property
    def id(self) -> str:
        """The case's stable name, as in `opbench run`."""
        return self.case.id

    @property
    def module(self) -> torch.nn.Module:
        """The module that is measured, with its drawn parameters."""
        return self.prove().built.module

    @property
    def inputs(self) -> tuple[torch.Tensor, ...]:
        """What it is called with, as x (N, C, H, W)."""
        return self.prove().built.inputs

    def prove(self) -> CheckedCase:
        """Holds output, and in training every gradient, against the float64 definition; once.

        Raises AssertionError with the worst element, or with what the contender raised.
        """
        if self._checked is None:
            with torch.random.fork_rng(devices=[]):  # the tester's own random numbers stay
                try:
                    checked = check_case(self.case)
                except OpbenchError as error:
                    raise AssertionError(f"{self.id} can't be judged: {error}") from error
            verdict = checked.verdict
            assert verdict.correct, f"{self.id} is incorrect and is not timed: {verdict.reason}"
            self._checked = checked
        return self._checked

    def __call__(self) -> dict[str, torch.Tensor | None]:
        """One call as it is timed: the output, and in training every gradient, by name. Only of a case that is proven.

        On a GPU it returns when the device has finished.
        """
        if self._checked is None:
            raise RuntimeError(f"{self.id} is not proven: call prove() first; time(benchmark) does both")
        found = call(self._checked.built)
        if self.case.device == "cuda":
            torch.cuda.synchronize()
        return found

    def time(self, benchmark: Any) -> None:
        """Proves the case, times it by the fixture `benchmark` of pytest-benchmark or pytest-codspeed, and judges the
        output of the last timed call, too.

        `extra_info` gets its counts: parameters, MACs (1 MAC = 2 FLOPs), bytes. Where something else had the core too
        often the test is skipped as disturbed. Where nothing is timed (beside pytest-xdist, --benchmark-disable) the
        case is called once more.
        """
        checked = self.prove()
        counts, memory = count_case(checked.built)
        benchmark.group = self.case.panel_id
        benchmark.extra_info.update(
            case=self.id,
            correct=True,
            worst_error_over_bound=checked.verdict.worst_ratio,
            params=counts.params,
            macs=counts.macs,
            min_bytes=counts.min_bytes,
            traffic_bytes=counts.traffic_bytes,
            peak_bytes=memory.peak_bytes,
            saved_bytes=memory.saved_bytes,
        )
        last = watched.run(benchmark, self) if self.case.device == "cpu" else benchmark(self)
        verdict = checked.expected.judge(last)
        assert verdict.correct, f"{self.id} is incorrect after it was timed: {verdict.reason}"
