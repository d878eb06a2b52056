"""What results/ shows is what its run documents say."""

import posixpath
import re
import subprocess
from pathlib import Path

import pytest

from opbench.analyse.standings import standings
from opbench.documents import read
from opbench.report import limits, markdown, selfcheck, study
from opbench.statistics.roofline import roofline

ROOT = Path(__file__).parent.parent
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
PAGES = [*READMES, *sorted((ROOT / "docs").rglob("*.md"))]
# Plain, or gzipped above 1 MB.
RUNS = sorted((ROOT / "results").glob("*/*/run.json*"))
STUDIES = sorted((ROOT / "results").glob("*/*/study.json*"))
SELFCHECKS = sorted((ROOT / "results").glob("*/selfcheck.json*"))
MEGABYTE = 1_000_000


@pytest.fixture
def text_alone(monkeypatch):
    """Reports without pictures and pages, which take most of the time and stand in nothing that is compared here."""
    monkeypatch.setattr("opbench.report.charts.svg", lambda spec: "<svg/>")
    monkeypatch.setattr("opbench.report.page.page", lambda *parts: b"")


@pytest.mark.parametrize("path", RUNS, ids=lambda path: str(path.parent.relative_to(ROOT)))
@pytest.mark.usefixtures("text_alone")
def test_a_reference_run_is_clean_verified_and_has_its_own_report(path):
    run = read(path)
    assert run.environment.commit
    assert run.environment.dirty is False
    assert all(record.verdict.correct and record.final_verdict.correct for record in run.records if record.latencies)
    assert (path.parent / markdown.REPORT).read_bytes() == markdown.report(run)[markdown.REPORT]


@pytest.mark.parametrize("path", RUNS, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_a_row_of_a_reference_run_is_within_its_limit_or_says_that_the_limit_was_too_low(path):
    """Runs before the copy within the caches have a limit for all data that only those beyond them have."""
    run = read(path)
    over = []
    for standing in standings(run):
        for row in standing.rows:
            limit = roofline(run.yardsticks, row.case, row.record.counts if row.record else None)
            latency = row.timing(standing.methods[0] if standing.methods else "").latency
            if limit and latency and latency.median_seconds < limit.seconds:
                over.append(row.case.id)
                assert "limit too low" in limits.fraction(row, standing, run)
    if any(one.name == "copy-cached" for one in run.yardsticks):
        assert over == []


def test_the_promised_reference_runs_exist():
    assert {path.parent.name for path in RUNS} >= {"default", "kernels", "models", "yolov8"}
    assert len(SELFCHECKS) >= 1
    assert len(STUDIES) >= 1


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_a_study_is_whole_and_has_its_own_report(path):
    found = read(path)
    assert found.complete
    assert not found.quick
    assert found.environment.dirty is False
    assert (path.parent / "study.md").read_text(encoding="utf-8") == study.markdown(found)


@pytest.mark.parametrize("path", SELFCHECKS, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_a_selfcheck_has_its_own_report(path):
    assert (path.parent / "selfcheck.md").read_text(encoding="utf-8") == selfcheck.markdown(read(path))


@pytest.fixture(scope="module")
def committed():
    """Paths in results/, relative to the project's root, with their sizes."""
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "results"], capture_output=True, text=True, check=False
    )
    if listed.returncode or not listed.stdout:
        pytest.skip("not a checkout")
    paths = [name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]
    return {name: (ROOT / name).stat().st_size for name in paths}


def linked(pages):
    """What pages link to or show, and what the linked pages of results/ do, relative to the project's root."""
    found, waiting = set(), [str(page.relative_to(ROOT)) for page in pages]
    while waiting:
        page = waiting.pop()
        for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8")):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
            if path.startswith("results/") and path not in found:
                found.add(path)
                waiting += [path] if path.endswith(".md") and (ROOT / path).exists() else []
    return found


def test_results_hold_documents_and_what_pages_link_to_and_nothing_else(committed):
    """What is generated from a document and shown nowhere is not committed; `NAME.jsonl.gz` are the rows of NAME.md."""
    shown = linked(PAGES)
    others = [name for name in committed if name not in shown and name.removesuffix(".jsonl.gz") + ".md" not in shown]
    for name in others:
        assert re.search(r"\.json(\.gz)?$", name), f"{name}: no page links to it and it is no document"
        read(ROOT / name)


def test_the_pages_of_results_link_to_what_is_committed(committed):
    missing = {path for path in linked(PAGES) if not (ROOT / path).is_dir()} - committed.keys()
    assert not missing


def test_results_are_small(committed):
    assert sum(committed.values()) < 16 * MEGABYTE
    assert [name for name, size in committed.items() if name.endswith(".json") and size > MEGABYTE] == []
