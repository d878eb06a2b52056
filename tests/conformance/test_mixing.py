"""Pairs of sizes: each is in some call, the telling ones soon, and what a core refuses is left out."""

import itertools

import pytest

from opbench.conformance.agenda import Agenda
from opbench.conformance.cores import relations
from opbench.conformance.mixing import COMMON, Mixture
from opbench.conformance.sizes import LADDER, NAME
from opbench.relations import Sizes

BOTH = pytest.mark.parametrize("operator", ["carafe", "dcnv3"])


def sizes_of(operator):
    return next(one for one in relations(operator) if one.name == NAME).sizes


# Some seconds of a check.
CALLS = {"carafe": 1000, "dcnv3": 600}


def right(asked):
    return True


def toy(**rungs):
    """Sizes of which all values go together; the first of each is the ordinary one."""
    ordinary = {name: values[0] for name, values in rungs.items()}
    ascending = {name: tuple(sorted(values)) for name, values in rungs.items()}
    return Sizes(ascending, lambda asked: {**ordinary, **asked}, None)


def pairs_of(sizes):
    return {
        ((one, a), (other, b))
        for one, other in itertools.combinations(sizes.rungs, 2)
        for a, b in itertools.product(sizes.rungs[one], sizes.rungs[other])
    }


def walked(mixture, takes=right):
    """The calls of a core that takes those of which `takes(sizes)`; each with whether it was taken."""
    calls = []
    while mixture.left:
        step = mixture.call()
        taken = takes(step.sizes)
        calls.append((step, taken))
        (mixture.answered if taken else mixture.refused)(step)
    return calls


def within(calls):
    return {pair for step, taken in calls if taken for pair in itertools.combinations(step.sizes.items(), 2)}


def test_every_pair_is_in_a_call_and_the_calls_are_far_fewer_than_the_pairs():
    sizes = toy(a=(1, 2, 3, 5, 8, 9), b=(1, 2, 4, 7), c=(1, 2, 16, 17), d=(False, True))
    mixture = Mixture(sizes, {}, right)
    calls = walked(mixture)
    assert within(calls) == pairs_of(sizes)
    assert mixture.tried == mixture.of == len(pairs_of(sizes))
    assert len(calls) <= mixture.of / 2


def test_a_value_below_the_ordinary_stands_beside_ordinary_ones():
    """A window of one pixel hides a dilation: the pair of dilation and groups has to be tried with a larger one."""
    sizes = toy(window=(3, 1, 5), dilation=(1, 2, 4), groups=(1, 2))
    calls = walked(Mixture(sizes, {}, right))
    assert within(calls) == pairs_of(sizes)
    for dilation, groups in itertools.product((1, 2, 4), (1, 2)):
        assert any(
            step.sizes["window"] > 1 and step.sizes["dilation"] == dilation and step.sizes["groups"] == groups
            for step, _ in calls
        )


def test_a_value_that_the_core_refuses_is_left_out_and_all_else_is_tried():
    sizes = toy(a=(1, 2, 3), b=(1, 2, 3), c=(1, 2, 3))

    def takes(asked):
        return asked.get("b") != 3

    mixture = Mixture(sizes, {}, takes)
    calls = walked(mixture, takes)
    assert within(calls) == {pair for pair in pairs_of(sizes) if ("b", 3) not in pair}
    assert sum(not taken for _, taken in calls) == 1
    assert mixture.tried == mixture.of


def test_two_values_that_the_core_refuses_together_spoil_no_other_call():
    sizes = toy(a=(1, 2, 3), b=(1, 2, 3), c=(1, 2, 3))
    mixture = Mixture(sizes, {}, right)
    calls = walked(mixture, lambda found: not (found["a"] > 1 and found["b"] > 1))
    refused = {(("a", a), ("b", b)) for a in (2, 3) for b in (2, 3)}
    assert within(calls) == pairs_of(sizes) - refused
    assert mixture.refused_pairs == refused


@BOTH
def test_what_is_fixed_stays_in_every_call(operator):
    sizes, fixed = sizes_of(operator), {"kernel_size": 5, "C": 6}
    mixture = Mixture(sizes, fixed, right)
    for _ in range(20):
        step = mixture.call()
        assert fixed.items() <= step.sizes.items()
        mixture.answered(step)


@BOTH
def test_every_option_at_its_end_beside_a_common_value_of_another_is_among_the_first_calls(operator):
    """Such a bug must not wait for thousands of pairs: a few hundred calls are some seconds of a check."""
    sizes = sizes_of(operator)
    agenda = Agenda(sizes, {}, right, thin=False, paired=True)
    ordinary = sizes.completed({})
    options = [name for name, rungs in sizes.rungs.items() if rungs != LADDER and rungs[-1] < 64]
    wanted = {
        frozenset({(one, sizes.rungs[one][-1]), (other, value)})
        for one, other in itertools.permutations(options, 2)
        for value in sizes.rungs[other]
        if (value in COMMON or isinstance(value, bool)) and value > ordinary[other]
        if sizes.completed({one: sizes.rungs[one][-1], other: value}) is not None
    }
    assert len(wanted) >= 12
    for _ in range(CALLS[operator]):
        step = agenda.next(late=False)
        wanted -= {frozenset(pair) for pair in itertools.combinations(step.sizes.items(), 2)}
        agenda.tell(step, accepted=True)
    assert not wanted


def test_the_thinned_ladders_come_first_and_sizes_alone_are_finished_though_it_is_late():
    sizes = sizes_of("carafe")
    agenda = Agenda(sizes, {}, right, thin=False, paired=True)
    foremost = [agenda.next(late=False) for _ in range(agenda.foremost)]
    assert foremost == agenda.alone[: agenda.foremost]
    steps = list(iter(lambda: agenda.next(late=True), None))
    assert foremost + steps == agenda.alone
    assert agenda.reached.startswith(f"alone: all {len(agenda.alone)}, in pairs: 0 of ")
