"""Which cases of a table are tried by day: one that shows the fact. The others repeat it, and are for the night."""

import pytest


def by_night(value, is_by_night=True):
    """A value to parametrise by, which is for the night."""
    return pytest.param(value, marks=[pytest.mark.nightly] if is_by_night else [])


def one_in(number, values):
    """All values to parametrise by, of which one in `number` is tried by day, the first among them."""
    return [by_night(value, at % number != 0) for at, value in enumerate(values)]


def first_by_day(values):
    """All values to parametrise by, of which all but the first are for the night."""
    return [by_night(value, at > 0) for at, value in enumerate(values)]


def in_turns(names, relations, always):
    """Each name with each relation: by day a relation takes one of the names, in turn; those of `always` take all."""
    return [
        pytest.param(
            name,
            relation,
            id=f"{name}-{relation.name}",
            marks=[] if relation.name in always or turn % len(names) == at else [pytest.mark.nightly],
        )
        for turn, relation in enumerate(relations)
        for at, name in enumerate(names)
    ]
