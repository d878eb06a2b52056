"""What the README shows is what the run documents in results/ say."""

import re
from pathlib import Path

import pytest

from opbench.analyse.power import load_selfcheck
from opbench.document import load
from opbench.report import markdown, readme, selfcheck

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
RUNS = sorted((ROOT / "results").glob("*/*/run.json"))
SELFCHECKS = sorted((ROOT / "results").glob("*/selfcheck.json"))


def test_every_table_is_generated_and_up_to_date():
    text = README.read_text(encoding="utf-8")
    assert readme.names(text)
    assert readme.update(text, lambda name: readme.document(ROOT / name)) == text


def test_every_link_and_picture_exists():
    targets = re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8"))
    missing = [target for target in targets if not target.startswith("http") and not (ROOT / target).exists()]
    assert not missing


@pytest.mark.parametrize("path", RUNS, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_a_reference_run_is_clean_verified_and_has_its_own_report(path):
    run = load(path)
    assert run.environment.commit
    assert run.environment.dirty is False
    assert all(record.verdict.correct and record.final_verdict.correct for record in run.records if record.latencies)
    assert (path.parent / markdown.REPORT).read_bytes() == markdown.report(run)[markdown.REPORT]


def test_the_promised_reference_runs_exist():
    assert {path.parent.name for path in RUNS} >= {"default", "kernels", "yolov8"}
    assert len(SELFCHECKS) >= 1


@pytest.mark.parametrize("path", SELFCHECKS, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_a_selfcheck_has_its_own_report(path):
    assert (path.parent / "selfcheck.md").read_text(encoding="utf-8") == selfcheck.markdown(load_selfcheck(path))
