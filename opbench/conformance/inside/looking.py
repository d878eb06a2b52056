"""A module looked into for an operator's core, and what is made of what is found, or isn't."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, product
from pathlib import PurePath

import torch
from torch import Tensor, nn

from opbench.anatomy import Anatomy
from opbench.conformance.inside.core import InsideCore
from opbench.conformance.inside.fakes import fake
from opbench.conformance.inside.finding import Search
from opbench.conformance.inside.found import Found, Part, spent_by
from opbench.conformance.inside.layouts import arranged, parts
from opbench.conformance.inside.outcome import FurtherCore, Inside
from opbench.conformance.inside.preparing import PreparedModule
from opbench.conformance.inside.surroundings import differences
from opbench.conformance.inside.tracing import CallResult, Trace, exchanged, recorded
from opbench.conformance.raised import WHAT_A_TARGET_RAISES, line_of
from opbench.errors import said
from opbench.schema import OpbenchError

# Lengths that no kernel, group or scale has, so that an axis is known by its length; and what evens out in halves.
IMAGES = ((11, 13), (10, 14), (12, 20), (32, 48))
# Rows and columns look alike there; but there are modules that take nothing else.
SQUARES = ((13, 13), (12, 12), (40, 40))
# How an image (N, C, H, W) is handed over.
LAYOUTS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "(N, C, H, W)": lambda x: x,
    "(N, H, W, C)": lambda x: x.permute(0, 2, 3, 1),
    "(N, H*W, C)": lambda x: x.flatten(2).transpose(1, 2),
}
# Of each of the steps of a search; what is there is mostly found in the first.
SECONDS = 2.0
_NORMALISED = 1e-3


def look(
    name: str,
    make: Callable[[int | None], nn.Module],
    channels: Sequence[int],
    anatomies: Mapping[str, Anatomy],
    operator: str,
    seconds: float = SECONDS,
) -> Inside:
    """Looks for the core of `operator` in the module that `make` makes, called `name` in sentences.

    `make(C)` gives it with another number of channels in, and raises where there is no such module. `channels` are
    those that its input may have. `anatomies` has the operator's and those that it may be taken for. Raises
    OpbenchError for a module that takes no image.
    """
    anatomy = anatomies[operator]
    prepared = PreparedModule(make, bool(anatomy.parameters))
    module = prepared(None)
    trace, image = _recorded(name, module, _images(channels), prepared)
    search = Search(trace, module, seconds)
    found = search.find(anatomy)
    if found is not None:
        every = [found, *search.find_further(anatomy, found)]
        return _of_found(name, every, trace, module, prepared, image)
    sentence = fake(name, anatomy, module, image.of(image.size, torch.float64), search)
    if sentence:
        return Inside("wrong", sentence)
    for other, theirs in anatomies.items():
        if other != operator:
            found = search.find_right(theirs)
            if found is not None and found.output.place is not None:
                return Inside(
                    "wrong",
                    f"{name} computes {theirs.function}, another function than {anatomy.function}",
                    advice=f"hold it to that with --operator {other}",
                )
    return Inside("unknown", f"{name}: {anatomy.function} was not found inside", advice=_nearest(search, trace))


class _Image:
    """Inputs of a module: images of `size` (N, C, H, W), in its layout."""

    def __init__(self, size: tuple[int, int, int, int], layout: str) -> None:
        self.size = size
        self.layout = layout

    def of(self, size: tuple[int, int, int, int], dtype: torch.dtype, seed: int = 1) -> Tensor:
        """Normal values."""
        x = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return LAYOUTS[self.layout](x).contiguous().to(dtype)

    def like(self, size: tuple[int, int, int, int], like: Tensor) -> Tensor:
        """Ones, in the dtype and on the device of a tensor."""
        return LAYOUTS[self.layout](torch.ones(size, dtype=like.dtype, device=like.device)).contiguous()


def _images(channels: Sequence[int]) -> Iterator[_Image]:
    for sizes in (IMAGES, SQUARES):
        for layout, C in product(LAYOUTS, channels):
            for rows, columns in sizes:
                yield _Image((1, C, rows, columns), layout)


def _recorded(name: str, module: nn.Module, images: Iterator[_Image], prepared: PreparedModule) -> tuple[Trace, _Image]:
    """The forward pass of the first image that the module takes: in float64, else as it comes."""
    first: BaseException | None = None
    for image in images:
        for dtype in (torch.float64, torch.float32):
            try:
                module.to(dtype)
                x = image.of(image.size, dtype)
                before = set(dict(prepared.built(module, x).named_parameters()))
                trace = recorded(module, x)
                if before != set(dict(module.named_parameters())):
                    prepared.by_calls = True
                    trace = recorded(prepared.built(module, x), x)
            except WHAT_A_TARGET_RAISES as error:
                first = first or error
                continue
            if trace.output:
                return trace, image
    why = f": it raises {said(first)}{_at(first)}" if first else ""
    raise OpbenchError(f"{name}: not judged: it takes no image of {IMAGES[0]} pixels{why}") from first


def _at(error: BaseException) -> str:
    line = line_of(error)
    return f" ({line})" if line else ""


def _of_found(
    name: str, every: Sequence[Found], trace: Trace, module: nn.Module, prepared: PreparedModule, image: _Image
) -> Inside:
    """The outcome for all cores of a module: the first that is wrong, else all of them."""
    first, *others = every
    anatomy = first.anatomy
    spent = {id(one): spent_by(one, trace) for one in every}
    around: list[str] = []
    for one in every:
        of_others = set().union(*(spent[id(other)] for other in every if other is not one))
        around += [said for said in differences(one, trace, of_others) if said not in around]
    for number, one in enumerate(every, start=1):
        which = f" {number} of {len(every)} ({_place_of(one, trace)})" if others else ""
        if one.wrong is not None:
            computes = f"{name} computes" if not which else f"{name}'s core{which} computes"
            return Inside("wrong", f"{computes} {one.wrong.sentence}", tuple(around), found=one)
        fault = _misplaced(one) or _misnormalised(one, trace) or _unused(one, trace, module, image)
        if fault:
            has = f"has {anatomy.function} inside, but {fault}"
            if which:
                has = f"has {anatomy.function} {len(every)} times inside, but of core{which} {fault}"
            return Inside("wrong", f"{name} {has}", tuple(around), found=one)
    _, channels, rows, columns = image.size
    cores = [InsideCore(one, prepared, image.like, channels, rows, columns) for one in every]
    sentence = f"{name} computes {anatomy.function}"
    if others:
        places = ", ".join(f"{number} {_place_of(one, trace)}" for number, one in enumerate(every, start=1))
        sentence += f" {len(every)} times ({places})"
    if around:
        sentence += f"; the module around it differs: {'; '.join(around)}"
    else:
        sentence += f", and the module around it has what {anatomy.own} has"
    further = tuple(
        FurtherCore(core, one, _place_of(one, trace), like=_line(one, trace) == _line(first, trace))
        for core, one in zip(cores[1:], others, strict=True)
    )
    return Inside("right", sentence, tuple(around), cores[0], first, further=further)


def _line(found: Found, trace: Trace) -> tuple[object, ...]:
    """The code that computes a core, and what it is set to: another core of the same is the same code's."""
    assert found.output.place is not None
    event = trace.of(found.output.place)
    return event.file, event.line, repr(found.options)


