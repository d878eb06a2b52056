"""The `ultralytics` package, imported when it is needed: it is an extra, and takes liberties on import."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from opbench.schema import OpbenchError

# The version that this was written and tested with.
TESTED = "8.4.190"


def import_ultralytics(name: str = "ultralytics") -> Any:
    """A module of the package, imported without asking the network; OpbenchError with what to install where absent."""
    if sys.modules.get(name) is not None:
        return sys.modules[name]
    try:
        # Its classes hold tensors, made as they are imported: under a default device of "meta" they would stay there
        # for the rest of the process.
        with _offline(), torch.device("cpu"):
            return importlib.import_module(name)
    except ImportError as error:
        raise OpbenchError(
            f"ultralytics can't be imported ({error}): install it with pip install 'opbench[ultralytics]' "
            "(it is AGPL-3.0)"
        ) from error


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Without the liberties it takes on import.

    It resolves two hosts, sets variables that child processes would inherit, filters warnings, and on a new machine
    says on stdout, where a document may be under way, that it wrote a file of settings.
    """
    before = dict(os.environ)
    os.environ["YOLO_OFFLINE"] = "1"
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def version() -> str:
    """Of the package that is installed."""
    return str(import_ultralytics().__version__)
