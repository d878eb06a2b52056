"""Findings in words: the phrases of a language are its file's, and the numbers stand in them as everywhere else."""

from __future__ import annotations

import functools
import math
import tomllib
from collections.abc import Sequence
from importlib import resources
from typing import Any

import msgspec

from opbench.deploy.answer import title
from opbench.errors import nearest
from opbench.quantities import PARAMS
from opbench.report import numbers
from opbench.report.answer.findings import (
    FormatEffect,
    SpokenOperator,
    SpokenSite,
    seconds_of,
)
from opbench.report.escape import visible
from opbench.report.marks import operator_of
from opbench.schema import Case, OpbenchError
from opbench.statistics.ratios import FEWEST_ROUNDS, Ratio

LANGUAGES = ("en", "zh")
# Below a tenth a ratio is read the other way up; from 2 on it is a factor, and no share.
FAST, FACTOR = 0.1, 2.0
# Sites that are named each; of more the range is.
MOST_SITES = 2
NAME_LIMIT = 60


class Language(msgspec.Struct, frozen=True):
    """The phrases of a language by key, with fields in braces; `names` of operators and `swaps` of them in networks."""

    phrases: dict[str, str]
    names: dict[str, str]
    swaps: dict[str, str]
    networks: dict[str, str]

    def say(self, key: str, **fields: object) -> str:
        """A phrase."""
        return self.phrases[key].format(**fields)

    def listed(self, parts: Sequence[str]) -> str:
        """One after the other."""
        return self.phrases["comma"].join(parts)

    def short(self, text: str) -> str:
        """A name from the document, of a length that can be read."""
        return visible(text, NAME_LIMIT)

    # --- sentences ----------------------------------------------------------------------------------------------

    def network(self, one: SpokenOperator) -> str:
        """`In YOLOv8n at 640 here, CARAFE in its upsamplers costs 3 % [0, 7] more time (...), with ... parameters.`"""
        lead = one.lead
        return self.say(
            "network",
            network=self.place(lead.row.case),
            swap=self._swap(one),
            cost=self._cost(lead),
            params=self._params(lead),
            slowest=self._slowest(lead),
            deployed=self._deployed(one),
            elsewhere=self._elsewhere(one.sites[1:]),
            where=self._where(one.case),
        )

    def operator(self, one: SpokenOperator) -> str:
        """`In place of nearest, CARAFE[cpu] takes 57 % [55, 59] less time (... instead of ...) at yolov8n-p5-p4; ...`

        Where the baseline is the operator, too, it is another implementation: that of a core alone.
        """
        named = one.sites if len(one.sites) <= MOST_SITES + 1 else one.sites[:MOST_SITES]
        other = one.lead.standing.panel.baseline
        same = one.baseline == one.case.operator
        return self.say(
            "operator",
            operator=self.name(one.case.operator) + _implementation(named),
            baseline=self.short(other[len(one.baseline) :]) if same else self.name(one.baseline),
            sites=self.phrases["semicolon"].join(
                self.say("site", cost=self._cost(site), site=self._site(site, one)) for site in named
            ),
            deployed=self._deployed(one),
            elsewhere=self._elsewhere(one.sites[len(named) :]),
            where=self._where(one.case),
        )

    def format_effect(self, effect: FormatEffect) -> str:
        """That the baseline is slow as torch lays images out by default, and how its rivals stand where it isn't."""
        case = effect.default.case
        others = [
            self.say(
                "format-other",
                operator=self.name(one.row.case.operator) + _implementation([one]),
                cost=self._cost(one),
            )
            for one in effect.others
        ]
        baseline = self.name(operator_of(effect.default.panel.baseline))
        said = self.say(
            "format",
            baseline=baseline,
            times=numbers.plain(effect.default_seconds / effect.last_seconds, digits=2),
            size="x".join(str(case.dims[axis]) for axis in "CHW" if axis in case.dims),
            slow=numbers.seconds(effect.default_seconds),
            quick=numbers.seconds(effect.last_seconds),
        )
        return said + (self.say("format-others", others=self.listed(others)) if others else self.phrases["stop"])

    # --- parts of them ------------------------------------------------------------------------------------------

    def name(self, operator: str) -> str:
        """An operator as people write it."""
        return self.names.get(operator, self.short(operator))

    def place(self, case: Case) -> str:
        """A network and the size of its image: `YOLOv8n at 640`."""
        height, width = case.dims.get("H"), case.dims.get("W")
        # A workload's name often ends in what its dimensions say.
        stem = case.workload.partition(f"-{height}")[0] if height else case.workload
        size = f"{height}" if height == width else f"{height}x{width}"
        named = self.networks.get(stem, self.short(stem))
        return self.say("place", network=named, size=size) if height and width else named

    def _swap(self, one: SpokenOperator) -> str:
        """What is in the network: the ending that its name has beside the baseline's."""
        name = one.case.operator
        ending = name.removeprefix(f"{one.baseline}-")
        of = _implementation(one.sites[:1])
        phrase = self.swaps.get(name) or self.swaps.get(ending)
        return phrase.format(of=of) if phrase else self.name(ending) + of

    def _where(self, case: Case) -> str:
        """What is not as most people have it: the device, the dtype, the mode."""
        parts = [self.phrases["on-gpu"]] if case.device == "cuda" else []
        parts += [case.dtype] if case.dtype != "float32" else []
        parts += [self.phrases["in-training"]] if case.mode == "training" else []
        return self.say("where", parts=self.listed(parts)) if parts else ""

    def _site(self, site: SpokenSite, one: SpokenOperator) -> str:
        """The workload, and the offset spread where the subject was measured at several."""
        case = site.row.case
        name = self.short(case.workload)
        spreads = {other.row.case.spread for other in one.sites}
        return (
            self.say("spread", site=name, spread=f"{case.spread:g}")
            if len(spreads) > 1 and case.spread is not None
            else name
        )

    def _cost(self, site: SpokenSite) -> str:
        """`costs 3 % [0, 7] more time (142 ms instead of 138 ms)`, or why there is no such figure."""
        found = site.ratio
        if found is None:
            method = site.standing.methods[0] if site.standing.methods else ""
            return self.say("no-figure", why=site.row.timing(method).missing or site.row.outcome)
        ours, theirs = seconds_of(site.standing, site.row), seconds_of(site.standing, site.baseline)
        said = self.ratio(found)
        if ours is None or theirs is None:
            return said
        return said + self.say("seconds", ours=numbers.seconds(ours), theirs=numbers.seconds(theirs))

    def ratio(self, found: Ratio) -> str:
        """A latency over the baseline's, with a verb: more or less time, or so many times."""
        if not all(map(math.isfinite, (found.value, found.low, found.high))) or found.value <= 0 or found.low <= 0:
            return self.say("times", value=numbers.plain(found.value), low=numbers.plain(found.low), high="∞")
        if found.rounds < FEWEST_ROUNDS:
            return self.say("few-rounds", value=numbers.plain(found.value), rounds=found.rounds)
        if found.low <= 1 <= found.high:
            value, low, high = _percent(found, signed=True)
            return self.say("undecided", value=value, low=low, high=high)
        if found.value < FAST:
            ends = (1 / found.value, 1 / found.high, 1 / found.low)
            value, low, high = (numbers.plain(end) for end in ends)
            return self.say("fast", value=value, low=low, high=high)
        if found.value >= FACTOR or found.high >= 10:
            value, low, high = (numbers.plain(end) for end in (found.value, found.low, found.high))
            return self.say("times", value=value, low=low, high=high)
        value, low, high = _percent(found)
        return self.say("more-time" if found.value > 1 else "less-time", value=value, low=low, high=high)

    def _params(self, site: SpokenSite) -> str:
        """By how much the parameters of a network change."""
        before, after = (PARAMS.of(row.record) if row else None for row in (site.baseline, site.row))
        if not before or after is None or after == before:
            return ""
        share = 100 * (after / before - 1)
        key = "more-params" if share > 0 else "less-params"
        return self.say(key, share=f"{abs(share):.1f}")

    def _slowest(self, site: SpokenSite) -> str:
        """The implementation that takes much longer, as a pasted module may."""
        found = site.standing.ratio(site.slowest) if site.slowest else None
        if site.slowest is None or found is None:
            return ""
        return self.say("slowest", implementation=self.short(site.slowest.case.implementation), cost=self.ratio(found))

    def _deployed(self, one: SpokenOperator) -> str:
        """What the leading place costs in other runtimes, each with the graph that is fastest there."""
        parts = [
            self.say(
                "deployed-as" if _implementation([site]) else "deployed-in",
                runtime=self.short(title(site.row.case.runtime)),
                implementation=self.short(site.row.case.implementation),
                cost=self.ratio(site.ratio),
            )
            for site in one.deployed
            if site.ratio is not None
        ]
        return self.say("deployed", parts=self.listed(parts)) if parts else ""

    def _elsewhere(self, sites: Sequence[SpokenSite]) -> str:
        """The range over the places that aren't named."""
        found = [one.ratio for one in sites]
        values = sorted(one.value for one in found if one is not None)
        if not values:
            return ""
        ends = [f"{numbers.plain(value)}x" for value in (values[0], values[-1])]
        if len(values) == 1:
            return self.say("elsewhere-one", value=ends[0])
        return self.say("elsewhere", count=len(values), low=ends[0], high=ends[1])


