"""What results/ shows is what its run documents say."""

from pathlib import Path

import pytest

from opbench.analyse.power import load_selfcheck
from opbench.document import load
from opbench.report import markdown, selfcheck, study
from opbench.study.document import load_study

ROOT = Path(__file__).parent.parent
RUNS = sorted((ROOT / "results").glob("*/*/run.json"))
STUDIES = sorted((ROOT / "results").glob("*/*/study.json"))
SELFCHECKS = sorted((ROOT / "results").glob("*/selfcheck.json"))


@pytest.mark.parametrize("path", RUNS, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_a_reference_run_is_clean_verified_and_has_its_own_report(path):
    run = load(path)
    assert run.environment.commit
    assert run.environment.dirty is False
    assert all(record.verdict.correct and record.final_verdict.correct for record in run.records if record.latencies)
    assert (path.parent / markdown.REPORT).read_bytes() == markdown.report(run)[markdown.REPORT]


def test_the_promised_reference_runs_exist():
    assert {path.parent.name for path in RUNS} >= {"default", "kernels", "models", "yolov8"}
    assert len(SELFCHECKS) >= 1
    assert len(STUDIES) >= 1
    assert list((ROOT / "results").glob("*/dashboard/index.html"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_a_study_is_whole_and_has_its_own_report(path):
    found = load_study(path)
    assert found.complete
    assert not found.quick
    assert found.environment.dirty is False
    assert (path.parent / "study.md").read_text(encoding="utf-8") == study.markdown(found)


@pytest.mark.parametrize("path", SELFCHECKS, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_a_selfcheck_has_its_own_report(path):
    assert (path.parent / "selfcheck.md").read_text(encoding="utf-8") == selfcheck.markdown(load_selfcheck(path))
