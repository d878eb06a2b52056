"""The words that people use for an argument are known whatever the operator; its own words come before them."""

import pytest

from opbench.constructors import Constructor, also_called


def constructor(*settings, **more):
    def definition(settings, tensors, training):
        return tensors["x"]

    return Constructor(settings=dict.fromkeys(settings, (1,)), definition=definition, channels=settings[0], **more)


@pytest.mark.parametrize(
    ("settings", "word", "meant"),
    [
        (("channels", "k"), "in_channels", "channels"),
        (("channels", "k"), "dim", "channels"),
        (("channels", "k"), "kernel_size", "k"),
        (("inc", "ouc"), "c1", "inc"),
        (("inc", "ouc"), "out_channels", "ouc"),
        (("dim", "groups"), "g", "groups"),
    ],
)
def test_an_argument_is_known_by_the_words_that_people_use(settings, word, meant):
    assert constructor(*settings).aliases[word] == meant


def test_where_channels_go_out_apart_the_word_alone_means_neither():
    assert not {"channels", "c", "dim"} & set(also_called(("inc", "ouc")))


def test_a_word_that_is_an_argument_of_its_own_is_no_other():
    assert "s" not in constructor("channels", "stride", "s").aliases


def test_the_operator_s_own_words_come_first():
    declared = constructor("channels", "scale_factor", aliases={"s": "scale_factor", "scale": "channels"})
    assert next(iter(declared.aliases)) == "s"
    assert declared.aliases["scale"] == "channels"
