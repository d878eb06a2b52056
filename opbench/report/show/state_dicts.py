"""State dicts of anybody: read as data, without running what is in the file and without taking more than it holds.

torch reads sizes off the file before it reads the numbers: a file of some kilobytes may ask for gigabytes, by packed
parts, by a storage that isn't there, or by a tensor that shows one number a billion times. What is refused here is what
`torch.save` doesn't write.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from opbench.errors import said
from opbench.report.escape import visible
from opbench.schema import OpbenchError

EXPECTED = "expected a state dict that torch.save wrote"
# Letters of a reason or a name that are shown.
LONGEST = 300


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict file, by key. Raises `OpbenchError`, one sentence, for any other file."""
    try:
        # Of the file's length even where its numbers are somewhere else: a device has none.
        held = path.stat().st_size
        _uncompressed(path)
        # On "meta" nothing is read and nothing allocated: sizes come first.
        _within(_tensors(path, _loaded(path, "meta")), path, held)
        return _tensors(path, _loaded(path, "cpu"))
    except OpbenchError:
        raise
    except pickle.UnpicklingError:
        # torch's own sentence advises to load it anyway, which would run whatever code the file holds.
        raise OpbenchError(
            f"--weights {path}: {EXPECTED}, and this is none or holds whole objects, as a training checkpoint does: "
            "torch.save(model.state_dict(), FILE) makes one"
        ) from None
    except Exception as error:  # whatever a parser makes of bytes that anybody wrote
        raise OpbenchError(f"--weights {path}: {EXPECTED}: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """An error's first line, inert and bounded; of an operating system's error what it says."""
    told = error.strerror if isinstance(error, OSError) and error.strerror else said(error, LONGEST)
    return visible(told, LONGEST + 60)


def _loaded(path: Path, device: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old formats, which are read all the same
        return torch.load(path, map_location=device, weights_only=True)


def _uncompressed(path: Path) -> None:
    """Refuses compressed parts: torch writes none, and a few bytes may unpack to any number."""
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            return
        with zipfile.ZipFile(file) as parts:
            for part in parts.infolist():
                if part.compress_type != zipfile.ZIP_STORED or part.file_size > part.compress_size:
                    raise OpbenchError(f"--weights {path}: {EXPECTED}, and this has compressed parts")


def _tensors(path: Path, content: Any) -> dict[str, Tensor]:
    """The tensors under their keys; those of a checkpoint's "state_dict" or "model" where it has one."""
    for name in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict):
        raise OpbenchError(f"--weights {path}: expected a state dict, got {type(content).__name__}")
    return {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}


def _within(state: dict[str, Tensor], path: Path, held: int) -> None:
    """Refuses tensors that are no plain numbers in memory, or more of them than the file has room for."""
    asked = 0
    for key, value in state.items():
        if value.layout != torch.strided or value.is_quantized or value.is_complex():
            raise OpbenchError(
                f"--weights {path}: {visible(key, LONGEST)} is no plain tensor of real numbers, and is not read"
            )
        asked += value.numel() * value.element_size()
    if asked > held:
        raise OpbenchError(
            f"--weights {path}: its tensors would take {asked:,} bytes, and the file has {held:,}: not read"
        )
