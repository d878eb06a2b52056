"""The steps of a case, as the worker writes them into its heartbeat, and what the record of a lost one says of them."""

from __future__ import annotations

from enum import IntEnum

# The exit code of a process in which something was changed that can't be put back.
STATE_LOST = 73


class CaseStep(IntEnum):
    """What is being done for a contender. DEFINITION and PREDICT run none of its own code."""

    IDLE = 0
    DEFINITION = 1
    FIRST_CALL = 2
    COUNT = 3
    TIME = 4
    JUDGE = 5
    PREDICT = 6
    IMPORT = 7

    @property
    def during(self) -> str:
        """The end of a sentence about what happened in it."""
        return _DURING[self]


_DURING = {
    CaseStep.IDLE: "between its calls",
    CaseStep.DEFINITION: "while the definition was evaluated for it",
    CaseStep.FIRST_CALL: "while it was built and called for the first time",
    CaseStep.COUNT: "while it was counted and its memory tracked",
    CaseStep.TIME: "while it was timed",
    CaseStep.JUDGE: "while its last timed output was judged",
    CaseStep.PREDICT: "while its memory was predicted",
    CaseStep.IMPORT: "while a --with file was imported",
}
