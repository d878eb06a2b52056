"""What an error says is anybody's: it is bounded where it is first read."""

import time

from opbench.conformance.raised import is_missing_cuda
from opbench.errors import LONGEST_TEXT, said, text_of


def test_an_endless_message_is_cut_where_it_is_read():
    error = RuntimeError("expected " * 10_000_000)
    for read in (said, text_of):
        assert len(read(error)) < LONGEST_TEXT + 100
        assert read(error).endswith("...")


def test_a_short_message_is_whole():
    assert text_of(ValueError("no such thing\nat all")) == "no such thing\nat all"


def test_an_endless_message_is_searched_in_no_time():
    error = RuntimeError("expected " * 10_000_000)
    began = time.process_time()
    assert not is_missing_cuda(error, said(error))
    assert time.process_time() - began < 1.0


def test_a_message_that_can_t_be_made_is_said_so():
    class Unprintable(Exception):
        def __str__(self):
            raise ValueError

    assert said(Unprintable()) == "Unprintable: (an error that can't be printed)"
