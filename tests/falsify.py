"""How the tests hold cores to relations: a proof by examples, and the search for one that fails."""

import contextlib

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from opbench.relations import Violation


def examples(number):
    """So many examples where the profile's are 100: nightly runs draw 20 times as many."""
    return max(1, number * settings().max_examples // 100)


def assert_holds(relation, core, space, number):
    """The relation holds on `number` examples; the failure is shrunk first."""
    drawn = relation.draws(space)
    if drawn.is_empty:
        return

    @settings(max_examples=examples(number), database=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def holds(data):
        relation.check(core, data.draw(drawn, label="call"))

    holds()


def falsify(relation, core, space, number):
    """The first violation among `number` examples, always the same ones, or None."""
    found = []

    @settings(
        max_examples=number,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(relation.draws(space))
    def search(call):
        try:
            relation.check(core, call)
        except Violation as violation:
            found.append(violation)
            raise _Found from None

    with contextlib.suppress(_Found):
        search()
    return found[0] if found else None


class _Found(BaseException):
    """No Exception, so that Hypothesis doesn't call again: a core with a memory answers otherwise the second time."""
