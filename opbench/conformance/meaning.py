"""What an argument means by its name: `in_planes` and `c1` are channels that come in, `kernel_h` is a kernel's height.

Names are compared in lower case without underscores.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from opbench import constructors


def plain(name: str) -> str:
    """Lower case, without underscores."""
    return name.lower().replace("_", "")


def _with(known: Iterable[str], *more: str) -> frozenset[str]:
    """What constructors are known to call it, and what else people do."""
    return frozenset((*map(plain, known), *more))


_ALIKE = {words[0]: words for words in constructors.ALIKE}
# fmt: off
CHANNELS_IN = _with(
    (*constructors.CHANNELS, *constructors.CHANNELS_IN),
    "ch", "channel", "cin", "chin", "inchs", "inchannels", "inputchannel", "inputchannels", "inplane", "inputdim",
    "inputdims", "infeatures", "indims", "dims", "embeddim", "dmodel", "nchannels", "numchannels", "nfeat", "nfeats",
    "nf", "numfeatures", "features", "feat", "planes", "width", "din", "nin", "channelin", "channelsin", "chanin",
    "infilters",
)
CHANNELS_OUT = _with(
    constructors.CHANNELS_OUT,
    "cout", "chout", "outchs", "outputchannel", "outputchannels", "outplane", "outdims", "outputdim", "outfeatures",
    "dout", "nout", "channelout", "channelsout", "chanout", "outputch", "outfilters", "embedout",
)
MEANINGS: Mapping[str, frozenset[str]] = {
    "channels": CHANNELS_IN,
    "channels out": CHANNELS_OUT,
    "kernel": _with(
        _ALIKE["kernel_size"],
        "ks", "ksize", "kernel", "kernels", "kup", "upkernel", "upkernelsize", "kernelup", "windowsize", "window",
        "reassemblykernel", "kreassembly",
    ),
    "encoder kernel": frozenset([
        "kenc", "kencoder", "encoderkernel", "encoderkernelsize", "kernelenc", "kernelencoder", "enckernel", "kcomp",
    ]),
    "scale": _with(
        _ALIKE["scale_factor"],
        "s", "scales", "upfactor", "upscale", "upscalefactor", "upsamplefactor", "upsamplescale", "upsample", "factor",
        "ratio", "upratio", "delta", "up",
    ),
    "groups": _with(
        _ALIKE["groups"],
        "ngroups", "ngroup", "numgroups", "numgroup", "groupsize", "upgroup", "upgroups", "deformgroup",
        "deformgroups", "deformablegroups", "offsetgroups", "heads", "numheads",
    ),
    "middle channels": frozenset([
        "cmid", "midchannels", "midchannel", "compressedchannels", "compressedchannel", "cm", "hidden",
        "hiddenchannels", "middlechannels", "compresschannels", "squeezechannels",
    ]),
    "stride": _with(_ALIKE["stride"], "strides"),
    "dilation": _with(_ALIKE["dilation"], "dilations", "dilate", "dilationrate"),
    "padding": _with(_ALIKE["padding"], "pad", "paddings", "autopad"),
    "offset scale": frozenset(["offsetscale", "scaleoffset", "offsetfactor", "scale", "dcnoffsetscale"]),
    "without center": frozenset(["removecenter", "withoutcenter", "nocenter", "removecentre"]),
    "channels of a group": frozenset(["groupchannels", "groupchannel", "channelspergroup", "groupwidth", "cg"]),
}
_SIDES = (("h", "w"), ("height", "width"), ("y", "x"), ("0", "1"))
# fmt: on


def meanings(name: str) -> frozenset[str]:
    """What a name may mean: `s` a scale or a stride."""
    return frozenset(meaning for meaning, names in MEANINGS.items() if plain(name) in names)


def matched(own: Iterable[str], settings: Collection[str]) -> dict[str, str]:
    """By setting, the argument of one's own that means it. Nothing where two of either might be meant."""
    names = list(own)
    found: dict[str, str] = {}
    for name in names:
        if name in settings:
            continue
        meant = [one for one in settings if meanings(one) & meanings(name)]
        exact = [one for one in meant if plain(one) == plain(name)]
        meant = exact or meant
        if len(meant) == 1 and meant[0] not in names:
            # The first of several arguments: `inplanes` come in, `planes` go out.
            found.setdefault(meant[0], name)
    return found


def sides(own: Collection[str], option: str) -> tuple[str, str] | None:
    """The two arguments that are an option's height and width, as `kernel_h` and `kernel_w` are kernel_size's."""
    for high, wide in _SIDES:
        for name in own:
            if not plain(name).endswith(high):
                continue
            stem = plain(name).removesuffix(high)
            if not (stem == plain(option) or meanings(stem) & meanings(option)):
                continue
            other = next((one for one in own if plain(one) == stem + wide), None)
            if other is not None and other != name:
                return name, other
    return None
