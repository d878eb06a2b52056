"""A suite that a command makes can be read again, whatever its names hold."""

import tomllib

from opbench.suites.text import suite_text


def test_every_value_is_read_as_it_was_written():
    workload = {
        "name": 'a "name" with a \\ and ü',
        "dims": {"C": 8, "H": 4},
        "spreads": [0.5, float("inf")],
        "across_runtimes": True,
        "dtypes": (),
    }
    text = suite_text("made", ("[defaults]", {"modes": ["inference"]}), ("[[workload]]", workload))
    read = tomllib.loads(text)
    assert read["title"] == "made"
    assert read["defaults"] == {"modes": ["inference"]}
    assert read["workload"] == [{**workload, "dtypes": []}]


def test_what_can_not_be_printed_is_left_out():
    assert tomllib.loads(suite_text("a\x7fb\nc"))["title"] == "a?b?c"
