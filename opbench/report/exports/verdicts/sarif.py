"""SARIF 2.1.0: a result for each finding, for GitHub's code scanning and other readers of findings.

GitHub takes no result without a file. Where none is known, that of the waivers stands for it: what was meant is said
there. `partialFingerprints` tie a finding to the same one of the next run.

Sources: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html;
https://docs.github.com/en/code-security/code-scanning/integrating-with-code-scanning/sarif-support-for-code-scanning
"""

from __future__ import annotations

import hashlib
import posixpath
import urllib.parse
from typing import Any

import opbench
from opbench.analyse.compare.waivers import NAME as WAIVERS
from opbench.report.exports.rows import as_json
from opbench.report.exports.verdicts.nouns import ExportedFinding, FilePlace, JudgedCase, Judgement, Rule

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
VERSION = "2.1.0"
# GitHub shows so many results of a run, and refuses a file with five times as many.
MOST_RESULTS = 5_000


def sarif(found: Judgement) -> bytes:
    """The log of one judgement, errors first; beyond `MOST_RESULTS` it says how many there are."""
    findings = found.findings[:MOST_RESULTS]
    rules: dict[str, tuple[int, ExportedFinding]] = {}
    for _, finding in findings:
        rules.setdefault(finding.rule.id, (len(rules), finding))
    more = len(found.findings) - len(findings)
    run: dict[str, Any] = {
        "tool": {
            "driver": {
                "name": "opbench",
                "version": opbench.__version__,
                "semanticVersion": opbench.__version__,
                "rules": [_rule(finding.rule, finding.level) for _, finding in rules.values()],
            }
        },
        "automationDetails": {"id": f"{found.label}/"},
        "columnKind": "unicodeCodePoints",
        "results": [_result(case, finding, rules[finding.rule.id][0]) for case, finding in findings],
        "properties": {"title": found.title, "answer": found.answer, **({"more": more} if more else {})},
    }
    return as_json({"$schema": SCHEMA, "version": VERSION, "runs": [run]})


def _rule(rule: Rule, level: str) -> dict[str, Any]:
    return {
        "id": rule.id,
        "name": "".join(part.capitalize() for part in rule.id.replace("/", " ").replace("-", " ").split()),
        "shortDescription": {"text": rule.statement or rule.id},
        "fullDescription": {"text": rule.statement or rule.id},
        "help": {"text": rule.advice or rule.statement or rule.id},
        "defaultConfiguration": {"level": level},
    }


def _result(case: JudgedCase, finding: ExportedFinding, rule: int) -> dict[str, Any]:
    print_ = hashlib.sha256(f"{finding.rule.id}\n{case.group}\n{case.name}".encode("utf-8", "backslashreplace"))
    return {
        "ruleId": finding.rule.id,
        "ruleIndex": rule,
        "level": finding.level,
        "message": {"text": finding.message or finding.rule.id},
        "locations": [
            {
                "physicalLocation": _physical(finding.place),
                "logicalLocations": [{"fullyQualifiedName": f"{case.group}: {case.name}"}],
            }
        ],
        "partialFingerprints": {"opbench/v1": print_.hexdigest()},
    }


def _physical(place: FilePlace) -> dict[str, Any]:
    return {
        "artifactLocation": {"uri": address(place.file or WAIVERS)},
        "region": {"startLine": place.line},
    }


def address(path: str) -> str:
    """A path as a URI: relative to the repository as it is, an absolute one as `file:`.

    >>> address("my ops/carafe.py"), address("/src/a.py"), address("./a.py")
    ('my%20ops/carafe.py', 'file:///src/a.py', 'a.py')
    """
    quoted = urllib.parse.quote(posixpath.normpath(path), errors="backslashreplace")
    return f"file://{quoted}" if quoted.startswith("/") else quoted
