"""What is looked up once a process, and what torch.compile is told of it."""

from __future__ import annotations

import functools
from collections.abc import Callable


def once(look: Callable[[], str | None]) -> Callable[[], str | None]:
    """`look` called once: why something can't run here, or None.

    A core is chosen inside of what torch.compile traces. It takes the answer as a constant and traces nothing of how
    it was found: of a file that is looked for it knows nothing, and of a cached function it warns.
    """
    found = functools.cache(look)

    def missing() -> str | None:
        return found()

    missing.__doc__ = look.__doc__
    # The mark of torch.compiler.assume_constant_result, which itself would import all of dynamo now, for seconds.
    missing._dynamo_marked_constant = True  # type: ignore[attr-defined]
    missing.cache_clear = found.cache_clear  # type: ignore[attr-defined]  # as every cached function has
    return missing
