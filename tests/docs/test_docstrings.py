"""Public functions and modules of the operators say the shapes they take and give."""

import importlib
import inspect
import re

import pytest
from pages import ROOT
from torch import nn

import opbench
from opbench import registry

# (N, C, H, W), (N, g*k*k, s*H, s*W), (n,)
SHAPE = re.compile(r"\([A-Za-z][\w*/+ ]*,(?: ?[\w*/+ -]+)?(?:, ?[\w*/+. -]+)*\)")


def public():
    """(name, object): what the operators' packages offer that computes with tensors, and the project's own API."""
    registry.load()
    folders = sorted((ROOT / "opbench" / "operators").glob("*/__init__.py"))
    packages = [importlib.import_module(f"opbench.operators.{path.parent.name}") for path in folders]
    for package in packages:
        for name in getattr(package, "__all__", ()):
            found = getattr(package, name)
            if not name.startswith("_") and computes(found):
                yield f"{package.__name__}.{name}", found
    for name in getattr(opbench, "__all__", ()):
        found = getattr(opbench, name)
        if callable(found):
            yield f"opbench.{name}", found


def computes(found):
    if inspect.isclass(found):
        return issubclass(found, nn.Module)
    return inspect.isfunction(found) and "Tensor" in str(inspect.signature(found))


def text(found):
    """A module's shapes may stand in its class or in its forward."""
    own = inspect.getdoc(found) or ""
    return own + (inspect.getdoc(found.forward) or "" if computes(found) and inspect.isclass(found) else "")


def place(found):
    path = inspect.getsourcefile(found).removeprefix(f"{ROOT}/")
    return f"{path}:{inspect.getsourcelines(found)[1]}"


PUBLIC = dict(public())


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_docstring_says_what_it_takes(name):
    found = PUBLIC[name]
    assert text(found), f"{place(found)}: {name} has no docstring"
    if name.startswith("opbench.operators."):
        assert SHAPE.search(text(found)), f"{place(found)}: {name}'s docstring names no shape, such as x (N, C, H, W)"


def test_something_is_public():
    assert {"opbench.operators.carafe.carafe", "opbench.operators.dcnv3.DCNv3"} <= set(PUBLIC)


def test_a_docstring_without_its_shapes_is_told_from_one_that_has_them():
    assert SHAPE.search("Upsamples x (N, channels, H, W) to (N, channels, s*H, s*W).")
    assert SHAPE.search("x (n,) and out (n,)")
    assert not SHAPE.search("Upsamples x twice (as the paper does), and returns it.")
    assert not SHAPE.search("A class (or a tuple of them), else nothing.")
