"""Swap layers of any model for CARAFE, DCNv3, a rival or one's own, in place: all that match, or none."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from opbench.errors import said
from opbench.models.replacements import With, builder
from opbench.models.selecting import What, matching, network, nothing, slot_of
from opbench.models.sites import Arguments, Example, Shape, Site, Size, arguments, trace
from opbench.models.ultralytics_block import unfused
from opbench.operators.common.choice import Core
from opbench.schema import OpbenchError

# Hooks by which torch computes a weight from others: they belong to the weight, and go with it.
_OF_THE_WEIGHT = (WeightNorm, SpectralNorm, BasePruningMethod)


@dataclass(frozen=True)
class Change:
    """One module that was swapped: its names (more than one where it is shared), what it was and is, and its shapes.

    Shapes are those of its first call in the shape pass, which called it `calls` times.
    """

    names: tuple[str, ...]
    before: str
    after: str
    shape_in: Shape
    shape_out: Shape
    params_before: int
    params_after: int
    calls: int = 1

    @property
    def name(self) -> str:
        """The first of its names."""
        return self.names[0]

    def __str__(self) -> str:
        """What became of the weights: what was learnt in this place is gone."""
        gone = f"its {self.params_before:,} parameters are gone" if self.params_before else "it had no parameters"
        new = f"the {self.params_after:,} new ones start untrained" if self.params_after else "the new one has none"
        return f"{', '.join(self.names)}: {self.before} -> {self.after}; {gone}, {new}"


def swap(
    model: nn.Module,
    what: What,
    with_: With,
    *,
    where: str | re.Pattern[str] | None = None,
    example: Example | None = None,
    size: Size | None = None,
    implementation: str | Core = "auto",
) -> tuple[Change, ...]:
    """Replaces every module of `model` that matches `what`, (N, C, H, W) in and out, and returns what it changed.

    what: a module class or a tuple of them; the name of a slot (of `SLOTS`: "upsample", ...) or else a glob over dotted
    names ("model.2.*", where * crosses dots); a compiled regular expression, searched in names; or a predicate
    (name, module) -> bool. "conv3x3@bottleneck", "upsample@neck" and "conv3x3@backbone@bottleneck" are those of a slot
    (or of a glob) that have these roles (`opbench.models.roles`). `where` narrows it further to names of a pattern. Of
    modules inside each other that both match, the outer one is replaced. In a network without `nn.Upsample`, "upsample"
    is its transposed convolutions that upsample, which are the slot "transposed" in any network.

    with_: `YoloCARAFE`, `CARAFE`, `DCNv3` (channels first, as many groups as leave at most 16 channels in each),
    `DCNV3_YoLo`; the name of any operator that competes for the place ("carafe", "deconv"); any other module class,
    constructed with the channels found; or a factory, site -> module. `implementation` goes to opbench's own.

    A copy of the model is called once to find channels and shapes, with `example` (a tensor, a tuple of arguments, or
    a mapping of keyword arguments; ({...},) where the model takes a mapping itself), else with zeros of `size`:
    (height, width) or (channels, height, width), by default 64 x 64, with 3 channels where any convolution takes 3 and
    else those of the first. It is called once more after the swap to prove that it still gives outputs of the same
    shapes. The model itself is not called: its modes, statistics, gradients and torch's random numbers stay as they
    are, but for what the new modules draw to initialise themselves. A new module takes over the old one's training
    flag, dtype, device and whether it is trained, and ultralytics' i, f, np and type; a shared module is replaced by
    one new one everywhere.

    Of trained weights all survive but those of the modules that are replaced: a new module starts untrained, and the
    network has to be trained on. A change, printed, says how many are gone and new. What
    computes a replaced weight (pruning, weight or spectral norm, a parametrization) goes with it. A block of
    ultralytics whose convolution is replaced keeps its batch norm when the network is fused.

    A slot leaves as they are, with a warning, the modules that an evaluation doesn't call while it calls others: a
    branch for training alone (YOLO26-seg), or for another kind of prompt (YOLOE).

    Raises OpbenchError, and leaves the model as it was, where nothing matches or any match can't be replaced. A call
    of torch.nn.functional.interpolate inside a forward is no module, and can't be.

    >>> from opbench.operators.carafe import YoloCARAFE
    >>> neck = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Upsample(scale_factor=2))
    >>> [(change.name, change.shape_in, change.shape_out) for change in swap(neck, nn.Upsample, YoloCARAFE)]
    [('1', (1, 8, 64, 64), (1, 8, 128, 128))]
    """
    build = builder(with_, implementation)
    model = network(model)
    wanted = matching(model, what, where)
    if not wanted:
        raise nothing(model, what, where, example, size)
    called_with = arguments(model, example, size)
    random = torch.get_rng_state()
    blocks: dict[nn.Module, type[nn.Module]] = {}
    sites, outputs = trace(model, wanted, called_with)
    if slot_of(what):
        sites = _called(sites)
    try:
        fresh = [_replacement(site, build) for site in sites]
        _put(model, sites, fresh)
        blocks = _keep_unfused(model, sites, fresh)
        _prove(model, sites, outputs, called_with)
    except BaseException:  # whatever it was, Ctrl-C too: the model and the random numbers are as they were
        _put(model, sites, [site.module for site in sites])
        for block, kind in blocks.items():
            block.__class__ = kind
        torch.set_rng_state(random)
        raise
    return tuple(_change(site, module) for site, module in zip(sites, fresh, strict=True))


def _replacement(site: Site, build: Callable[[Site], nn.Module]) -> nn.Module:
    """The new module, with everything taken over from the old one. Raises OpbenchError where it can't be replaced."""
    old = site.module
    if not site.calls:
        raise site.refused("the shape pass didn't call it: narrow what matches, or give an example that does")
    if len({(call.shape_in[1], call.shape_out[1]) for call in site.calls}) > 1:
        channels = ", ".join(f"{call.shape_in} -> {call.shape_out}" for call in site.calls)
        raise site.refused(f"it is called with different channels: {channels}")
    hooks = (old._forward_hooks, old._forward_pre_hooks, old._backward_hooks, old._backward_pre_hooks)
    if any(not isinstance(hook, _OF_THE_WEIGHT) for held in hooks for hook in held.values()):
        raise site.refused("it has hooks, which would be lost: remove them, and register them again afterwards")
    try:
        new = build(site)
    except OpbenchError:
        raise
    except Exception as error:  # a factory may raise anything
        raise site.refused(said(error)) from error
    if not isinstance(new, nn.Module):
        raise site.refused(f"expected a module in its place, got {type(new).__name__}")
    like = next(old.parameters(), None)
    call = site.calls[0]
    new = new.to(dtype=(like if like is not None else call).dtype, device=(like if like is not None else call).device)
    new.train(old.training)
    if like is not None and not any(parameter.requires_grad for parameter in old.parameters()):
        new.requires_grad_(False)
    # What ultralytics reads off every layer: where it stands, where its input comes from, what it is and how large.
    about = {
        "i": vars(old).get("i"),
        "f": vars(old).get("f"),
        "np": sum(parameter.numel() for parameter in new.parameters()),
        "type": f"{type(new).__module__}.{type(new).__qualname__}",
    }
    for name in about.keys() & vars(old).keys():
        setattr(new, name, about[name])
    return new


