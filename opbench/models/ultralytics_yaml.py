"""The write-ups' lines in ultralytics' YAML files: `CARAFE`, `DCNV3_YoLo`, `C2f_DCNv3`, and those of every operator."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from opbench.models.ultralytics_lines import check_wrapper, convolution, fill, upsampler
from opbench.models.ultralytics_names import Line, named
from opbench.models.ultralytics_package import TESTED, import_ultralytics, version
from opbench.schema import OpbenchError

Architecture = dict[str, Any]


def register_ultralytics() -> None:
    """Makes the write-ups' lines parse in ultralytics' YAML files, for every operator that has a class.

        - [-1, 1, CARAFE, []]                        # or [k_enc, k_up, c_mid, scale]: YoloCARAFE after its channels
        - [-1, 1, DySample, [2]]                     # any other upsampler: its class's arguments after the channels
        - [-1, 1, DCNV3_YoLo, [256, 3]]              # [channels, k, s, p, g, d, act], channels as a Conv's
        - [-1, 1, RFAConv, [256, 3, 2]]              # any other operator: channels, then its class's own arguments
        - [-1, 3, C2f_DCNv3, [256, True, 8]]         # a C2f: [channels, shortcut, g, e]; g is the operator's
        - [-1, 3, VoVGSCSP, [256, False]]            # a block: the repeats are its n, scaled by the network's depth
        - [-1, 1, space_to_depth, [1]]               # four times the channels it reads; a Conv follows. Also `SPD`

    Names are matched whatever their case and underscores ("Carafe", "DCNv3_YOLO", "DySample_UP"), and are those of an
    operator's classes and `aliases`; "DCNv3" is the write-up's block, as the module itself is channels last. `C2f_`,
    `C3_`, `C3k2_`, `C2_` and `Bottleneck_` go before any operator of a convolution's place: the second convolution of
    each bottleneck is replaced. An upsampler's line may name the channels that it reads anyway, the scale first, or
    what `nn.Upsample` had. Anything else is refused with the right line. A name that ultralytics has itself
    stays its own.

    The write-ups edit `parse_model`, and their line for CARAFE sets no `c2`, so that layers after it are built for
    the channels of whichever layer came before: right where the line's own input is that layer (f = -1), wrong
    elsewhere. Here nothing is copied or edited. `parse_model` is wrapped, and relies on what every YAML relies on: a
    string among a line's arguments that names a variable of the parser stands for its value (as `nc` does), so that
    a line that keeps its channels reads the parser's own `ch` and `f`, and the parser's default rule gives what follows
    `ch[f]`; others are parsed as the `Conv` or the block whose channel rules they share, and then take their places.

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
    parser = _Parser(original, tasks)
    setattr(tasks, ChannelsRead.__name__, ChannelsRead)
    try:
        _prove(parser)
    except BaseException:
        delattr(tasks, ChannelsRead.__name__)
        raise
    tasks.parse_model = parser


class ChannelsRead(nn.Module):
    """What the parser makes of a line that keeps its channels, until it is replaced: it has read `ch[f]`."""

    def __init__(self, ch: list[int], f: int) -> None:
        super().__init__()
        self.channels = ch[f]


class _Parser:
    """ultralytics' `parse_model(d, ch, verbose)`, for lines that it doesn't know."""

    def __init__(self, original: Any, tasks: Any) -> None:
        self.original = original
        self.tasks = tasks

    def __call__(self, d: Architecture, ch: int, verbose: bool = True) -> tuple[Any, list[int]]:
        """The layers, and the indices of those whose outputs are kept."""
        lines = [list(line) for line in (*d["backbone"], *d["head"])]
        meant = [self._meant(name, arguments) for _, _, name, arguments in lines]
        parsed = [self._parsed_as(line, *written) for line, written in zip(meant, lines, strict=True)]
        depth = len(d["backbone"])
        layers, save = self.original({**d, "backbone": parsed[:depth], "head": parsed[depth:]}, ch, verbose)
        for position, (line, (f, _, name, arguments)) in enumerate(zip(meant, lines, strict=True)):
            if line is not None:
                layers[position] = self._take_over(line, layers[position], arguments, d)
                layers[position].f = f  # what stood in for it may have read the layer several times
                if verbose:
                    said = f"layer {position}: {name} takes the place of the {parsed[position][2]} listed above, "
                    import_ultralytics("ultralytics.utils").LOGGER.info(f"{said}{layers[position].np} parameters")
        return layers, save

    def _meant(self, name: str, arguments: list[Any]) -> Line | None:
        """None for a name of the package's own, and for one that nobody knows."""
        return None if name.startswith(("nn.", "torchvision.")) or hasattr(self.tasks, name) else named(name, arguments)

    def _parsed_as(self, line: Line | None, f: Any, n: int, name: str, arguments: list[Any]) -> list[Any]:
        """The line of a layer that has the same rule for channels."""
        if line is None:
            return [f, n, name, list(arguments)]
        if not isinstance(f, int):
            raise OpbenchError(f"{name}: expected one layer to read from, as in [-1, 1, {name}, []], got {f}")
        if line.keeps_channels:
            return [f, n, ChannelsRead.__name__, ["ch", "f"]]
        if line.multiplies > 1:
            if n != 1:
                raise OpbenchError(f"{name}: expected it once, as in [{f}, 1, {name}, [1]], got {n} times")
            return [[f] * line.multiplies, 1, "Concat", [1]]  # whose channels are added up
        if not arguments or isinstance(arguments[0], bool) or not isinstance(arguments[0], int):
            raise OpbenchError(f"{name}, {arguments}: expected the channels it makes first, as in {name}, [256]")
        if line.wrapper:
            return [f, n, line.wrapper, check_wrapper(line, getattr(self.tasks, line.wrapper), arguments)[0]]
        return [f, n, "C2f" if line.repeats else "Conv", arguments[:1]]

    def _take_over(self, line: Line, stand_in: Any, arguments: list[Any], d: Architecture) -> nn.Module:
        """The layer that was meant, of the stand-in's channels; n > 1 has made a sequence of them."""
        new: Any
        if isinstance(stand_in, nn.Sequential):
            new = nn.Sequential(*(self._take_over(line, one, arguments, d) for one in stand_in))
        elif line.keeps_channels:
            new = upsampler(line, stand_in.channels, self._scaled(arguments, d), arguments)
        elif line.multiplies > 1:
            new = line.kind()
        elif line.repeats:
            c1, c2 = stand_in.cv1.conv.in_channels, stand_in.cv2.conv.out_channels
            new = convolution(line, c1, c2, arguments[1:], len(stand_in.m))
        elif line.wrapper:
            new = stand_in
            fill(line, new, check_wrapper(line, getattr(self.tasks, line.wrapper), arguments)[1])
        else:
            new = convolution(line, stand_in.conv.in_channels, stand_in.conv.out_channels, arguments[1:])
        for attribute in vars(stand_in).keys() & {"i", "f"}:
            setattr(new, attribute, getattr(stand_in, attribute))
        new.np = sum(parameter.numel() for parameter in new.parameters())
        new.type = line.name
        module: nn.Module = new
        return module

    def _scaled(self, arguments: list[Any], d: Architecture) -> int | None:
        """Channels that a line names, as wide as the network is."""
        if not arguments or isinstance(arguments[0], bool) or not isinstance(arguments[0], int):
            return None
        width, most = d.get("width_multiple", 1.0), float("inf")
        if scales := d.get("scales"):
            _, width, most = scales[d.get("scale") or next(iter(scales))]
        found: int = self.tasks.make_divisible(min(arguments[0], most) * width, 8)
        return found


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
