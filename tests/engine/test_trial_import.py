"""A file of `--with` that takes its process down at import costs every command a sentence, and never the command."""

import subprocess
import sys

import pytest

from opbench.engine import trial_import
from opbench.schema import OpbenchError


def test_a_file_that_crashes_is_named_by_a_command_that_would_import_it(tmp_path):
    (tmp_path / "crashes.py").write_text("import os\nos.abort()\n")
    command = [sys.executable, "-m", "opbench", "list", "--with", str(tmp_path / "crashes.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("opbench: --with ")
    assert "crashes.py: importing it: its process died with SIGABRT" in done.stderr


def test_a_file_that_hangs_is_named_after_its_limit(tmp_path, monkeypatch):
    (tmp_path / "hangs.py").write_text("import time\ntime.sleep(1000)\n")
    monkeypatch.setattr(trial_import, "IMPORT_SECONDS", 1.0)
    with pytest.raises(OpbenchError, match=r"hangs\.py: importing it: its process killed after 1 s .*\(the limit"):
        trial_import.try_files([str(tmp_path / "hangs.py")])
