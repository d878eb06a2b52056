"""What a run, a comparison or a check judges, as one noun. A row of `JUDGES` for each kind of document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from opbench.analyse.compare.nouns import ComparedCase, Comparison
from opbench.conformance.findings import BAD, Conformance, Result, VerdictWord
from opbench.conformance.promises.findings import PromiseResult, Promises
from opbench.exit_codes import OF_OUTCOME, Exit, of_outcomes, of_verdict
from opbench.report import numbers
from opbench.report.conformance import conclusion as concluded
from opbench.report.escape import visible
from opbench.report.exports.rows import ExportedCase, exported
from opbench.report.exports.selection import Selection
from opbench.report.exports.verdicts.nouns import ExportedFinding, FilePlace, JudgedCase, Judgement, Level, Rule, State
from opbench.report.numbers import change
from opbench.report.promises import conclusion as kept
from opbench.schema import Run

# Letters of a message: it may quote a traceback.
LONGEST = 2_000
LONGEST_PATH = 500

# What holds of a case that has none of these outcomes; of those that are bad news.
OUTCOMES: Mapping[str, str] = {
    "incorrect": "Output and gradients are within the error bound of the definition.",
    "miscounted": "Every counter agrees with the closed form of the operator's MACs.",
    "implausible": "A call takes no less than the machine needs to move its bytes and multiply its MACs.",
    "raised": "The contender answers a call of the workload.",
    "crashed": "The contender's process lives.",
    "out-of-memory": "The contender needs no more memory than there is.",
    "timed-out": "The contender answers in time.",
}
# Those that say that the answer is wrong; the others ended without one.
_WRONG = frozenset({"incorrect", "miscounted", "implausible"})
# Of a relation and of a promise.
_FINE = frozenset({"holds", "kept"})


def judged(document: Any, selection: Selection | None = None, at: str = "") -> Judgement:
    """What a document judges, as far as it was selected. `at` is the file of every finding, where it is named."""
    found = JUDGES[type(document)](document, selection or Selection())
    return _placed(found, at) if at else found


def _placed(judgement: Judgement, at: str) -> Judgement:
    """Every finding at one file."""
    place = FilePlace(at)
    return msgspec.structs.replace(
        judgement,
        cases=tuple(
            msgspec.structs.replace(
                case, findings=tuple(msgspec.structs.replace(one, place=place) for one in case.findings)
            )
            for case in judgement.cases
        ),
    )


# --- a run ------------------------------------------------------------------------------------------------------


def _run(run: Run, selection: Selection) -> Judgement:
    found = exported(run, selection)
    extensions = run.settings.extensions
    place = _file(extensions[0] if len(extensions) == 1 else "")
    outcomes = Counter(one.row.outcome for one in found.cases)
    code = of_outcomes(outcomes.elements())
    cases = [_of_record(one, place) for one in found.cases]
    cases += [
        JudgedCase(visible(one.case), visible(one.panel), "skipped", (), _short(one.reason)) for one in found.skipped
    ]
    bad = sum(count for outcome, count in outcomes.items() if OF_OUTCOME[outcome] == Exit.BAD_NEWS)
    measured = outcomes["ok"]
    answer = f"{bad} of {len(found.cases)} failed" if bad else f"{measured} ok" if measured else "not measured"
    label = f"opbench {visible(run.settings.suite, 60)}"
    if len(found.cases) == 1 and not bad:
        label, answer = _of_one(found.cases[0], label, answer)
    title = f"opbench run of suite {visible(run.settings.suite, 200)}"
    return Judgement(
        title, label, answer, code, tuple(cases), started=run.started, machine=visible(run.environment.machine, 200)
    )


def _of_one(one: ExportedCase, label: str, answer: str) -> tuple[str, str]:
    """Label and answer of a badge for a single case: what it costs beside its baseline."""
    ratio = one.row.timings[0].ratio if one.row.timings else None
    if ratio is None or one.row.is_baseline:
        return visible(one.case.contender, 100), answer
    baseline = visible(one.standing.panel.baseline, 100)
    return visible(one.case.contender, 100), f"{numbers.plain(ratio.value)}x the latency of {baseline}"


def _of_record(one: ExportedCase, place: FilePlace) -> JudgedCase:
    outcome, group = one.row.outcome, visible(one.standing.panel.id)
    latency = one.row.timings[0].latency if one.row.timings else None
    if outcome in OUTCOMES:
        state: State = "failed" if outcome in _WRONG else "error"
        said = f"{outcome}: {one.row.message}"
        rule = Rule(f"outcome/{outcome}", OUTCOMES[outcome], "The report of the run says what was seen.")
        return JudgedCase(one.name, group, state, (ExportedFinding(rule, "error", _short(said), place),))
    if OF_OUTCOME[outcome] != Exit.FINE:
        return JudgedCase(one.name, group, "skipped", (), _short(f"{outcome}: {one.row.message}"))
    return JudgedCase(one.name, group, "passed", seconds=latency.median_seconds if latency else 0.0)


# --- a comparison -----------------------------------------------------------------------------------------------


def _comparison(comparison: Comparison, selection: Selection) -> Judgement:
    rows = [row for row in comparison.rows if selection.takes(row.case.id)]
    cases = [_of_row(row) for row in rows]
    for side, names in (("base", comparison.only_in_base), ("head", comparison.only_in_head)):
        reason = f"only in {side}, not compared"
        taken = [visible(name) for name in names if selection.takes(name)]
        cases += [JudgedCase(name, "not compared", "skipped", (), reason) for name in taken]
    bad = sum(row.bad for row in rows)
    code = Exit.BAD_NEWS if bad else Exit.NO_ANSWER if comparison.unanswered else Exit.FINE
    answer = f"{bad} regressed" if bad else "not measured" if comparison.unanswered else "no regression"
    head = comparison.head
    title = f"opbench compare {_commit(comparison.base.commit)} {_commit(head.commit)}"
    return Judgement(title, f"opbench {visible(head.suite, 60)}", answer, code, tuple(cases), started=head.started)


def _commit(commit: str | None) -> str:
    return visible((commit or "no commit")[:12])


def _of_row(row: ComparedCase) -> JudgedCase:
    findings = tuple(_changes(row))
    name, group = visible(row.case.id), visible(row.case.panel_id)
    if findings:
        return JudgedCase(name, group, "failed", findings)
    if row.disturbed and not row.times:
        return JudgedCase(name, group, "skipped", (), _short(f"disturbed: {row.disturbed}"))
    return JudgedCase(name, group, "passed")


def _changes(row: ComparedCase) -> Iterator[ExportedFinding]:
    """What alone fails the gate; see `ComparedCase.bad`."""
    contender, panel = visible(row.case.contender, 200), visible(row.case.panel_id, 400)
    waive = "Where it was meant, opbench-allow.toml or --allow says so."
    for one in row.quantities:
        if one.change != "improved" and not one.allowed:
            rule = Rule(f"{one.change}/{one.name}", f"{one.name} is as it was, or better.", waive)
            said = f"{contender} in {panel}: {one.name} {one.change}, {one.base} -> {one.head}"
            yield ExportedFinding(rule, "error", _short(said), FilePlace())
    for time in row.times:
        if time.decision == "regressed" and not time.allowed:
            rule = Rule("regressed/time", "A call takes no longer than it did.", waive)
            confirmed = f" ({time.confirmation.sentence})" if time.confirmation else ""
            said = f"{contender} in {panel}: time {change(time.ratio, time.low, time.high)}{confirmed}"
            yield ExportedFinding(rule, "error", _short(said), FilePlace())


# --- a check ----------------------------------------------------------------------------------------------------


def _conformance(found: Conformance, selection: Selection) -> Judgement:
    place, strict = _target(found.request.target), found.request.strict
    group = visible(f"{found.request.target} as {found.judged_as}", 300)
    cases = [_of_result(one, group, place, strict) for one in found.results if selection.takes(one.property)]
    if found.refused:
        rule = Rule("check/refused", "The target answers some call.", "opbench check prints what it was called with.")
        said = f"it refuses every call: {found.refused}"
        cases.append(JudgedCase("any call", group, "error", (ExportedFinding(rule, "warning", _short(said), place),)))
    return _of_check(found.verdict, concluded(found), group, tuple(cases), strict)


def _of_result(one: Result, group: str, place: FilePlace, strict: bool) -> JudgedCase:
    name = f"{one.property} in {one.dtype}"
    finding = None
    if one.status in BAD:
        rule = Rule(f"check/{visible(one.property, 80)}", visible(one.statement, LONGEST), "")
        said = _short(f"{name}: {one.status}: {one.cause or one.message}")
        finding = ExportedFinding(rule, _level(one.tier, strict), said, place)
    return _of_tried(one, name, group, finding)


def _promises(found: Promises, selection: Selection) -> Judgement:
    group = visible(f"{found.request.target} as a module", 300)
    target = _target(found.request.target)
    cases = tuple(_of_promise(one, group, target) for one in found.promises if selection.takes(one.promise))
    return _of_check(found.verdict, kept(found), group, cases, strict=False)


def _of_promise(one: PromiseResult, group: str, target: FilePlace) -> JudgedCase:
    finding = None
    if one.status == "broken":
        place = _file(one.where.file, one.where.line) if one.where else target
        rule = Rule(
            f"promise/{visible(one.promise, 80)}", visible(one.statement, LONGEST), visible(one.advice, LONGEST)
        )
        finding = ExportedFinding(rule, _level(one.tier, strict=False), _short(one.message), place)
    return _of_tried(one, one.promise, group, finding)


def _of_tried(one: Result | PromiseResult, name: str, group: str, finding: ExportedFinding | None) -> JudgedCase:
    """A relation or a promise; `finding` is what is wrong with it."""
    name = visible(name, 200)
    if finding:
        state: State = "failed" if finding.level == "error" else "passed"
        return JudgedCase(name, group, state, (finding,), seconds=one.seconds)
    if one.status in _FINE:
        return JudgedCase(name, group, "passed", seconds=one.seconds)
    return JudgedCase(name, group, "skipped", (), _short(f"{one.status}: {one.message}"), one.seconds)


def _of_check(verdict: VerdictWord, said: str, label: str, cases: tuple[JudgedCase, ...], strict: bool) -> Judgement:
    code, warned = of_verdict(verdict, strict), verdict == "fragile"
    return Judgement(f"opbench check: {visible(said, 500)}", label, verdict, code, cases, warned)


def _level(tier: str, strict: bool) -> Level:
    """What is fragile fails nobody's build, unless a strict check was asked for."""
    return "error" if tier == "wrong" or strict else "warning"


def _target(target: str) -> FilePlace:
    """The file of FILE.py:NAME or PACKAGE.MODULE:NAME."""
    where, _, _ = target.rpartition(":")
    if not where or where.endswith((".py", ".onnx")):
        return _file(where)
    return _file(f"{where.replace('.', '/')}.py")


def _file(name: str, line: int = 1) -> FilePlace:
    return FilePlace(visible(name, LONGEST_PATH), max(1, line))


def _short(message: str) -> str:
    return visible(message, LONGEST)


JUDGES: Mapping[type, Callable[[Any, Selection], Judgement]] = {
    Run: _run,
    Comparison: _comparison,
    Conformance: _conformance,
    Promises: _promises,
}
