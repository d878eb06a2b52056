"""How long 10,000 records take, printed and not judged: a machine has other things to do."""

import statistics
import time

import pytest
from histories import write_many

from opbench.documents import read
from opbench.report.dashboard.site import write_site
from opbench.report.markdown import report
from opbench.schema import Run

PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


@pytest.mark.nightly
def test_the_first_contentful_answer_of_a_dashboard(chromium, tmp_path, capsys):
    write_many(tmp_path / "results")
    site = write_site(tmp_path / "results", tmp_path / "site").page
    painted, answered = [], []
    for _ in range(5):
        page = chromium.new_context().new_page()
        began = time.perf_counter()
        page.goto(site.as_uri())
        page.wait_for_selector(".glance tr.subject")
        answered.append(time.perf_counter() - began)
        painted.append(page.evaluate(PAINTED) / 1e3)
        page.close()
    with capsys.disabled():
        print(
            f"\ndashboard of 10,000 records, {site.stat().st_size / 2**20:.1f} MiB: first contentful paint after "
            f"{statistics.median(painted):.2f} s, the first row of CARAFE after {statistics.median(answered):.2f} s"
        )


@pytest.mark.nightly
def test_a_report(tmp_path, capsys):
    write_many(tmp_path, runs=1, workloads=250, contenders=20)
    run = read(tmp_path / "000" / "run.json", Run)
    began = time.perf_counter()
    files = report(run)
    took = time.perf_counter() - began
    assert len(run.records) == 10_000
    with capsys.disabled():
        size = sum(map(len, files.values())) / 2**20
        print(f"\nreport of 10,000 records: {took:.1f} s, {len(files)} files, {size:.1f} MiB")
