"""Known issues of runtimes that were not tried here, from `issues.toml`: shown only where a file has the operation."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from opbench.deploy.nouns import ApplyingIssue, ShippedArtifact

PATH = Path(__file__).with_name("issues.toml")


class KnownIssue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the file; `opsets` are the first and the last that it is about."""

    id: str
    runtime: str
    operation: str
    opsets: tuple[int, int]
    sentence: str
    sources: tuple[str, ...]


def known() -> tuple[KnownIssue, ...]:
    """All of them."""
    return msgspec.convert(tomllib.loads(PATH.read_text(encoding="utf-8"))["issue"], tuple[KnownIssue, ...])


def applying(artifacts: Sequence[ShippedArtifact]) -> Iterator[ApplyingIssue]:
    """Those that some of the files would meet."""
    for issue in known():
        first, last = issue.opsets
        files = tuple(one.file for one in artifacts if issue.operation in one.operations and first <= one.opset <= last)
        if files:
            yield ApplyingIssue(issue.id, issue.runtime, issue.sentence, files, issue.sources)
