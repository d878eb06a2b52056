"""The module made from its class: arguments as given, channels guessed by meaning, then the inputs that it accepts."""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from opbench.conformance.meaning import CHANNELS_IN, CHANNELS_OUT, plain
from opbench.conformance.promises import lines
from opbench.conformance.promises.findings import PromiseRequest
from opbench.conformance.promises.promise import LONGEST_SAID
from opbench.conformance.promises.subject import Subject
from opbench.conformance.raised import WHAT_A_TARGET_RAISES
from opbench.conformance.target import TargetName, Value, assignments, load, parse
from opbench.errors import nearest, said
from opbench.schema import OpbenchError

CHANNELS = 64


def built(request: PromiseRequest) -> tuple[Subject, str, tuple[int, ...], list[str]]:
    """The subject without its sizes, the call that constructs it, the channels to try, and what was guessed.

    Raises OpbenchError for a target that is no module, and for one that can't be constructed: it says what to add.
    """
    if request.device == "cuda" and not torch.cuda.is_available():
        raise OpbenchError("--device cuda: there is no CUDA device here")
    target = parse(request.target)
    given = assignments("--arg", request.arguments)
    found = load(target, request.path)
    if isinstance(found, torch.jit.ScriptModule):
        raise OpbenchError(f"target {request.target!r}: a scripted module: name the module that it was scripted from")
    if isinstance(found, nn.Module):
        if given:
            raise OpbenchError(f"--arg: {target.name} is constructed already")
        subject = Subject(target.name, lambda: copy.deepcopy(found), _files(target, type(found)), request.device)
        made, arguments, notes = found, target.name, []
        channels = _channels(request, {}, [])
    elif inspect.isclass(found) and issubclass(found, nn.Module):
        values, guessed, channel_names = _arguments(target, found, given, request.shape.get("C"))
        subject = Subject(target.name, lambda: found(**values), _files(target, found), request.device)
        arguments = f"{target.name}({', '.join(f'{name}={value!r}' for name, value in values.items())})"
        made = _made(target, subject, arguments)
        another = f"--arg {guessed[0].partition('=')[0]}=VALUE" if guessed else ""
        notes = [f"{' and '.join(guessed)}: guessed; give another with {another}"] if guessed else []
        channels = _channels(request, values, channel_names, found)
    else:
        raise OpbenchError(
            f"target {request.target!r}: {target.name} is not a torch.nn.Module: what a function promises "
            "depends on the operator it computes, so name that: add --operator NAME (see `opbench list operators`)"
        )
    subject.seed = request.seed
    hints = () if channels else _hints(made)
    return subject, arguments, tuple(dict.fromkeys((*channels, *hints, *(() if channels else (CHANNELS, 3))))), notes


def _made(target: TargetName, subject: Subject, call: str) -> nn.Module:
    try:
        return subject.make()
    except WHAT_A_TARGET_RAISES as error:
        where = lines.raised_in(error, subject.files)
        at = f" (line {where.line}: {where.text})" if where else ""
        raise OpbenchError(
            f"target {target.text!r}: not judged: {call} raises {said(error, LONGEST_SAID)}{at}; "
            "give its arguments with --arg NAME=VALUE"
        ) from error


def _files(target: TargetName, kind: type) -> tuple[str, ...]:
    files = [target.source] if target.is_file else []
    try:
        own = inspect.getsourcefile(kind)
    except TypeError:
        own = None
    if own and not kind.__module__.startswith("torch."):
        files.append(own)
    return tuple(dict.fromkeys(map(os.path.abspath, files)))


def _arguments(
    target: TargetName, kind: type[nn.Module], given: Mapping[str, Value], C: int | None
) -> tuple[dict[str, Value], list[str], list[str]]:
    """The constructor's arguments, those of them that were guessed, and those that mean the input's channels."""
    try:
        parameters: Mapping[str, inspect.Parameter] = inspect.signature(kind).parameters
    except WHAT_A_TARGET_RAISES:  # a signature may be a property of the target's own
        parameters = {}
    empty, variable = inspect.Parameter.empty, (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    own = {name: one for name, one in parameters.items() if one.kind not in variable}
    takes_any = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    strangers = [name for name in given if name not in own]
    if strangers and not takes_any:
        raise OpbenchError(f"--arg: {nearest(f'argument of {target.name}', strangers[0], own)}")
    takes_in = [name for name in own if plain(name) in CHANNELS_IN]
    # Where `inplanes` come in, `planes` go out.
    takes_in = takes_in[:1] if takes_in else []
    goes_out = [name for name in own if name not in takes_in and plain(name) in CHANNELS_OUT | CHANNELS_IN]
    values: dict[str, Value] = dict(given)
    width = next((values[name] for name in takes_in if name in values), C or _default(own, takes_in) or CHANNELS)
    guessed = []
    for name in [*takes_in, *goes_out]:
        if name not in values and (own[name].default is empty or (C is not None and name in takes_in)):
            values[name] = width
            guessed.append(f"{name}={width}")
    unset = [name for name, one in own.items() if one.default is empty and name not in values]
    if unset:
        options = " ".join(f"--arg {name}=VALUE" for name in unset)
        shown = ", ".join(str(one) for one in own.values())
        raise OpbenchError(
            f"target {target.text!r}: not judged: {target.name}({shown}) needs {', '.join(unset)}: add {options}"
        )
    return {name: values[name] for name in (*own, *strangers) if name in values}, guessed, takes_in


def _default(own: Mapping[str, inspect.Parameter], names: list[str]) -> int | None:
    return next((own[name].default for name in names if type(own[name].default) is int), None)


def _channels(
    request: PromiseRequest, values: Mapping[str, Value], names: list[str], kind: Callable[..., Any] | None = None
) -> tuple[int, ...]:
    """The channels of the input, where something says them."""
    if "C" in request.shape:
        return (request.shape["C"],)
    own: Mapping[str, inspect.Parameter] = inspect.signature(kind).parameters if kind and names else {}
    found = [values[name] if name in values else own[name].default for name in names]
    return tuple(one for one in found if type(one) is int)


def _hints(module: nn.Module) -> tuple[int, ...]:
    """The channels that its first layer takes."""
    for one in module.modules():
        for name in ("in_channels", "num_features", "num_channels", "in_features", "embed_dim"):
            value = getattr(one, name, None)
            if type(value) is int and value > 0:
                return (value,)
    return ()
