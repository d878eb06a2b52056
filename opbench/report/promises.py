"""What a check without an operator found: the verdict in a sentence, then each broken promise, then what is kept."""

from __future__ import annotations

import msgspec

from opbench.conformance.promises.findings import PromiseResult, Promises
from opbench.documents import encode, header
from opbench.report.escape import visible

LONGEST_LINE = 400


def promises_json(found: Promises) -> str:
    """The whole outcome, with what people read first made explicit."""
    document = {
        **header(found),
        "verdict": found.verdict,
        "conclusion": conclusion(found),
        "wrong": [one.promise for one in found.wrong],
        "fragile": [one.promise for one in found.fragile],
        **msgspec.to_builtins(found),
    }
    return msgspec.json.format(encode(document), indent=2).decode()


def conclusion(found: Promises) -> str:
    """The verdict in one sentence."""
    name = found.request.target.rpartition(":")[2]
    if found.wrong:
        first, *others = found.wrong
        more = f", and breaks {len(others)} more of what every module promises" if others else ""
        return visible(f"wrong: {name} {first.message}{more}", LONGEST_LINE)
    if found.verdict == "not judged":
        left = [one for one in found.promises if one.status == "not-run"]
        why = f"{len(left)} of its promises were not tried: {left[0].message}" if left else "none could be tried"
        return visible(f"not judged: of {name}, {why}", LONGEST_LINE)
    if found.fragile:
        broken = ", ".join(one.promise for one in found.fragile)
        return f"right, but fragile: {name} does nothing that is wrong in every module, but breaks {broken}"
    return f"right: {name} keeps what every module promises"


def promise_lines(found: Promises, repeat: str) -> list[str]:
    """The outcome for a terminal or a log; nothing that the target says is obeyed by it."""
    text = [conclusion(found), f"  judged: {found.constructed}"]
    if found.shapes:
        text[-1] += f", at inputs of {', '.join(f'{shape}' for shape in found.shapes)}"
    for one in (*found.wrong, *found.fragile):
        text += ["", *_broken(one)]
    if found.wrong or found.fragile:
        text += ["", f"reproduce: {repeat}"]
    told = [f"note: {note}" for note in found.notes]
    told += [
        f"not tried: {one.promise}: {one.message}" for one in found.promises if one.status in ("not-run", "unsupported")
    ]
    text += ["", *told] if told else []
    if found.kept:
        text += ["", f"kept ({found.seconds:.0f} s): {', '.join(one.promise for one in found.kept)}"]
    return [visible(line, LONGEST_LINE) if line else "" for line in text]


def _broken(one: PromiseResult) -> list[str]:
    text = [f"{one.tier.upper()}  {one.promise}: {one.message}", f"  promised: {one.statement}"]
    if one.shape is not None:
        text.append(f"  smallest input: {one.shape}")
    if one.where is not None:
        text.append(f"  line {one.where.line}: {one.where.text}")
    return [*text, f"  what to do: {one.advice}"]
