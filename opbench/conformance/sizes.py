"""The relation `sizes`: a core is its definition at the sizes at which kernels break, and which sizes those are.

A kernel breaks where a tile, a vector, a table or an index ends: at a power of two, one before or one after it. The
small examples that Hypothesis draws never get there. So every dimension and every option climbs a ladder of such
numbers by itself, while all others stay as small as an ordinary call allows, and then beside each other (`mixing`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from opbench.conformance.comparing import run
from opbench.conformance.findings import LARGE
from opbench.conformance.oracle import Magnitude, Oracle, answers
from opbench.conformance.raised import MEMORY
from opbench.conformance.strategies import noise_like
from opbench.errors import text_of
from opbench.relations import Core, Example, Relation, Sizes, Space
from opbench.schema import OpbenchError

NAME = "sizes"
# Small numbers, and one before, at and after each power of two.
LADDER = (1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 511, 512, 513)
# What a thinned ladder keeps: past each limit, a multiple of each power of two, and a remainder of each. One that ends
# before the length of a tile, as options' do, stays whole: each of its values may have a table of its own.
THIN = frozenset((1, 2, 3, 5, 9, 31, 64, 65, 257))
SHORT = 64
# Elements that a kernel numbers together, round a block's limit and where 16 bits end: both sides of about one length.
AREAS = ((63, 65), (64, 64), (64, 65), (255, 257), (256, 256), (256, 257))

Asked = Mapping[str, Any]


@dataclass(frozen=True)
class SizeStep:
    """One call to try: the sizes that were asked for, and all of the call's."""

    asked: Asked
    sizes: Asked


def at_sizes(sizes: Sizes, definition: Core, magnitude: Magnitude) -> Relation:
    """The relation of an operator's core; `definition` and `magnitude` are an `Oracle`'s."""
    oracle = Oracle(definition, magnitude)

    def is_right(core: Core, example: Example) -> None:
        """|core - definition| <= c eps sum|terms| for the output and every gradient."""
        if not is_large(example):
            grad_output = noise_like(oracle.output(example), seed=1).to(next(iter(example.tensors.values())))
            oracle.close_answers(answers(core, example, grad_output), example, grad_output)
            return
        got = answers(core, example)
        grad_output = noise_like(got["output"], seed=1)
        for n, image in _ends(example):
            parts = {name: tensor[n : n + 1] for name, tensor in got.items()}
            with _within_memory():
                if parts["output"].shape != oracle.output(image).shape:
                    oracle.close(parts["output"], image)
                oracle.close_answers(parts, image, grad_output[n : n + 1])

    def output_is_right(core: Core, example: Example) -> None:
        """|core - definition| <= c eps sum|terms| for the output."""
        got = run(core, example)
        if not is_large(example):
            oracle.close(got, example)
            return
        for n, image in _ends(example):
            with _within_memory():
                oracle.close(got[n : n + 1], image)

    def draws(space: Space) -> st.SearchStrategy[Example]:
        found = alone(sizes, space.fixed, thin=True)
        return st.sampled_from(found).map(lambda step: sizes.call(step.sizes, space, 0)) if found else st.nothing()

    return Relation(
        NAME,
        "bounded",
        "at any size, each dimension and option alone and two at a time: output and gradients are the definition's",
        is_right,
        draws,
        needs_gradients=True,
        sizes=sizes,
        without_gradients=output_is_right,
    )


def is_large(example: Example) -> bool:
    """Whether the call is judged by its first and its last image alone."""
    return sum(tensor.numel() for tensor in example.tensors.values()) > LARGE


@contextlib.contextmanager
def _within_memory() -> Iterator[None]:
    """A definition that runs out of memory is no fault of the core's."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or MEMORY.search(text_of(error)):
            raise OpbenchError(
                "--shape: the definition of one such image needs more memory than a check has"
            ) from error
        raise


def _ends(example: Example) -> list[tuple[int, Example]]:
    """The first and the last image of a batch, as calls of their own, each with its place."""
    last = len(next(iter(example.tensors.values()))) - 1
    return [
        (n, example.replace(None, **{name: tensor[n : n + 1] for name, tensor in example.tensors.items()}))
        for n in dict.fromkeys((0, last))
    ]


def alone(sizes: Sizes, fixed: Asked, *, thin: bool) -> list[SizeStep]:
    """Each dimension and option at each of its rungs; unless `thin`, then the other rungs and the areas too.

    The cheapest first within either part.
    """
    found = _cheapest_first(sizes, fixed, [{}, *_one_by_one(sizes, thin=True)])
    if thin:
        return found
    areas = [{**_least(sizes, fixed), **dict(zip(names, area, strict=True))} for names in sizes.areas for area in AREAS]
    return _without_repeats([*found, *_cheapest_first(sizes, fixed, [*_one_by_one(sizes, thin=False), *areas])])


def completed(sizes: Sizes, fixed: Asked, asked: Asked) -> Asked | None:
    """All sizes of the call with these; None where what is fixed, or what they are bounded by, leaves none."""
    if any(fixed.get(name, value) != value for name, value in asked.items()):
        return None
    found = sizes.completed({**fixed, **asked})
    return None if found is None or any(found.get(name, value) != value for name, value in fixed.items()) else found


def _kept(rungs: tuple[Any, ...], thin: bool) -> tuple[Any, ...]:
    return tuple(rung for rung in rungs if not thin or rung in THIN or isinstance(rung, float) or rungs[-1] < SHORT)


def _one_by_one(sizes: Sizes, *, thin: bool) -> list[Asked]:
    return [{name: rung} for name, rungs in sizes.rungs.items() for rung in _kept(rungs, thin)]


def _least(sizes: Sizes, fixed: Asked) -> Asked:
    return {name: rungs[0] for name, rungs in sizes.rungs.items() if name not in fixed}


def _cheapest_first(sizes: Sizes, fixed: Asked, asked: Iterable[Asked]) -> list[SizeStep]:
    steps = [SizeStep(one, found) for one in asked if (found := completed(sizes, fixed, one)) is not None]
    return _without_repeats(sorted(steps, key=lambda step: sizes.work(step.sizes)))


def _without_repeats(steps: Iterable[SizeStep]) -> list[SizeStep]:
    first: dict[tuple[tuple[str, Any], ...], SizeStep] = {}
    for step in steps:
        first.setdefault(tuple(sorted(step.sizes.items())), step)
    return list(first.values())
