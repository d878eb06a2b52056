"""What a check found: the verdict in a sentence, the smallest input that shows it, then the rest; the same as JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from opbench.conformance.findings import BAD, Conformance, Counterexample, Result, Unsupported, Values
from opbench.documents import encode, header
from opbench.plural import counted
from opbench.report.escape import visible

# The command that repeats a check: the whole of it, or one relation (named) in some dtypes (named).
Repeat = Callable[[str, tuple[str, ...]], str]

# Of this many groups of failures the inputs are shown; of the others, what was expected and got.
SHOWN_IN_FULL = 4
# How a message begins that says which numbers differ.
_NUMBERS = ("output", "gradient")
_AGAINST_THE_DEFINITION = ("definition", "definition-gradients", "evaluation", "training")
# So many relations are named that were not run, or had fewer examples than planned.
SHOWN_NAMES = 12
# A line may quote the target.
LONGEST_SENTENCE = 400


def as_json(conformance: Conformance) -> str:
    """The whole outcome, with what people read first made explicit."""
    document = {
        **header(conformance),
        "verdict": conformance.verdict,
        "conclusion": conclusion(conformance),
        "conformant": conformance.conformant,
        "relations": len(conformance.relations),
        "failing": conformance.failing,
        "wrong": conformance.wrong,
        "fragile": conformance.fragile,
        "inside": conformance.inside,
        "examples": conformance.examples,
        "worst_ratio": conformance.worst_ratio,
        "worst_ratios": conformance.worst_ratios,
        **msgspec.to_builtins(conformance),
    }
    return msgspec.json.format(encode(document), indent=2).decode()


def conclusion(conformance: Conformance) -> str:
    """The verdict in one sentence."""
    name, operator = conformance.request.target.rpartition(":")[2], conformance.judged_as.partition(" (")[0]
    groups = _groups(conformance)
    computes = conformance.inside or f"{name} computes {operator}"
    match conformance.verdict:
        case "wrong" if conformance.inside and conformance.inside in groups[0][0].message:
            text = f"wrong: {conformance.inside}"
        case "wrong":
            worst = groups[0][0]
            text = f"wrong: {name} does not compute {operator}: {worst.message}"
        case "fragile":
            causes = list(dict.fromkeys(group[0].cause for group in groups if group[0].cause))
            broken = [name for group in groups if not group[0].cause for name in _names(group)]
            causes += [f"breaks {', '.join(broken)}"] if broken else []
            text = f"right, but fragile: {computes}; it {'; it '.join(causes)}"
        case "right":
            text = f"right: {computes}"
        case _:
            text = f"not judged: {name}: {_why_not(conformance)}"
    return visible(text, LONGEST_SENTENCE)


def _why_not(conformance: Conformance) -> str:
    if conformance.refused:
        return f"it refuses every call: {conformance.refused}"
    if conformance.left_out:
        why = _first(conformance, conformance.left_out[0]).message
        return f"{len(conformance.left_out)} of {len(conformance.relations)} relations were not run: {why}"
    if conformance.attempts and not any(one.fits for one in conformance.attempts):
        return "; ".join(f"by {one.name}: {one.said}" for one in conformance.attempts)
    return "nothing could be checked under what is fixed"


def lines(conformance: Conformance, repeat: Repeat) -> list[str]:
    """The outcome for a terminal or a log; nothing that the target says is obeyed by it."""
    text = [conclusion(conformance)]
    if conformance.refused:
        text += ["", f"REFUSES EVERY CALL  {conformance.refused}", f"  reproduce: {repeat('', ())}"]
    for position, group in enumerate(_groups(conformance)):
        text += ["", *_failure(conformance, group, repeat, in_full=position < SHOWN_IN_FULL)]
    if conformance.left_out:
        names = _some(conformance.left_out)
        text += ["", f"NOT RUN  {names}: {_first(conformance, conformance.left_out[0]).message}"]
    told = [] if conformance.refused else _told(conformance)
    text += ["", *told] if told else []
    return [visible(line) for line in [*text, "", closing(conformance)]]


def _told(conformance: Conformance) -> list[str]:
    """What was refused, left out, and how far what was not finished got."""
    told = [f"attempt: {one.name}: {one.said}" for one in conformance.attempts]
    told += [*map(_unsupported, conformance.unsupported), *(f"not checked: {note}" for note in conformance.notes)]
    told += [
        f"not checked: {result.property} in {result.dtype}: the target refuses its every call: {result.message}"
        for result in conformance.results
        if result.status == "unsupported" and _answers_in(conformance, result.dtype)
    ]
    told += [
        f"not checked: {name}: {_first(conformance, name).message}"
        for name in conformance.relations
        if all(r.status == "silent" for r in conformance.results if r.property == name)
    ]
    told += [
        f"{result.property} in {result.dtype}: {result.message}"
        for result in conformance.results
        if result.status == "holds" and result.message
    ]
    cut = [
        f"{result.property} in {result.dtype} ({result.examples} of {result.examples + result.cut})"
        for result in conformance.results
        if result.cut
    ]
    if not cut:
        return told
    return [*told, f"fewer examples than planned, as the time was over: {_some(cut)}"]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN_NAMES} more (--json lists them)" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more


def closing(conformance: Conformance) -> str:
    """One line: what was tried."""
    counts = {"hold": conformance.holding, "fail": conformance.wrong, "break what is fragile": conformance.fragile}
    told = [f"{len(names)} {what}" for what, names in counts.items() if names] or ["0 hold"]
    if conformance.left_out:
        told.append(f"{len(conformance.left_out)} were not run")
    dtypes = dict.fromkeys(result.dtype for result in conformance.results if result.examples)
    request = conformance.request
    return (
        f"{conformance.judged_as} on {request.device}, seed {request.seed}: of {len(conformance.relations)} relations "
        f"{', '.join(told)}; {conformance.examples:,} examples in {', '.join(dtypes) or 'no dtype'} "
        f"({conformance.seconds:.0f} s)"
    )


def _first(conformance: Conformance, name: str) -> Result:
    return next(result for result in conformance.results if result.property == name)


def _groups(conformance: Conformance) -> list[list[Result]]:
    """The failures, together those of one cause: the same wrong output shows in fifty relations. What is wrong first.

    Of each group the one that tells most comes first: against the definition, and on the smallest input.
    """
    bad = [result for result in conformance.results if result.status in BAD]
    wrong = {_symptom(result) for result in bad if result.tier == "wrong"}
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in bad:
        symptom = _symptom(result)
        # Where ordinary outputs are wrong, that others are wrong says nothing new.
        tier = "wrong" if symptom in wrong and not result.cause else result.tier
        # Each fragile one says something else about the target.
        apart = tier == "fragile" and not result.cause
        groups.setdefault((tier, result.property if apart else symptom), []).append(result)
    wrong_first = sorted(groups.items(), key=lambda item: item[0][0] != "wrong")
    return [sorted(group, key=_telling) for _, group in wrong_first]


def _symptom(result: Result) -> str:
    """What failures with one cause have in common."""
    if result.cause:
        return result.cause
    message = result.message.removeprefix("smallest failing call ")
    if message != result.message:
        message = message.partition(": ")[2]
    if message.startswith("raised "):
        return re.sub(r" \([^()]*, line \d+\)$", "", message)
    return next((start for start in _NUMBERS if message.startswith(start) and "expected" in message), result.message)


def _telling(result: Result) -> tuple[bool, bool, int]:
    return result.tier == "fragile", result.property not in _AGAINST_THE_DEFINITION, _size(result)


def _size(result: Result) -> int:
    call = result.counterexample
    return 0 if call is None else sum(math.prod(tensor.shape) for tensor in call.tensors.values())


def _names(group: list[Result]) -> list[str]:
    return list(dict.fromkeys(result.property for result in group))


def _answers_in(conformance: Conformance, dtype: str) -> bool:
    return any(result.dtype == dtype and result.status in ("holds", "fails") for result in conformance.results)


def _failure(conformance: Conformance, group: list[Result], repeat: Repeat, *, in_full: bool) -> list[str]:
    first = group[0]
    also = [result.dtype for result in group[1:] if result.property == first.property]
    others = [name for name in _names(group) if name != first.property]
    title = "FAILS" if first.tier == "wrong" else "FRAGILE"
    text = [
        f"{title}  {first.property}, in {first.dtype}" + (f" (also in {', '.join(also)})" if also else ""),
        *([f"  cause: {first.cause}"] if first.cause else []),
        f"  relation: {first.statement}",
        f"  but: {first.message}",
    ]
    if first.counterexample is not None and in_full:
        text += [f"  {line}" for line in call_lines(first.counterexample)]
    # How many examples a dtype gets depends on which comes first.
    foremost = next(result.dtype for result in conformance.results)
    text.append(f"  reproduce: {repeat(first.property, tuple(dict.fromkeys((foremost, first.dtype))))}")
    return [*text, f"  the same of: {', '.join(others)}"] if others else text


def call_lines(call: Counterexample) -> list[str]:
    """A call for people to read: its options, then its tensors row by row."""
    options = ", ".join(f"{name}={value!r}" for name, value in call.options.items())
    text = [f"with {options}"] if options else []
    # A module's parameters are many, and noise that follows from the seed; a core's tensors are all telling.
    shown = 3 if len(call.tensors) <= 3 else 1
    for name, tensor in list(call.tensors.items())[:shown]:
        text += _tensor(name, tensor)
    if len(call.tensors) > shown:
        text.append(f"and {counted(len(call.tensors) - shown, 'parameter')}, drawn from the seed")
    return text


def _tensor(name: str, tensor: Values) -> list[str]:
    about = f"{name} {tensor.shape} {tensor.dtype}"
    if not _is_contiguous(tensor):
        about += f", strides {tensor.stride}"
    if tensor.values is None:
        return [about]
    if not tensor.shape:
        return [f"{about} = {_number(tensor.values)}"]
    rows = [(f"{name}[{index}]", row) for index, row in _rows(tensor.values, [])]
    if len(rows) == 1:
        return [f"{about} = {rows[0][1]}"]
    telling = [(where, row) for where, row in rows if set(row) - set("[0, ]")]
    if not telling:
        return [f"{about}, all 0"]
    rest = [] if len(telling) == len(rows) else ["  and 0 elsewhere"]
    return [f"{about}:", *(f"  {where} = {row}" for where, row in telling), *rest]


def _rows(values: Any, index: list[int]) -> list[tuple[str, str]]:
    """The innermost rows of nested lists, each with where it is."""
    if not values:
        return [(", ".join(map(str, index)), "[]")]
    if not isinstance(values[0], list):
        return [(", ".join(map(str, index)), f"[{', '.join(map(_number, values))}]")]
    return [row for position, inner in enumerate(values) for row in _rows(inner, [*index, position])]


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"


def _is_contiguous(tensor: Values) -> bool:
    step = 1
    for size, stride in zip(reversed(tensor.shape), reversed(tensor.stride), strict=True):
        if size > 1 and stride != step:
            return False
        step *= size
    return True


def _unsupported(refused: Unsupported) -> str:
    values = (f"{name} = {' or '.join(map(_value, sorted(v, key=str)))}" for name, v in refused.options.items())
    return f"unsupported: {', '.join(values) or 'some calls'}: {refused.message}"


def _value(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
