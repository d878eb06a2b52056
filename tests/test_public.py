"""The public names of opbench: there, light to import, and none of them in the way of a package."""

import importlib.util
import json
import subprocess
import sys

import pytest

import opbench


@pytest.mark.parametrize("name", opbench.__all__)
def test_a_public_name_is_there_and_no_package_s(name):
    assert getattr(opbench, name).__name__ == name
    assert name in dir(opbench)
    assert importlib.util.find_spec(f"opbench.{name}") is None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'opbench' has no attribute 'Operater'"):
        opbench.Operater  # noqa: B018 - the access is what is tested


def test_importing_opbench_loads_nothing_else_and_nouns_load_no_torch():
    script = """
import json, sys
import opbench
alone = [name for name in sys.modules if name.startswith("opbench.") or name in ("torch", "msgspec", "hypothesis")]
opbench.Operator, opbench.Relation, opbench.Drawing, opbench.Constructor, opbench.register_operator
print(json.dumps([alone, [name for name in ("torch", "hypothesis") if name in sys.modules]]))
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == [[], []]
