"""NVIDIA's checkers on the Triton kernels: no access out of bounds, nothing read before it is written, no race."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.gpu

SCRIPT = Path(__file__).with_name("small_calls.py")
FOUND = 9  # the exit code that is asked for where something is found


@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
def test_the_checker_finds_nothing(tool):
    checker = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if checker is None:
        pytest.skip("compute-sanitizer (of the CUDA toolkit) is not on PATH")
    ran = subprocess.run(
        [checker, f"--tool={tool}", f"--error-exitcode={FOUND}", sys.executable, str(SCRIPT)],
        # Without the caching allocator every tensor has bounds of its own that can be overstepped.
        env=os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
    assert "ERROR SUMMARY: 0 errors" in ran.stdout or "0 hazards displayed" in ran.stdout
