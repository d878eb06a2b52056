"""What takes a place in a model: CARAFE's and DCNv3's modules, any operator that competes there, or a user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from torch import nn

from opbench import registry
from opbench.models.sites import Site
from opbench.operators.carafe import CARAFE, YoloCARAFE
from opbench.operators.common.choice import Core
from opbench.operators.dcnv3.module import ChannelsFirstDCNv3, DCNv3, DCNV3_YoLo
from opbench.schema import Implementation, OpbenchError, Operator

With: TypeAlias = type[nn.Module] | Callable[[Site], nn.Module] | str
Builder: TypeAlias = Callable[[Site], nn.Module]

# InternImage's width of a group (arXiv 2211.05778, table 1: C' = 16 in T, S and B).
GROUP_CHANNELS = 16


def groups(channels: int) -> int:
    """Into how many groups DCNv3 splits channels: the fewest of at most 16 channels each.

    >>> [groups(channels) for channels in (16, 64, 80, 36)]
    [1, 4, 5, 3]
    """
    return next(channels // width for width in range(min(GROUP_CHANNELS, channels), 0, -1) if channels % width == 0)


def builder(with_: With, implementation: str | Core) -> Builder:
    """Site -> module. Raises OpbenchError for an unknown name, or an implementation that nobody would receive."""
    kind = NAMES.get(with_) if isinstance(with_, str) else with_
    if isinstance(kind, type):
        known = next((base for base in kind.__mro__ if base in BUILDERS), None)
        if known is not None:
            return lambda site: BUILDERS[known](kind, site, implementation)
    if isinstance(with_, str):
        return _of_operator(with_, implementation)
    if implementation != "auto":
        raise OpbenchError(
            f"{getattr(with_, '__name__', with_)}: it takes no implementation, got {implementation!r}: "
            f"choose it inside, as in lambda site: Mine(site.channels, implementation=...)"
        )
    if isinstance(with_, type):
        return lambda site: with_(site.channels)
    if not callable(with_):
        raise OpbenchError(
            f"with_: expected a module class, a function of the site or an operator's name, got {with_!r}"
        )
    return with_


# --- CARAFE, DCNv3 and the blocks around them -------------------------------------------------------------------


def _carafe(kind: type[nn.Module], site: Site, implementation: str | Core) -> nn.Module:
    return kind(site.channels, scale_factor=upsampling(site), implementation=implementation)


def _yolo_carafe(kind: type[nn.Module], site: Site, implementation: str | Core) -> nn.Module:
    return kind(site.channels, scale=upsampling(site), implementation=implementation)


def _dcnv3(kind: type[nn.Module], site: Site, implementation: str | Core) -> nn.Module:
    """Channels first, whatever the class: what stood there was a convolution."""
    if not isinstance(site.module, nn.Conv2d):
        raise site.refused("DCNv3 takes the place of an nn.Conv2d: match the convolution in it, or use DCNV3_YoLo")
    kernel_size, dilation = window(site)
    return (ChannelsFirstDCNv3 if kind is DCNv3 else kind)(
        site.channels,
        kernel_size=kernel_size,
        pad=dilation * (kernel_size - 1) // 2,
        dilation=dilation,
        group=groups(site.channels),
        implementation=implementation,
    )


def _yolo_dcnv3(kind: type[nn.Module], site: Site, implementation: str | Core) -> nn.Module:
    """In the place of an nn.Conv2d or of a block around one; the channels may differ."""
    kernel_size, dilation = window(site)
    ouc = site.out_channels
    return kind(site.in_channels, ouc, k=kernel_size, g=groups(ouc), d=dilation, implementation=implementation)


BUILDERS: Mapping[type[nn.Module], Callable[[type[nn.Module], Site, str | Core], nn.Module]] = {
    CARAFE: _carafe,
    YoloCARAFE: _yolo_carafe,
    DCNv3: _dcnv3,
    DCNV3_YoLo: _yolo_dcnv3,
}
# The names under which they compete.
NAMES: Mapping[str, type[nn.Module]] = {
    "carafe": CARAFE,
    "yolo-carafe": YoloCARAFE,
    "dcnv3": DCNv3,
    "yolo-dcnv3": DCNV3_YoLo,
}


# --- Any other operator that competes in the place --------------------------------------------------------------

TASKS = ("upsample2x", "conv3x3")


def operators() -> dict[str, Operator]:
    """What competes for the place of an upsampler or of a 3x3 convolution, by name."""
    return {name: operator for task in TASKS for name, operator in registry.operators(task).items()}


def _of_operator(name: str, implementation: str | Core) -> Builder:
    known = operators()
    if name not in known:
        raise OpbenchError(registry.nearest("operator", name, known))
    operator = known[name]
    if implementation != "auto" and implementation not in operator.implementations:
        raise OpbenchError(
            f"{name}: {registry.nearest('implementation', str(implementation), operator.implementations)}"
        )

    def build(site: Site) -> nn.Module:
        if operator.task == "upsample2x" and upsampling(site) != 2:
            raise site.refused(f"{name} upsamples by 2, the module there by {upsampling(site)}")
        if operator.task == "conv3x3" and window(site) != (3, 1):
            raise site.refused(f"{name} has a 3x3 window without dilation, got (k, d) = {window(site)}")
        channels = site.channels
        N, _, H, W = site.calls[0].shape_in
        task = registry.tasks()[operator.task]
        dims = operator.given({**task.defaults, "N": N, "C": channels, "H": H, "W": W})
        dims = {**dims, "G": groups(channels)} if operator.task == "conv3x3" else dims
        reason = operator.requires(dims)
        if reason is not None:
            raise site.refused(reason)
        try:
            return operator.module(dims, resolved(operator, str(implementation), site.calls[0].device.type))
        except OpbenchError as error:
            raise site.refused(str(error)) from error

    return build


def resolved(operator: Operator, implementation: str, device: str) -> Implementation:
    """The implementation that a name stands for on a device type; "auto" is what the operator's own modules take.

    Raises OpbenchError where it is unknown or can't run.
    """
    table = operator.implementations
    if implementation not in ("auto", *table):
        raise OpbenchError(f"{operator.name}: {registry.nearest('implementation', implementation, table)}")
    order = [table[name] for name in operator.preferred if name in table] or list(table.values())
    among = order if implementation == "auto" else table.values()
    able = [one for one in among if device in one.devices and one.missing() is None]
    chosen = next((one for one in able if implementation in ("auto", one.name)), None)
    if chosen is None:
        why = table[implementation].missing() if implementation in table else None
        raise OpbenchError(f"{operator.name}[{implementation}] doesn't run on {device} here{f': {why}' if why else ''}")
    return chosen


# --- What stood there -------------------------------------------------------------------------------------------


def upsampling(site: Site) -> int:
    """The whole number by which the module upsamples. Raises OpbenchError where it does something else."""
    module = site.module
    if isinstance(module, nn.Upsample) and module.size is not None:
        raise site.refused(f"it has size={module.size}, whatever comes in: expected scale_factor")
    scale = site.scale
    if isinstance(module, nn.Upsample):
        given = module.scale_factor if isinstance(module.scale_factor, tuple) else (module.scale_factor,)
        if any(factor != scale for factor in given):
            raise site.refused(f"expected a scale_factor that is a whole number, got {module.scale_factor}")
    return scale


def window(site: Site) -> tuple[int, int]:
    """(kernel_size, dilation) of the module's one convolution. Raises OpbenchError unless it mixes a square window.

    Ungrouped, of odd size 3 or more, stride 1, padded with zeros so that the size stays.
    """
    convolutions = [module for module in site.module.modules() if isinstance(module, nn.Conv2d)]
    if len(convolutions) != 1:
        raise site.refused(f"expected an nn.Conv2d, or a block with one inside, got {len(convolutions)}")
    convolution = convolutions[0]
    reason = unfit(convolution)
    if reason is not None:
        raise site.refused(reason)
    return int(convolution.kernel_size[0]), int(convolution.dilation[0])


def unfit(convolution: nn.Conv2d) -> str | None:
    """Why a convolution's window can't become a deformable one, or None."""
    (k, k_x), (d, d_x) = convolution.kernel_size, convolution.dilation
    stride, padding = convolution.stride, convolution.padding
    same = d * (k - 1) // 2
    if convolution.groups != 1:
        return f"it is grouped: expected groups=1, got groups={convolution.groups}"
    if k != k_x or d != d_x:
        return f"expected a square window, got kernel_size={convolution.kernel_size}, dilation={convolution.dilation}"
    if k % 2 == 0 or k < 3:
        return f"expected an odd kernel_size of at least 3, got {k}"
    if stride != (1, 1):
        return f"it changes the size: expected stride 1, got {stride}"
    if padding != "same" and padding != (same, same):
        return f"it changes the size: expected padding {same} for kernel_size={k}, dilation={d}, got {padding}"
    if convolution.padding_mode != "zeros":
        return f"expected padding with zeros, got padding_mode={convolution.padding_mode!r}"
    return None
