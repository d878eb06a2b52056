"""The kinds of document, a row each: what it is called, which noun it holds, its version, which command writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pkgutil import resolve_name
from typing import Any

import msgspec

from opbench.documents.checks.flaws import Flaw
from opbench.documents.checks.numbers import large, numbers
from opbench.documents.older import run_of_schema_1
from opbench.errors import OpbenchError
from opbench.schema import SCHEMA_VERSION

# Format history of the study document, of the digest, and of what `check`, `model`, `compare`, `decide`, `claims`
# and `deploy` print with `--json`, of what `on_device.py` writes, and of a bundle and its verification:
#   1  first version; non-finite floats as in the run document: "NaN", "Infinity", "-Infinity"
STUDY_VERSION = 1
DIGEST_VERSION = 1
CONFORMANCE_VERSION = 1
PROMISES_VERSION = 1
MODEL_VERSION = 1
COMPARISON_VERSION = 1
DECISION_VERSION = 1
CLAIMS_VERSION = 1
DEPLOYMENT_VERSION = 1
DEVICE_VERSION = 1
BUNDLE_VERSION = 1
VERIFICATION_VERSION = 1


@dataclass(frozen=True, eq=False)
class DocumentKind:
    """One kind of document. `noun` is "module:class", imported when such a document is read: all are half of opbench.

    `fields` tell a document from before documents named their kind: no other kind has them. `file` is its name in the
    folder that the command writes. `older` makes today's noun of what an earlier version held, by that version. `check`
    is "module:function", which yields what of a document contradicts itself (`opbench.documents.checks`). `depth` is
    how deep lists are laid out a line an item.
    """

    name: str
    noun: str
    version: int
    command: str
    fields: tuple[str, ...]
    file: str = ""
    version_field: str = "schema_version"
    older: Mapping[int, Callable[[Any], Any]] = field(default_factory=dict)
    check: str = ""
    depth: int = 1

    @property
    def described(self) -> str:
        """What belongs there where it is missing."""
        return f"a {self.name} document (`{self.command}` writes one)"

    def type(self) -> type[msgspec.Struct]:
        """The noun's class."""
        found: type[msgspec.Struct] = resolve_name(self.noun)
        return found

    def flaws(self, noun: msgspec.Struct) -> Iterator[Flaw]:
        """What is wrong with a document of this kind beside its types, the numbers first."""
        yield from numbers(noun) if self.check else large(noun)
        if self.check:
            yield from resolve_name(self.check)(noun)


KINDS: dict[str, DocumentKind] = {
    kind.name: kind
    for kind in (
        DocumentKind(
            name="run",
            noun="opbench.schema.recorded:Run",
            version=SCHEMA_VERSION,
            command="opbench run -o DIR",
            fields=("panels", "records"),
            file="run.json",
            older={1: run_of_schema_1},
            check="opbench.documents.checks.runs:flaws",
        ),
        DocumentKind(
            name="selfcheck",
            noun="opbench.schema.trials:Selfcheck",
            version=SCHEMA_VERSION,
            command="opbench selfcheck -o DIR",
            fields=("trials", "precision"),
            file="selfcheck.json",
            check="opbench.documents.checks.selfchecks:flaws",
        ),
        DocumentKind(
            name="study",
            noun="opbench.study.document:StudyDocument",
            version=STUDY_VERSION,
            command="opbench study -o DIR",
            fields=("studies", "quick"),
            file="study.json",
            check="opbench.study.sound:flaws",
            depth=2,
        ),
        DocumentKind(
            name="digest",
            noun="opbench.analyse.history.digest:Digest",
            version=DIGEST_VERSION,
            command="opbench keep",
            fields=("digest_version", "entries"),
            version_field="digest_version",
            check="opbench.analyse.history.sound:flaws",
        ),
        DocumentKind(
            name="conformance",
            noun="opbench.conformance.findings:Conformance",
            version=CONFORMANCE_VERSION,
            command="opbench check --json",
            fields=("judged_as", "results"),
        ),
        DocumentKind(
            name="promises",
            noun="opbench.conformance.promises.findings:Promises",
            version=PROMISES_VERSION,
            command="opbench check --json",
            fields=("constructed", "promises"),
        ),
        DocumentKind(
            name="model",
            noun="opbench.models.costs:Costs",
            version=MODEL_VERSION,
            command="opbench model --json",
            fields=("target", "variants"),
        ),
        DocumentKind(
            name="comparison",
            noun="opbench.analyse.compare.nouns:Comparison",
            version=COMPARISON_VERSION,
            command="opbench compare --json",
            fields=("base", "head", "rows"),
        ),
        DocumentKind(
            name="decision",
            noun="opbench.decision.nouns:NetworkDecision",
            version=DECISION_VERSION,
            command="opbench decide --json",
            fields=("slots", "left_out"),
        ),
        DocumentKind(
            name="deployment",
            noun="opbench.deploy.nouns:Deployment",
            version=DEPLOYMENT_VERSION,
            command="opbench deploy -o DIR",
            fields=("artifacts", "proofs"),
            file="deploy.json",
        ),
        DocumentKind(
            name="device",
            noun="opbench.deploy.nouns:DeviceRun",
            version=DEVICE_VERSION,
            command="python on_device.py",
            fields=("proofs", "system"),
        ),
        DocumentKind(
            name="bundle",
            noun="opbench.contributed.nouns:BundleManifest",
            version=BUNDLE_VERSION,
            command="opbench submit RUN.json",
            fields=("members", "seeds"),
        ),
        DocumentKind(
            name="verification",
            noun="opbench.contributed.nouns:Verification",
            version=VERIFICATION_VERSION,
            command="opbench verify-run --json",
            fields=("signs", "unchecked"),
        ),
        DocumentKind(
            name="claims",
            noun="opbench.analyse.claims.nouns:Answers",
            version=CLAIMS_VERSION,
            command="opbench claims --json",
            fields=("answers",),
        ),
    )
}


def kind_of(noun: type) -> DocumentKind:
    """The row of a noun's class."""
    where = f"{noun.__module__}:{noun.__qualname__}"
    return next(kind for kind in KINDS.values() if kind.noun == where)


def named(name: object) -> DocumentKind:
    """The row of a document's own `kind`."""
    if not isinstance(name, str) or name not in KINDS:
        raise OpbenchError(f"a document of kind {name!r}, which this opbench doesn't know (known: {', '.join(KINDS)})")
    return KINDS[name]
