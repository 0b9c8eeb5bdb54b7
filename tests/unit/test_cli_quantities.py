"""Sizes, rates and times as people write and read them."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.quantities import UNITS, PieceSizeType, format_duration, format_remaining, parse_size
from swarm.sizes import format_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64KiB", 65536),
        ("10MB", 10_000_000),
        ("1048576", 1048576),
        ("1.5 GiB", 1610612736),
        ("3kb", 3000),
        ("7B", 7),
        ("2TiB", 2 * 2**40),
        ("5M", 5_000_000),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("2.5MiB/s", 2621440),
        ("500kB/s", 500_000),
        ("1MB", 1_000_000),
        ("5M", 5_000_000),
        ("5MB/s", 5_000_000),
    ],
)
def test_rates_are_read_with_and_without_per_second(text: str, rate: int) -> None:
    assert parse_size(text, rate=True) == rate


@pytest.mark.parametrize(
    "text",
    ["", "KiB", "-1KiB", "1e6", "1 parsec", "1Mbit/s", "1,5MB", "nan", "inf", "1MB/s", "0", "0.1B", "１MB"],
)
def test_what_is_no_size_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["5", "5/s", "1048576"])
def test_a_rate_needs_a_unit(text: str) -> None:
    with pytest.raises(ValueError, match="not a rate without a unit: write "):
        parse_size(text, rate=True)


@given(number=st.integers(1, 10**6), unit=st.sampled_from(sorted(UNITS)))
def test_every_unit_multiplies_by_its_factor(number: int, unit: str) -> None:
    assert parse_size(f"{number}{unit}") == number * UNITS[unit]
    assert parse_size(f"{number}{unit.upper()}/s", rate=True) == number * UNITS[unit]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (1023, "1023B"),
        (1024, "1.0KiB"),
        (1048570, "1.0MiB"),
        (2**30 * 3 // 2, "1.5GiB"),
        (2**52, "4096.0TiB"),
    ],
)
def test_sizes_are_shown_in_the_unit_that_fits(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (812e-9, "812ns"),
        (0.0, "0ns"),
        (999.6e-9, "1.000µs"),
        (431.231e-6, "431.231µs"),
        (999_999e-9, "999.999µs"),
        (999_999.7e-9, "1.000ms"),
        (12.3454e-3, "12.345ms"),
        (0.9999996, "1.000s"),
        (61.5, "61.500s"),
    ],
)
def test_round_trips_are_shown_in_the_unit_that_fits(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.floats(0, 3600))
def test_a_shown_round_trip_is_right_to_its_last_digit(seconds: float) -> None:
    text = format_duration(seconds)
    unit = text.lstrip("0123456789.")
    scale = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0}[unit]
    value = float(text.removesuffix(unit))
    assert value < 1000 or unit == "s"
    assert abs(value * scale - seconds) <= scale * (0.51 if unit == "ns" else 0.00051) + 1e-9


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-:--"), (42.4, "0:42"), (59.7, "1:00"), (3723, "1:02:03"), (0, "0:00")]
)
def test_remaining_time(seconds: float | None, text: str) -> None:
    assert format_remaining(seconds) == text


@pytest.mark.parametrize("text", ["48KiB", "8KiB", "32MiB", "100kB"])
def test_a_piece_size_that_no_manifest_may_have_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"power of two from 16\.0KiB to 16\.0MiB"):
        PieceSizeType().convert(text, None, None)


def test_a_piece_size_between_the_limits_is_taken() -> None:
    assert PieceSizeType().convert("16KiB", None, None) == 16384
    assert PieceSizeType().convert("16MiB", None, None) == 2**24
