"""Audits inside the timing: a contender that is right only when it is watched is wrong.

Between timed blocks, at random places, outside the timed span:

    picked    the output of one call of a block, drawn at random before it, is kept and judged like the first one
    fresh     a block that is not timed, and looks the same to whoever is called: before one call in the midst of it,
              drawn at random, the inputs are overwritten with values that nobody has seen. What lies in memory from
              earlier calls is no answer, nor is what would be computed later: the output must be, as soon as the block
              is over, that of a call right after it
    unseen    the inputs are overwritten in place with values that nobody has seen, and one call is timed, then with
              their own values again, and another is: who answers from memory takes longer for a question that is new
    own       what a call returns is a plain tensor in memory of its own: not a promise to compute it later, not a view
              of an input, not a buffer that an earlier call has returned and that is in use

Judging takes time: beyond the first few of each kind, audits together take at most `SHARE` of what the contender is
timed for.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from opbench.schema import Verdict
from opbench.verify.gate import disowned, shares_memory

Tensors = tuple[torch.Tensor, ...]

SHARE = 0.05
# So many of each kind always happen,
FIRST = 3
# or one of a contender whose block takes longer: its audits would take longer than its timing.
LONG_BLOCK_SECONDS = 0.1
# How many times as long a call on new values may take as one on old ones, both single calls on values just written; and
# as one of many in a block, which a single call may well exceed twice over. The fastest of at least `FIRST` of each is
# judged, and of `ASKED_AGAIN` more before a conviction: an interrupted call is none.
TIMES_AS_LONG_AS_AGAIN = 2.5
TIMES_AS_LONG_AS_IN_BLOCKS = 5.0
UNSEEN_SECONDS = 20e-6
ASKED_AGAIN = 20
FEW = 1024
KINDS = ("picked", "unseen", "fresh")
REUSED = "the output is in the memory of an earlier call's output, which is in use"

# Taken before foreign code is loaded, which may put others in their place.
_now = time.perf_counter


class Caught(Exception):  # what it says is a verdict on the contender, not an error of opbench
    """An audit found the contender out; the message is its outcome's, `verdict` that on a timed call."""

    def __init__(self, message: str, verdict: Verdict | None = None) -> None:
        super().__init__(message)
        self.verdict = verdict


