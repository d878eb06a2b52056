"""Which cases of a table are tried by day: one that shows the fact. The others repeat it, and are for the night."""

import pytest


def tried(*values, by_day, id=None):
    """Values to parametrise by, which are for the night unless they are tried by day."""
    return pytest.param(*values, id=id, marks=[] if by_day else [pytest.mark.nightly])


def one_in(number, values):
    """All values to parametrise by, of which one in `number` is tried by day, the first among them."""
    return [tried(value, by_day=at % number == 0) for at, value in enumerate(values)]


def first_by_day(values):
    """All values to parametrise by, of which all but the first are for the night."""
    return [tried(value, by_day=at == 0) for at, value in enumerate(values)]


def in_turns(names, relations, always):
    """Each name with each relation: by day a relation takes one of the names, in turn; those of `always` take all."""
    return [
        tried(name, relation, id=f"{name}-{relation.name}", by_day=relation.name in always or turn % len(names) == at)
        for turn, relation in enumerate(relations)
        for at, name in enumerate(names)
    ]
