"""What `opbench check FILE.onnx` says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from opbench.conformance.artifact import ArtifactJudged, ArtifactRefused
from opbench.conformance.findings import VerdictWord
from opbench.plural import counted
from opbench.schema import Verdict

Found = Sequence[ArtifactJudged | ArtifactRefused]


def verdict_of(found: Found) -> VerdictWord:
    """Wrong if it is at one size; right if it is judged at one, and wrong at none."""
    judged = [one for one in found if isinstance(one, ArtifactJudged)]
    if any(not one.verdict.correct for one in judged):
        return "wrong"
    return "right" if judged else "not judged"


def artifact_lines(target: str, operator: str, found: Found) -> Iterator[str]:
    """The verdict first; then the first size at which it is wrong, or the sizes at which it is right."""
    judged = [one for one in found if isinstance(one, ArtifactJudged)]
    refused = list(dict.fromkeys(one.reason for one in found if isinstance(one, ArtifactRefused)))
    word = verdict_of(found)
    what = f"{operator}'s {judged[0].what}" if judged else operator
    if word == "wrong":
        wrong = next(one for one in judged if not one.verdict.correct)
        yield f"wrong: {target} does not compute {what} in ONNX Runtime"
        yield f"  at {_sizes(wrong.sizes)}, seed {wrong.seed}: {wrong.verdict.reason}"
        sound = sum(one.verdict.correct for one in judged)
        yield f"  {len(judged) - sound} of {counted(len(judged), 'draw')} beyond the error bound"
    elif word == "right":
        worst = max(one.verdict.worst_ratio for one in judged)
        yield f"right: {target} computes {what} in ONNX Runtime"
        yield f"  worst error {worst:.2g} of its bound, float32, CPU provider, at:"
        yield from dict.fromkeys(f"    {_sizes(one.sizes)}" for one in judged)
    else:
        yield f"not judged: {target} is held against {operator}"
    yield from (f"  {'' if word == 'not judged' else 'not judged: '}{reason}" for reason in refused)


def _sizes(sizes: dict[str, int]) -> str:
    return ",".join(f"{name}={size}" for name, size in sizes.items())


class ArtifactFindings(msgspec.Struct, frozen=True):
    """The document of `--json`."""

    kind: str
    target: str
    operator: str
    verdict: VerdictWord
    judged: tuple[tuple[str, dict[str, int], int, Verdict], ...]
    refused: tuple[str, ...]


def artifact_json(target: str, operator: str, found: Found) -> bytes:
    """The findings as one JSON document."""
    return msgspec.json.format(
        msgspec.json.encode(
            ArtifactFindings(
                kind="artifact-check",
                target=target,
                operator=operator,
                verdict=verdict_of(found),
                judged=tuple(
                    (one.what, one.sizes, one.seed, one.verdict) for one in found if isinstance(one, ArtifactJudged)
                ),
                refused=tuple(one.reason for one in found if isinstance(one, ArtifactRefused)),
            )
        )
    )
