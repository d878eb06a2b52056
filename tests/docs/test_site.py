"""The site as it is built: strictly, and with nothing in it that a browser would fetch from elsewhere."""

import re
import subprocess
import sys

import pytest
from pages import ROOT, WORDS

pytest.importorskip("mkdocs", reason="mkdocs is not installed")
pytestmark = pytest.mark.pages  # `nox -s docs` builds it anyway


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in folder.rglob("*.html")}


@pytest.mark.slow
def test_no_page_asks_another_server(site):
    for name, text in site.items():
        loaded = re.findall(r'<(?:script|img|iframe)[^>]* src="(https?:[^"]*)"', text)
        loaded += re.findall(r'<link[^>]* rel="(?:stylesheet|preconnect|icon)"[^>]* href="(https?:[^"]*)"', text)
        assert not loaded, name


@pytest.mark.slow
def test_generated_parts_are_there_and_marks_are_gone(site):
    assert "opbench run" in site["reference/commands.html"]
    assert "least_rounds" in site["reference/run-document.html"]
    assert "latency_ratio_low" in site["reference/exports.html"]
    assert "dcnv3_core" in site["reference/operators.html"]
    for name, text in site.items():
        assert "declared:" not in text, name
        assert not re.search(rf"```\w+ (?:{'|'.join(WORDS)})\b", text), name