@dataclass
class Audit:
    """One contender's audits. `work` is its call, `judge` holds a call's results against the definition."""

    work: Callable[[], Tensors]
    judge: Callable[[Sequence[torch.Tensor]], Verdict]
    inputs: Sequence[torch.Tensor]
    draw: random.Random
    now: Callable[[], float] = _now
    sample: Callable[[int], object] | None = None  # so many calls, as they are timed; None: a loop of them
    _fresh: list[torch.Tensor] = field(default_factory=list)
    _calls: int = 0
    _pick: int = -1
    _kept: Tensors | None = None
    _after: Tensors | None = None  # of the block's last call, if that isn't the picked one
    _before: list[torch.Tensor] = field(default_factory=list)
    _block: int = 0
    _begun: float = 0.0
    _timed: float = 0.0
    _spent: float = 0.0  # on audits
    _done: list[str] = field(default_factory=list)
    _known: list[float] = field(default_factory=list)
    _unseen: list[float] = field(default_factory=list)
    _again: list[float] = field(default_factory=list)

    def begin(self) -> None:
        """A block of calls is about to be timed."""
        self._pick = self.draw.randrange(self._block) if self._block and self._due("picked") else -1
        self._calls, self._kept, self._after, self._begun = 0, None, None, self.now()

    @property
    def moved(self) -> bool:
        """Whether the inputs hold other values just now than the definition was evaluated on."""
        return bool(self._before)

    def call(self) -> Tensors:
        """One call, as it is timed."""
        picked = self._calls == self._pick
        if picked and self._fresh:
            self._write(self._fresh)
        last = self.work()
        if picked:
            self._kept = last
        elif self._kept is not None:
            self._after = last
        self._calls += 1
        return last

    def end(self) -> None:
        """The block is over. Raises `Caught` for what the audits find."""
        block = self.now() - self._begun
        self._timed += block
        if self._calls:
            self._known.append(block / self._calls)
            self._block = self._calls
        kept, after = self._kept, self._after
        self._kept = self._after = None
        if kept is not None:
            self._timing("picked", lambda: self._judge(kept, after))
        if self._block and self._due("unseen"):
            self._timing("unseen", self._ask_anew)
        if self._block and self._due("fresh"):
            self._timing("fresh", self._ask_in_a_block)

    @property
    def complete(self) -> bool:
        """Whether there were as many of each kind as always happen."""
        return all(self._done.count(kind) >= self._first() for kind in KINDS)

    def repeat(self) -> None:
        """A block of calls that is not timed, for audits that the timed ones were too few for."""
        self._repeat(self._block or 1)

    def abandon(self) -> None:
        """Puts the inputs back as they were, wherever an audit was left."""
        if self._before:
            self._write(self._before)
            self._before = []

    def _due(self, kind: str) -> bool:
        done = self._done.count(kind)
        turn = len(KINDS) * done <= len(self._done)  # no kind uses up the time of another
        # A block of its own is as long as a timed one.
        cost = self._known[-1] * self._block if kind == "fresh" else 0.0
        return done < self._first() or (turn and self._spent + cost < SHARE * self._timed)

    def _first(self) -> int:
        return 1 if self._known and self._known[-1] * self._block > LONG_BLOCK_SECONDS else FIRST

    def _timing(self, kind: str, work: Callable[[], None]) -> None:
        begin = self.now()
        try:
            work()
        finally:
            self._done.append(kind)
            self._spent += self.now() - begin

    def _judge(self, kept: Tensors, after: Tensors | None) -> None:
        if reason := disowned(kept[0], self.inputs):
            raise Caught(f"in a timed call: {reason}")
        if after is not None and type(after[0]) is torch.Tensor and shares_memory(kept[0], after[0]):
            raise Caught(REUSED)
        verdict = self.judge(kept)
        if not verdict.correct:
            raise Caught(f"in a timed call: {verdict.reason}", verdict)

    def _ask_in_a_block(self) -> None:
        self._before = before = self._copies()
        self._fresh = [_moved(old, self.draw) for old in before]
        self._pick, self._calls, self._kept = self.draw.randrange(self._block), 0, None
        try:
            self._repeat(self._block)
            kept = self._taken()
            if reason := disowned(kept[0], self.inputs):
                raise Caught(f"in a timed call: {reason}")
            for ours, theirs in zip(kept, self.work(), strict=True):
                if not _alike(ours, theirs):
                    raise Caught("in a timed call: another answer than right after it, to the same values")
        finally:
            self._fresh, self._pick = [], -1
            self.abandon()

    def _taken(self) -> Tensors:
        kept, self._kept, self._after = self._kept, None, None
        assert kept is not None
        return kept

    def _repeat(self, calls: int) -> None:
        if self.sample is not None:
            self.sample(calls)
            return
        for _ in range(calls):
            self.call()

    def _ask_anew(self) -> None:
        seen = self.work()[0]
        unseen, again, different = self._unseen_call()
        if shares_memory(seen, unseen) or shares_memory(seen, again):
            raise Caught(REUSED)
        if different and torch.equal(seen, unseen) and len(seen.unique()) > 1:
            raise Caught("answers from memory: other values in its inputs get the very same output")
        if len(self._unseen) < self._first() or not self._suspect():
            return
        for _ in range(ASKED_AGAIN):  # another process may have had the core each time so far
            self._unseen_call()
            if not self._suspect():
                return
        raise Caught(
            f"answers from memory: a call takes {min(*self._again, statistics.median(self._known)):.3g} s on inputs "
            f"that it has seen, {min(self._unseen):.3g} s on others"
        )

    def _suspect(self) -> bool:
        unseen = min(self._unseen) - UNSEEN_SECONDS
        in_blocks = TIMES_AS_LONG_AS_IN_BLOCKS * statistics.median(self._known)
        return unseen > min(TIMES_AS_LONG_AS_AGAIN * min(self._again), in_blocks)

    def _unseen_call(self) -> tuple[torch.Tensor, torch.Tensor, bool]:
        """The outputs for values that nobody has seen and for the inputs' own, and whether these are others."""
        self._before = before = self._copies()
        moved = [_moved(old, self.draw) for old in before]
        try:
            output, seconds = self._timed_call(moved)
            self._unseen.append(seconds)
            again, seconds = self._timed_call(before)
            self._again.append(seconds)
        finally:
            self.abandon()
        return output, again, not all(map(torch.equal, before, moved))

    def _timed_call(self, values: Sequence[torch.Tensor]) -> tuple[torch.Tensor, float]:
        self._write(values)
        begin = self.now()
        output = self.work()[0]
        return output, self.now() - begin

    def _copies(self) -> list[torch.Tensor]:
        return [value.detach().clone() for value in self.inputs]

    def _write(self, values: Sequence[torch.Tensor]) -> None:
        with torch.no_grad():
            for place, value in zip(self.inputs, values, strict=True):
                place.copy_(value)


def _alike(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Whether two answers of the same code are one but for the order in which threads add."""
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return False
    scale = float(theirs.abs().max()) if theirs.numel() else 0.0
    near = scale * torch.finfo(theirs.dtype).eps ** 0.5
    return torch.allclose(ours, theirs, rtol=0.0, atol=near, equal_nan=True)


def _moved(values: torch.Tensor, draw: random.Random) -> torch.Tensor:
    """The same values in another order: as likely as the first, and seen by nobody."""
    flat = values.flatten()
    if flat.numel() < 2:
        return values + 1
    if flat.numel() <= FEW:  # few shifts: a memory would soon know them all
        order = list(range(flat.numel()))
        draw.shuffle(order)
        return flat[order].reshape(values.shape)
    return flat.roll(draw.randrange(1, flat.numel())).reshape(values.shape)
