"""What a check found: for people, what is wrong and how to see it again; for machines, the same as JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from opbench.conformance.findings import BAD, Conformance, Counterexample, Result, Unsupported, Values
from opbench.documents import encode, header
from opbench.report.escape import visible

# The command that repeats a check: the whole of it, or one relation (named) in one dtype (named).
Repeat = Callable[[str, str], str]

# Of this many failing relations the inputs are shown; of the others, what was expected and got.
SHOWN_IN_FULL = 4


def as_json(conformance: Conformance) -> str:
    """The whole outcome, with what people read first made explicit."""
    document = {
        **header(conformance),
        "conformant": conformance.conformant,
        "relations": len(conformance.relations),
        "failing": conformance.failing,
        "examples": conformance.examples,
        "worst_ratio": conformance.worst_ratio,
        "worst_ratios": conformance.worst_ratios,
        **msgspec.to_builtins(conformance),
    }
    return msgspec.json.format(encode(document), indent=2).decode()


def lines(conformance: Conformance, repeat: Repeat) -> list[str]:
    """The outcome for a terminal or a log; nothing that the target says is obeyed by it."""
    request = conformance.request
    text = [f"{request.target} as {conformance.judged_as}, on {request.device}, seed {request.seed}"]
    text = [conformance.inside, *text] if conformance.inside else text
    if conformance.refused:
        text += ["", f"REFUSES EVERY CALL  {conformance.refused}", f"  reproduce: {repeat('', '')}"]
    for position, (name, *others) in enumerate(_alike(conformance)):
        text += ["", *_failure(conformance, name, repeat, in_full=position < SHOWN_IN_FULL)]
        text += [f"  the same of: {', '.join(others)}"] if others else []
    if conformance.left_out:
        names = ", ".join(conformance.left_out)
        text += ["", f"NOT RUN  {names}: {_first(conformance, conformance.left_out[0]).message}"]
    if not conformance.refused:
        told = [*map(_unsupported, conformance.unsupported), *(f"not checked: {note}" for note in conformance.notes)]
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
        text += ["", *told] if told else []
    return [visible(line) for line in [*text, "", closing(conformance)]]


def closing(conformance: Conformance) -> str:
    """One line: the answer."""
    took = f"{conformance.seconds:.0f} s"
    if conformance.conformant:
        dtypes = dict.fromkeys(result.dtype for result in conformance.results if result.status == "holds")
        return (
            f"conformant: {len(conformance.holding)} relations, {conformance.examples:,} examples, "
            f"in {', '.join(dtypes)} ({took})"
        )
    if conformance.failing:
        left_out = f", {len(conformance.left_out)} were not run" if conformance.left_out else ""
        of = len(conformance.relations)
        return f"NOT conformant: {len(conformance.failing)} of {of} relations fail{left_out} ({took})"
    if conformance.refused:
        return f"NOT conformant: the target refuses every call ({took})"
    return f"NOT conformant: nothing could be checked under what is fixed ({took})"


def _first(conformance: Conformance, name: str) -> Result:
    return next(result for result in conformance.results if result.property == name)


def _alike(conformance: Conformance) -> list[list[str]]:
    """The failing relations, those together of which the same was said: a core that returns None fails them all."""
    groups: dict[str, list[str]] = {}
    for name in conformance.failing:
        message = next(result.message for result in conformance.results if _fails(result, name))
        groups.setdefault(message, []).append(name)
    return list(groups.values())


def _fails(result: Result, name: str) -> bool:
    return result.property == name and result.status in BAD


def _answers_in(conformance: Conformance, dtype: str) -> bool:
    return any(result.dtype == dtype and result.status in ("holds", "fails") for result in conformance.results)


def _failure(conformance: Conformance, name: str, repeat: Repeat, *, in_full: bool) -> list[str]:
    bad = [result for result in conformance.results if _fails(result, name)]
    first, *others = bad
    also = [result.dtype for result in others]
    text = [
        f"FAILS  {name}, in {first.dtype}" + (f" (also in {', '.join(also)})" if also else ""),
        f"  relation: {first.statement}",
        f"  but: {first.message}",
    ]
    if first.counterexample is not None and in_full:
        text += [f"  {line}" for line in _call(first.counterexample)]
    return [*text, f"  reproduce: {repeat(name, first.dtype)}"]


def _call(call: Counterexample) -> list[str]:
    options = ", ".join(f"{name}={value!r}" for name, value in call.options.items())
    text = [f"with {options}"] if options else []
    # A module's parameters are many, and noise that follows from the seed; a core's tensors are all telling.
    shown = 3 if len(call.tensors) <= 3 else 1
    for name, tensor in list(call.tensors.items())[:shown]:
        text += _tensor(name, tensor)
    if len(call.tensors) > shown:
        text.append(f"and {len(call.tensors) - shown} parameters, drawn from the seed")
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
