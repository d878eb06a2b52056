"""TARGET -> a model: an import path, a name in a file, or one of ultralytics' YAML files."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from opbench.conformance.target import assignments, load, parse
from opbench.errors import said
from opbench.models.selecting import network
from opbench.models.ultralytics_package import import_ultralytics
from opbench.models.ultralytics_yaml import register_ultralytics
from opbench.schema import OpbenchError


def load_model(text: str, arguments: Sequence[str] = (), seed: int = 0) -> nn.Module:
    """The network that TARGET names, its parameters drawn from the seed.

    `package.module:name` and `file.py:name` stand for a model, or for what makes one when called with `arguments`
    (`NAME=VALUE`); `yolov8n.yaml` for ultralytics' own or a file of that format, in which the write-ups' lines parse.
    Raises OpbenchError for whatever stands in the way, with the line that raised.
    """
    torch.manual_seed(seed)
    if text.endswith((".yaml", ".yml")):
        return _from_yaml(text)
    if text.endswith(".pt"):
        raise OpbenchError(f"target {text!r}: weights are a program's own code and aren't run: name the .yaml instead")
    target = parse(text)
    try:
        found = load(target)
    except OpbenchError as error:
        raise OpbenchError(f"{error}{_where(error.__cause__, target.source)}") from error
    if not isinstance(found, nn.Module):
        options: dict[str, Any] = dict(assignments("--arg", arguments))
        try:
            found = found(**options)
        except (Exception, SystemExit) as error:  # the target may raise anything, and leave
            raise OpbenchError(
                f"target {text!r}: calling it raised {said(error)}{_where(error, target.source)}"
            ) from error
    if not isinstance(found, nn.Module):
        raise OpbenchError(
            f"target {text!r}: expected a torch.nn.Module or what returns one, got {type(found).__name__}"
        )
    return network(found)


def _where(error: BaseException | None, source: str) -> str:
    """The innermost line of the target's own that was running when the error was raised."""
    if error is None:
        return ""
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return f" ({error.filename}, line {error.lineno}: {(error.text or '').strip()})"
    frames = traceback.extract_tb(error.__traceback__)
    name = Path(source).name if source.endswith(".py") else f"{source.rpartition('.')[2]}.py"
    own = [frame for frame in frames if Path(frame.filename).name == name]
    return f" ({own[-1].filename}, line {own[-1].lineno}: {own[-1].line})" if own else ""


def _from_yaml(text: str) -> nn.Module:
    if "://" in text:
        raise OpbenchError(f"target {text!r}: expected a file or a name that ultralytics ships, not an address")
    try:
        register_ultralytics()
    except OpbenchError as error:
        raise OpbenchError(
            f"target {text!r}: {error}; without it there is opbench.models.plain_yolov8:yolov8n, of the same layers"
        ) from error
    try:
        found = _loaded(text)
    except OpbenchError:
        raise
    except Exception as error:  # its parser raises what it meets: KeyError, TypeError, FileNotFoundError
        raise OpbenchError(f"target {text!r}: ultralytics can't build it: {said(error)}") from error
    return network(found)


def _loaded(text: str) -> Any:
    """By the class that ultralytics has for it. Its YOLO routes weights of RT-DETR, and refuses their YAML files."""
    described = import_ultralytics("ultralytics.nn.tasks").yaml_model_load(text)
    if described["head"][-1][2] == "RTDETRDecoder":
        return import_ultralytics("ultralytics.models.rtdetr.model").RTDETR(text)
    return import_ultralytics("ultralytics.models.yolo.model").YOLO(text, verbose=False)
