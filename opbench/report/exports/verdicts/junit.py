"""JUnit XML: a test suite for each panel, or of a check for the target; a test case for each case, relation or promise.

It keeps to what the schemas of Ant and of Jenkins' xUnit plug-in have in common: a failed case has one `failure`, one
that ended without an answer one `error`; what warns and fails nobody stands in the suite's output. The time of a test
case is the median time of a call, or how long a relation was tried.

Sources: https://github.com/windyroad/JUnit-Schema (Ant); https://github.com/jenkinsci/xunit-plugin (junit-10.xsd)
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from opbench.analyse.history.store import moment
from opbench.report.exports.verdicts.nouns import JudgedCase, Judgement

# What XML 1.0 can't hold, not even as a reference; what else is hidden has been made visible before.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# Ant's schema wants a moment; one that is not known is the first there is.
_UNKNOWN = "1970-01-01T00:00:00"


def junit(found: Judgement) -> bytes:
    """The document of one judgement."""
    groups: dict[str, list[JudgedCase]] = {}
    for case in found.cases:
        groups.setdefault(case.group, []).append(case)
    root = ET.Element("testsuites")
    for at, (name, cases) in enumerate(groups.items()):
        root.append(_suite(found, at, name, cases))
    ET.indent(root, " ")
    body: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return body + b"\n"


def _suite(found: Judgement, at: int, name: str, cases: Sequence[JudgedCase]) -> ET.Element:
    states = [case.state for case in cases]
    suite = ET.Element("testsuite")
    for key, value in {
        "name": name or "opbench",
        "package": "opbench",
        "id": str(at),
        "hostname": found.machine or "localhost",
        "timestamp": _moment(found.started),
        "time": _seconds(sum(case.seconds for case in cases), 3),
        "tests": str(len(cases)),
        "failures": str(states.count("failed")),
        "errors": str(states.count("error")),
        "skipped": str(states.count("skipped")),
    }.items():
        suite.set(key, _text(value))
    ET.SubElement(suite, "properties")
    for case in cases:
        suite.append(_case(case))
    warned = [one.message for case in cases for one in case.findings if one.level == "warning"]
    ET.SubElement(suite, "system-out").text = _text("\n".join([found.title, *(f"fragile: {one}" for one in warned)]))
    ET.SubElement(suite, "system-err").text = ""
    return suite


def _case(case: JudgedCase) -> ET.Element:
    test = ET.Element("testcase")
    for key, value in {"name": case.name, "classname": case.group, "time": _seconds(case.seconds)}.items():
        test.set(key, _text(value))
    if case.state == "skipped":
        ET.SubElement(test, "skipped").set("message", _text(case.reason))
    elif case.state != "passed":
        first = case.findings[0]
        element = ET.SubElement(test, "failure" if case.state == "failed" else "error")
        element.set("type", _text(first.rule.id))
        element.set("message", _text(first.message))
        told = [f"{one.rule.id}: {one.message}\nexpected: {one.rule.statement}" for one in case.findings]
        element.text = _text("\n".join(told))
    return test


def _seconds(value: float, places: int = 9) -> str:
    """A decimal without an exponent, which the schemas don't take; 0 for what is no time."""
    return f"{value if 0 <= value < 1e9 else 0:.{places}f}"


def _moment(started: str) -> str:
    found = moment(started)
    return found.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0") if found else _UNKNOWN


def _text(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
