"""The write-ups' lines in ultralytics' YAML files: `CARAFE`, `DCNV3_YoLo`, `C2f_DCNV3`."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from opbench import registry
from opbench.models.replacements import resolved
from opbench.models.ultralytics_package import TESTED, import_ultralytics, version
from opbench.operators.carafe import YoloCARAFE
from opbench.operators.dcnv3.module import DCNV3_YoLo
from opbench.schema import OpbenchError, Operator, Setting

Architecture = dict[str, Any]


def register_ultralytics() -> None:
    """Makes the write-ups' lines parse in ultralytics' YAML files: `CARAFE`, `DCNV3_YoLo` and `C2f_DCNV3`.

        - [-1, 1, CARAFE, []]                        # or [k_enc, k_up, c_mid, scale]: YoloCARAFE after its channels
        - [-1, 1, DCNV3_YoLo, [256, 3]]              # [channels, k, s, p, g, d, act], channels as a Conv's
        - [-1, 3, C2f_DCNV3, [256, True, 8]]         # a C2f: [channels, shortcut, g, e]; g is DCNv3's
        - [-1, 1, DySample, []]                      # any other upsampler of a class: its settings in their order

    The write-ups edit `parse_model`, and their line for CARAFE sets no `c2`, so that layers after it are built for
    the channels of whichever layer came before: right where the line's own input is that layer (f = -1), wrong
    elsewhere. Here nothing is copied or edited. `parse_model` is wrapped, and relies on what every YAML relies on: a
    string among a line's arguments that names a variable of the parser stands for its value (as `nc` does), so that
    CARAFE's class receives the parser's own `ch` and `f` and the parser's default rule gives what follows `ch[f]`;
    `DCNV3_YoLo` and `C2f_DCNV3` are parsed as the `Conv` and the `C2f` whose channel rules they share, and then take
    their places.

    Calling it again changes nothing. A few lines are parsed at once to prove that this version of ultralytics works
    so; OpbenchError where it doesn't, where it has a CARAFE of its own, or where it is not installed.
    """
    tasks = import_ultralytics("ultralytics.nn.tasks")
    original = tasks.parse_model
    if isinstance(original, _Parser):
        return
    if hasattr(tasks, "CARAFE") or hasattr(tasks, "DCNV3_YoLo"):
        raise OpbenchError(
            f"ultralytics {version()} has a CARAFE or DCNV3_YoLo of its own (edited?): reinstall it to use opbench's"
        )
    added = {"CARAFE": CARAFE, **declared()}
    parser = _Parser(original, frozenset(added))
    taken = [name for name in added if hasattr(tasks, name)]
    if taken:
        raise OpbenchError(f"ultralytics {version()} has a {taken[0]} of its own: opbench's can't take its name")
    for name, maker in added.items():
        setattr(tasks, name, maker)
    try:
        _prove(parser)
    except BaseException:
        for name in added:
            delattr(tasks, name)
        raise
    tasks.parse_model = parser


class CARAFE(nn.Module):
    """What the parser calls for a line of that name: `YoloCARAFE` of the channels of the layer it reads."""

    def __new__(cls, ch: list[int], f: int, *settings: int) -> Any:
        """The write-up's module itself, for channels `ch[f]`."""
        return YoloCARAFE(ch[f], *settings)


def declared() -> dict[str, type]:
    """What the parser calls for a line of every other upsampler, by the name of the first class it stands for."""
    found = {}
    for operator in registry.operators("upsample2x").values():
        if operator.classes and operator.classes[0] is not YoloCARAFE and operator.classes[0].__name__ != "CARAFE":
            found[operator.classes[0].__name__] = _maker(operator)
    return found


def _maker(operator: Operator) -> type:
    class Made(nn.Module):
        """The operator's module of the channels of the layer it reads, its settings in their order."""

        def __new__(cls, ch: list[int], f: int, *settings: Setting) -> Any:
            if len(settings) > len(operator.settings):
                raise OpbenchError(
                    f"{cls.__name__}: expected at most {len(operator.settings)} settings, got {settings}"
                )
            own = dict(zip(operator.settings, settings, strict=False))
            dims = operator.given({"N": 1, "C": ch[f], "H": 8, "W": 8, **own})
            reason = operator.requires(dims)
            if reason is not None:
                raise OpbenchError(f"{cls.__name__}: {reason}")
            return operator.module(dims, resolved(operator, "auto", "cpu"))

    Made.__name__ = Made.__qualname__ = operator.classes[0].__name__
    return Made


