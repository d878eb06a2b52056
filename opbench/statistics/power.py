"""What a selfcheck says: how often identical code is called changed, how often a slow-down is found, and how small one.

Each trial is judged alone, as if it were the only row: correction over rows only lowers the false alarms. The same
trials are counted for the rivals that timed them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Iterator, Sequence

import msgspec

from opbench.plural import counted
from opbench.schema import Selfcheck, Trial
from opbench.statistics.change import Allowance, Decision, decide, detectable, p_value
from opbench.statistics.layout import floors
from opbench.statistics.shifts import LEAST_CLEAN, Shift, log_ratios, median_shift, shift

OURS = "opbench"


class Share(msgspec.Struct, frozen=True):
    """So many of so many. `low` and `high`: the exact (Clopper-Pearson) 95 % interval of the rate."""

    hits: int
    of: int

    @property
    def rate(self) -> float:
        """NaN where nothing was counted."""
        return self.hits / self.of if self.of else math.nan

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        from scipy.special import betaincinv

        return float(betaincinv(self.hits, self.of - self.hits + 1, 0.025)) if self.hits else 0.0

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        from scipy.special import betaincinv

        return float(betaincinv(self.hits + 1, self.of - self.hits, 0.975)) if self.hits < self.of else 1.0


class Power(msgspec.Struct, frozen=True):
    """One method's shares for one planted effect. `loaded` None: all trials; else those with or without the load.

    `called` is regressed, or for identical code regressed or improved; `undecided` are neither called nor the same.
    """

    method: str
    effect: float
    loaded: bool | None
    called: Share
    undecided: Share
    median_seconds: float


class Sensitivity(msgspec.Struct, frozen=True):
    """The smallest slow-down found 9 times in 10, as a share: by the median trial and by nine trials in ten."""

    median: float
    most: float


class Quote(msgspec.Struct, frozen=True):
    """What a verdict says of the machine it was taken on."""

    sentence: str
    allowance: Allowance | None


def powers(selfcheck: Selfcheck, minimum_effect: float) -> list[Power]:
    """Every method, effect and state of load that was tried; our own first, identical code first."""
    trials = [trial for trial in selfcheck.trials if trial.effect is not None]
    judged = {id(trial): decision(trial, minimum_effect) for trial in trials}
    methods: dict[str, Callable[[Trial], Decision | None]] = {OURS: lambda trial: judged[id(trial)]}
    for name in dict.fromkeys(called.method for trial in trials for called in trial.rivals):
        methods[name] = lambda trial, name=name: _rival(trial, name)  # type: ignore[misc]
    found = []
    for effect in sorted({trial.effect for trial in trials if trial.effect is not None}):
        for loaded in (None, False, True):
            chosen = [trial for trial in trials if trial.effect == effect and loaded in (None, trial.loaded)]
            for name, verdict in methods.items():
                words = [(word, trial) for trial in chosen if (word := verdict(trial)) is not None]
                if words:
                    found.append(_power(name, effect, loaded, words))
    return found


def decision(trial: Trial, minimum_effect: float) -> Decision:
    """The verdict on one trial, alone. One that was disturbed nearly throughout says nothing."""
    if disturbed(trial):
        return "undecided"
    minimum = math.log1p(minimum_effect)
    found = shift_of(trial)
    return decide(found, p_value(found, minimum), minimum)


def disturbed(trial: Trial) -> bool:
    """Whether too few of its rounds stayed clean for a figure."""
    rounds = len(trial.first_nanoseconds)
    clean = rounds - len(trial.interrupted)
    return clean < LEAST_CLEAN and 2 * clean < rounds


def shift_of(trial: Trial) -> Shift:
    """Where the trial's rounds lie: log(second / first)."""
    return shift(_rounds(trial))


def _rounds(trial: Trial) -> list[float]:
    return log_ratios(trial.first_nanoseconds, trial.second_nanoseconds, trial.interrupted)


def _power(name: str, effect: float, loaded: bool | None, words: Sequence[tuple[Decision, Trial]]) -> Power:
    bad: Collection[str] = ("regressed",) if effect else ("regressed", "improved")
    seconds = [_seconds(trial, name) for _, trial in words]
    return Power(
        method=name,
        effect=effect,
        loaded=loaded,
        called=Share(sum(word in bad for word, _ in words), len(words)),
        undecided=Share(sum(word == "undecided" for word, _ in words), len(words)),
        median_seconds=statistics.median(seconds),
    )


def _rival(trial: Trial, name: str) -> Decision | None:
    return next((called.verdict for called in trial.rivals if called.method == name), None)


def _seconds(trial: Trial, name: str) -> float:
    return next((called.seconds for called in trial.rivals if called.method == name), trial.seconds)


def sensitivity(selfcheck: Selfcheck, minimum_effect: float, loaded: bool) -> Sensitivity | None:
    """From the errors of the trials of identical code; None where none was taken."""
    chosen = [
        trial for trial in selfcheck.trials if trial.effect == 0 and trial.loaded == loaded and not disturbed(trial)
    ]
    if not chosen:
        return None
    each = sorted(detectable(shift_of(trial), math.log1p(minimum_effect)) for trial in chosen)
    return Sensitivity(statistics.median(each), each[math.ceil(0.9 * len(each)) - 1])


def allowance(selfcheck: Selfcheck) -> Allowance | None:
    """How far the ratio of two different contenders moves from process to process; None below two replicas.

    What a process cannot know of itself and the errors within it together: rather too wide than too narrow.
    """
    replicas: dict[str, list[float]] = {}
    for trial in selfcheck.trials:
        if trial.effect is None and not trial.loaded and not disturbed(trial):
            replicas.setdefault(trial.contender, []).append(median_shift(_rounds(trial)).value)
    groups = [values for values in replicas.values() if len(values) > 1]
    freedom = sum(len(values) - 1 for values in groups)
    if not freedom:
        return None
    squares = sum((len(values) - 1) * statistics.variance(values) for values in groups)
    deviation = math.sqrt(squares / freedom)
    return Allowance(deviation, float(freedom), f"measured by the selfcheck of {selfcheck.started[:10]}")


def quote(selfcheck: Selfcheck, minimum_effect: float) -> Quote:
    """One sentence for a report, and the allowance for runs of one process."""
    identical = next((p for p in powers(selfcheck, minimum_effect) if p.method == OURS and p.effect == 0), None)
    parts = list(_parts(selfcheck, minimum_effect, identical))
    threads = selfcheck.environment.threads
    return Quote(
        f"Selfcheck of this machine ({selfcheck.started[:10]}, {counted(threads, 'thread')}, side by "
        f"side): {'; '.join(parts)}.",
        allowance(selfcheck),
    )


def _parts(selfcheck: Selfcheck, minimum_effect: float, identical: Power | None) -> Iterator[str]:
    if identical:
        yield f"{identical.called.hits} false alarms in {identical.called.of} comparisons of identical code"
    for power in powers(selfcheck, minimum_effect):
        if power.method == OURS and power.loaded is None and power.effect:
            yield f"{100 * power.effect:g} % slower found in {power.called.hits} of {power.called.of}"
    quiet = sensitivity(selfcheck, minimum_effect, loaded=False)
    if quiet:
        yield f"smallest slow-down found 9 times in 10: {100 * quiet.median:.1f} %"
    moved = [floor.deviation for floor in floors(selfcheck).values()]
    if moved:
        most = f"{100 * max(moved):.2g} %"
        least = f"{100 * min(moved):.2g} %"
        yield f"fresh processes of identical code differ by {most if least == most else f'{least} to {most}'}"