def _place_of(found: Found, trace: Trace) -> str:
    """Where in the module a core is, for a sentence: `in m.1.dcn, line 12`."""
    assert found.output.place is not None
    event = trace.of(found.output.place)
    return f"in {event.owner}, line {event.line}" if event.owner else f"line {event.line}"


def _misplaced(found: Found) -> str:
    return "its pixels end in other places of the image" if found.scrambled else ""


def _value(trace: Trace, part: Part, found: Found, name: str) -> Tensor | None:
    if part.place is None:
        return None
    held = trace.of(part.place).value
    single = tuple((one,) for one in parts(found.anatomy.layouts[name]))
    return arranged(held, part.layout, single, found.lengths)


def _misnormalised(found: Found, trace: Trace) -> str:
    """Over what a mask is normalised, if not over what it should be."""
    for name, over in found.anatomy.normalised.items():
        value = _value(trace, found.tensors[name], found, name) if name in found.tensors else None
        if value is None:
            continue
        all_parts = parts(found.anatomy.layouts[name])

        def sums_to_one(chosen: tuple[str, ...], value: Tensor = value, all_parts: tuple[str, ...] = all_parts) -> bool:
            axes = [all_parts.index(part) for part in chosen]
            return bool(((value.sum(axes) - 1).abs() < _NORMALISED).all())

        if sums_to_one(over):
            continue
        shown = [part for part in all_parts if found.lengths[part] > 1]
        words = found.anatomy.words
        for count in range(1, len(shown) + 1):
            for chosen in combinations(shown, count):
                if sums_to_one(chosen):
                    told = " and ".join(dict.fromkeys(words.get(part, part) for part in chosen))
                    own = " and ".join(dict.fromkeys(words.get(part, part) for part in over))
                    return f"its {name} is normalised over {told}, not over {own} alone"
        own = " and ".join(dict.fromkeys(words.get(part, part) for part in over))
        return f"its {name} is not normalised: it does not sum to 1 over {own}"
    return ""


def _unused(found: Found, trace: Trace, module: nn.Module, image: _Image) -> str:
    """Whether the result goes nowhere, or what should be predicted is the same for every input."""
    dtype = trace.events[0].value.dtype
    x = image.of(image.size, dtype)
    place = found.output.place
    assert place is not None
    ends = [end for end in trace.returned if end != place]
    if ends and place not in trace.returned:
        changed = trace.of(place).value + torch.randn_like(trace.of(place).value)
        with torch.no_grad():
            moved = any(
                not torch.equal(exchanged(module, x, {place: changed}, end), trace.of(end).value) for end in ends
            )
        if not moved:
            return "its result does not reach the output: it is computed and dropped"
    other = {event.place: event.value for event in recorded(module, image.of(image.size, dtype, seed=2)).events}
    for name in found.anatomy.predicted:
        part = found.tensors.get(name)
        if part is None or part.place not in other:
            continue
        if torch.equal(other[part.place], trace.of(part.place).value):
            return f"its {name} is the same for every input: nothing is predicted"
    return ""


def _nearest(search: Search, trace: Trace) -> str:
    if not search.misses:
        return (
            "no tensors of a fitting size were found in its forward pass: give other settings with --arg NAME=VALUE, "
            "or name the function that computes the core, as in FILE.py:FUNCTION"
        )
    reading, tensors, distance = min(search.misses, key=lambda miss: miss[2])
    told = ", ".join(f"{name} = {_origin(one.events[0])}" for name, one in tensors.items() if one.events)
    options = ", ".join(f"{name}={value}" for name, value in reading.options.items())
    return (
        f"nearest candidate: {told}, with {options}; the closest tensor of its forward pass differs by up to "
        f"{distance:.2g} of the largest value. Give other settings with --arg NAME=VALUE, or name the function that "
        "computes the core, as in FILE.py:FUNCTION"
    )


def _origin(event: CallResult) -> str:
    if not event.file:
        return "the input"
    return f"{event.call} {tuple(event.value.shape)} ({PurePath(event.file).name}, line {event.line})"
