"""Which cases `--select` takes: by a part of a case's id, or by a pattern for all of it."""

from __future__ import annotations

import fnmatch

import msgspec


class Selection(msgspec.Struct, frozen=True):
    """What any of the `patterns` names is taken; without a pattern everything is.

    A pattern with `*` or `?` is held against the whole id, another against any part of it. Brackets are those of a
    contender's name, never a set of characters.

    >>> ids = ["conv3x3/dcnv3[cpu]", "upsample2x/carafe[cpu]", "upsample2x/carafe[unfold]"]
    >>> [one for one in ids if Selection(("carafe[cpu]",)).takes(one)]
    ['upsample2x/carafe[cpu]']
    >>> [one for one in ids if Selection(("*[cpu]",)).takes(one)]
    ['conv3x3/dcnv3[cpu]', 'upsample2x/carafe[cpu]']
    """

    patterns: tuple[str, ...] = ()

    def takes(self, name: str) -> bool:
        """Whether what goes by this name was asked for."""
        return not self.patterns or any(_matches(pattern, name) for pattern in self.patterns)


def _matches(pattern: str, name: str) -> bool:
    if "*" in pattern or "?" in pattern:
        return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))
    return pattern in name