def _put(model: nn.Module, sites: Sequence[Site], modules: Sequence[nn.Module]) -> None:
    for site, module in zip(sites, modules, strict=True):
        for name in site.names:
            parent, _, child = name.rpartition(".")
            model.get_submodule(parent)._modules[child] = module


def _called(sites: Sequence[Site]) -> tuple[Site, ...]:
    """Those that were called, with a warning about the others; all, for the error, where none was."""
    called, others = [site for site in sites if site.calls], [site.name for site in sites if not site.calls]
    if not called or not others:
        return tuple(sites)
    warnings.warn(
        f"left as they are, because an evaluation of the model doesn't call them: {', '.join(others)}", stacklevel=3
    )
    return tuple(called)


def _keep_unfused(
    model: nn.Module, sites: Sequence[Site], modules: Sequence[nn.Module]
) -> dict[nn.Module, type[nn.Module]]:
    """Keeps ultralytics from fusing blocks around what was swapped in; the blocks, with the class that each had."""
    found = {}
    for site, module in zip(sites, modules, strict=True):
        for name in site.names:
            path = name.split(".")
            for depth in range(len(path)):
                block = model.get_submodule(".".join(path[:depth]))
                kind = unfused(block, ".".join(path[depth:]), module)
                if kind is not None and block not in found:
                    found[block] = type(block)
                    block.__class__ = kind
    return found


def _prove(model: nn.Module, sites: Sequence[Site], outputs: list[Shape], called_with: Arguments) -> None:
    """Raises OpbenchError unless the model gives what it gave, in shape, through every new module."""
    after, given = trace(model, [site.names for site in sites], called_with)
    for site, new in zip(sites, after, strict=True):
        before, now = ([(call.shape_in, call.shape_out) for call in one.calls] for one in (site, new))
        if before != now:
            raise site.refused(
                f"{type(new.module).__name__} in its place is called otherwise: expected {before}, got {now}"
            )
    if given != outputs:
        raise OpbenchError(f"{type(model).__name__}: after the swap its outputs are {given}, expected {outputs}")


def _change(site: Site, new: nn.Module) -> Change:
    def size(module: nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    call = site.calls[0]
    return Change(
        names=site.names,
        before=type(site.module).__name__,
        after=type(new).__name__,
        shape_in=call.shape_in,
        shape_out=call.shape_out,
        params_before=size(site.module),
        params_after=size(new),
        calls=len(site.calls),
    )