def _implementation(sites: Sequence[SpokenSite]) -> str:
    """`[cpu]`: which implementation it is, where it is the same everywhere and there is something to tell."""
    first, *others = dict.fromkeys(site.row.case.implementation for site in sites)
    return "" if others or first == "torch" else f"[{visible(first, NAME_LIMIT)}]"


def _percent(found: Ratio, *, signed: bool = False) -> tuple[str, str, str]:
    """A ratio with its ends as a change in percent: `3`, `0`, `7`; less time is told by its amount, as is more."""
    less = found.value < 1 and not signed
    ends = (found.value, found.high, found.low) if less else (found.value, found.low, found.high)
    shares = [100 * ((1 - end) if less else (end - 1)) for end in ends]
    places = 0 if 100 * (found.high - found.low) >= 1 else 1
    sign = "+" if signed else ""
    # Adding 0.0 leaves no minus before a zero.
    value, low, high = (f"{round(share, places) + 0.0:{sign}.{places}f}" for share in shares)
    return value, low, high


@functools.cache
def language(lang: str) -> Language:
    """The phrases of a language. Raises OpbenchError for one that there is no file of."""
    if lang not in LANGUAGES:
        raise OpbenchError(nearest("language", lang, LANGUAGES))
    text = (resources.files(__package__) / f"{lang}.toml").read_text(encoding="utf-8")
    held: dict[str, Any] = tomllib.loads(text)
    return msgspec.convert(held, Language)
