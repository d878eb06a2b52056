"""The renderer of charts ends the process where it may map too little memory: it is said, and costs the charts."""

import os
import subprocess
import sys

import pytest
from factory import example_records, make_run

from opbench.documents import save
from opbench.report import charts
from opbench.schema import OpbenchError

pytest.importorskip("vl_convert", reason="vl-convert-python is not installed")

LIMIT = 2 << 30


def limited():
    import resource  # Unix alone has it

    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems don't keep to this limit")
def test_a_report_under_a_limit_of_memory_has_no_charts_and_says_why(tmp_path):
    save(make_run(example_records()), tmp_path / "run.json")
    command = [sys.executable, "-m", "opbench", "report", str(tmp_path / "run.json"), "-o", str(tmp_path / "out")]
    done = subprocess.run(
        command, capture_output=True, text=True, preexec_fn=limited, check=False, timeout=120,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = (tmp_path / "out" / "report.md").read_text()
    assert "Without charts: vl-convert-python " in said
    assert "GiB of memory can be mapped here." in said


def test_what_is_nothing_but_charts_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setattr(charts, "_dies", lambda: "vl-convert-python died with SIGABRT")
    with pytest.raises(OpbenchError, match=r"^no chart can be drawn: vl-convert-python died with SIGABRT here"):
        charts.svg({})
