"""Whether memory grows over calls: tensors that stay alive after everything that was returned has been dropped."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Sequence

from torch import Tensor, nn

from opbench.conformance.promises import lines
from opbench.conformance.promises.leaving import held
from opbench.conformance.promises.promise import Broken
from opbench.conformance.promises.subject import Subject

# Before the first count whatever is made once has been made: tables, caches, buffers of gradients.
WARM_UP, CALLS = 3, 20


def grows(subject: Subject) -> Broken | None:
    """Counts live tensors before and after twenty calls with new inputs of the same shape."""
    size = subject.sizes[0]._replace(N=2)
    module = subject.module(training=True)
    _call(subject, module, range(WARM_UP))
    before, held_before = _alive(), _places(module)
    _call(subject, module, range(WARM_UP, WARM_UP + CALLS))
    more = _alive() - before
    if more < CALLS:
        return None
    growing = [name for name, count in _places(module).items() if count > held_before[name]]
    where = next(filter(None, (lines.used_in(module, name, subject.files) for name in growing)), None)
    kept_in = f", in its attribute {growing[0]}" if growing else ""
    shape = tuple(subject.image(size).shape)
    return Broken(f"keeps {more / CALLS:.3g} tensors alive of every call{kept_in}", shape, where)


def _call(subject: Subject, module: nn.Module, seeds: Sequence[int]) -> None:
    for seed in seeds:
        subject.call(module, subject.image(subject.sizes[0]._replace(N=2), seed=seed))


def _alive() -> int:
    """By type: some objects answer `isinstance` with code of their own."""
    gc.collect()
    return sum(issubclass(type(one), Tensor) for one in gc.get_objects())


def _places(module: nn.Module) -> Counter[str]:
    """How many tensors each attribute holds that nobody registered."""
    return Counter(name.partition("[")[0].partition(".")[0] for _, name, _ in held(module))
