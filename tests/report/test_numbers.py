"""Numbers as text: three digits, the unit beside them, and a word where there is none."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opbench.report import numbers
from opbench.statistics.ratios import Ratio


def between(value, low, high, method="order-statistics", rounds=40):
    return Ratio(value, low, high, rounds, 1, method)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 ns"),
        (812e-9, "812 ns"),
        (4.05e-3, "4.05 ms"),
        (0.9996e-6, "1.00 µs"),
        (999.6e-6, "1.00 ms"),
        (1, "1.00 s"),
        (75.25, "75.2 s"),
        (None, "not measured"),
        (math.inf, "infinite"),
        (math.nan, "not a number"),
    ],
)
def test_seconds(value, text):
    assert numbers.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1024, "1.00 KiB"),
        (34 << 20, "34.0 MiB"),
        (3 << 29, "1.50 GiB"),
        (None, "not measured"),
    ],
)
def test_sizes_are_binary(value, text):
    assert numbers.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (152e6, "152 M"), (4_718_592, "4.72 M"), (199_496, "199 k"), (2e9, "2.00 G")],
)
def test_macs_are_decimal(value, text):
    assert numbers.macs(value) == text


def test_rates_carry_their_unit():
    assert numbers.rate(14.2e9, "bytes/second") == "14.2 GB/s"
    assert numbers.rate(5e10, "macs/second") == "50.0 GMAC/s"


def test_a_count_is_exact():
    assert numbers.exactly(74_148) == "74,148"
    assert numbers.exactly(0) == "0"
    assert numbers.exactly(None, missing="crashed") == "crashed"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (between(3.21, 3.15, 3.28), "3.21x [3.15, 3.28]"),
        (between(1.0034, 1.0011, 1.0041), "1.003x [1.001, 1.004]"),
        (between(143.2, 141.0, 146.0), "143x [141, 146]"),
        (between(0.01234, 0.0120, 0.0126), "0.0123x [0.0120, 0.0126]"),
        (between(2.0, 1.5, 2.5, "range", rounds=4), "2.00x [1.50, 2.50] (4 rounds)"),
        (between(2.0, 0.0, math.inf, "one-round", rounds=1), "2.00x [1 round, no interval]"),
        (between(1e-9, 1e-9, 1e-8), "1.00e-09x [1.00e-09, 1.00e-08]"),
        (between(math.inf, 1.0, math.inf), "infinite ratio"),
        (None, "not measured"),
    ],
)
def test_ratios_show_their_interval(value, text):
    assert numbers.ratio(value) == text


def test_the_digits_of_a_ratio_resolve_its_interval():
    text = numbers.ratio(between(1.00012, 1.00002, 1.00032))
    assert text == "1.0001x [1.0000, 1.0003]"


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.412, "0.412"), (13.24, "13.2"), (1.3e-5, "1.30e-05"), (math.inf, "infinite")]
)
def test_bare_numbers(value, text):
    assert numbers.plain(value) == text


def test_shares():
    assert numbers.share(42, 100) == "42 %"
    assert numbers.share(1, 1000) == "0.10 %"
    assert numbers.share(None, 100) == "not measured"
    assert numbers.share(1, 0) == "not measured"


@given(st.floats(1e-9, 1e4))
def test_text_stays_within_half_a_digit_of_the_number(value):
    text, unit = numbers.seconds(value).split()
    scale = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0}[unit]
    assert float(text) * scale == pytest.approx(value, rel=0.0051)


@example(1.7976931348623157e308)
@given(st.one_of(st.floats(), st.none(), st.integers(-(2**63), 2**64)))
def test_no_number_becomes_a_blank(value):
    for write in (numbers.seconds, numbers.size, numbers.macs, numbers.plain):
        assert write(value).strip()


def test_a_difference_of_counts_has_its_sign_and_a_relative_one_its_percent():
    assert [numbers.signed(value) for value in (74148, -2304, 0)] == ["+74,148", "-2,304", "+0"]
    assert numbers.relative(104.4, 100) == "+4.4 %"
    assert numbers.relative(73, 100) == "-27.0 %"
    assert numbers.relative(1230, 100) == "12.3x"
    assert numbers.relative(None, 100) == numbers.relative(1, 0) == "not measured"