# Parsed as: a line's own name -> the name of the layer that shares its channel rule.
STAND_INS = {"DCNV3_YoLo": "Conv", "C2f_DCNV3": "C2f"}


class _Parser:
    """ultralytics' `parse_model(d, ch, verbose)`, for lines that it doesn't know."""

    def __init__(self, original: Any, single: frozenset[str]) -> None:
        self.original = original
        # Lines that read one layer and keep its channels.
        self.single = single

    def __call__(self, d: Architecture, ch: int, verbose: bool = True) -> tuple[Any, list[int]]:
        """The layers, and the indices of those whose outputs are kept."""
        lines = [list(line) for line in (*d["backbone"], *d["head"])]
        parsed = [_parsed_as(self.single, *line) for line in lines]
        depth = len(d["backbone"])
        layers, save = self.original({**d, "backbone": parsed[:depth], "head": parsed[depth:]}, ch, verbose)
        for position, (_, _, name, arguments) in enumerate(lines):
            if name in STAND_INS:
                layers[position] = _take_over(name, layers[position], arguments)
                if verbose:
                    said = f"layer {position}: {name} takes the place of the {STAND_INS[name]} listed above, "
                    import_ultralytics("ultralytics.utils").LOGGER.info(f"{said}{layers[position].np} parameters")
        return layers, save


def _parsed_as(single: frozenset[str], f: Any, n: int, name: str, arguments: list[Any]) -> list[Any]:
    if name in single:
        if not isinstance(f, int):
            raise OpbenchError(f"{name}: expected one layer to read from, as in [-1, 1, {name}, []], got {f}")
        return [f, n, name, ["ch", "f", *arguments]]
    if name == "DCNV3_YoLo":
        return [f, n, STAND_INS[name], arguments[:1]]
    return [f, n, STAND_INS.get(name, name), list(arguments)]


def _take_over(name: str, stand_in: Any, arguments: list[Any]) -> nn.Module:
    """The layer that was meant, of the stand-in's channels; n > 1 has made a sequence of them."""
    new: Any
    if isinstance(stand_in, nn.Sequential):
        new = nn.Sequential(*(_take_over(name, one, arguments) for one in stand_in))
    elif name == "C2f_DCNV3":
        new = stand_in
        for bottleneck in stand_in.m:
            convolution = bottleneck.cv2.conv
            bottleneck.cv2 = DCNV3_YoLo(convolution.in_channels, convolution.out_channels, k=3, g=convolution.groups)
    else:
        convolution = stand_in.conv
        settings: list[Any] = [
            None if value == "None" else value for value in arguments[1:]
        ]  # YAML reads None as a word
        new = DCNV3_YoLo(convolution.in_channels, convolution.out_channels, *settings)
    for attribute in vars(stand_in).keys() & {"i", "f"}:
        setattr(new, attribute, getattr(stand_in, attribute))
    new.np = sum(parameter.numel() for parameter in new.parameters())
    new.type = name
    module: nn.Module = new
    return module


def _prove(parser: _Parser) -> None:
    """Parses each kind of line, some reading from earlier layers. Raises OpbenchError if channels don't follow."""
    lines = [
        [-1, 1, "Conv", [8, 1]],
        [-1, 1, "Conv", [16, 1]],
        [0, 1, "CARAFE", [1, 3, 4]],
        [-1, 1, "DCNV3_YoLo", [24, 3]],
        [1, 1, "C2f_DCNV3", [32, True, 2]],
    ]
    try:
        with torch.random.fork_rng([]):
            layers, _ = parser({"nc": 1, "backbone": lines, "head": []}, 3, verbose=False)
        up, block, c2f = layers[2:]
        got = (
            up.c,
            block.conv.conv.in_channels,
            block.dcnv3.channels,
            c2f.cv1.conv.in_channels,
            c2f.m[0].cv2.dcnv3.group,
        )
        fine = got == (8, 8, 24, 16, 2)
        why = f"expected channels (8, 8, 24, 16) and 2 groups, got {got}"
    except Exception as error:  # whatever its parser says
        fine, why = False, f"{type(error).__name__}: {error}"
    if not fine:
        raise OpbenchError(
            f"ultralytics {version()} parses YAML files otherwise than {TESTED}, which this was written for: {why}; "
            f"install that one, or use opbench.models.swap"
        )
