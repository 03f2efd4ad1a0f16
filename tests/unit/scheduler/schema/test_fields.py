"""Durations, sizes and thousandths: what is read, and what is refused rather than guessed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic_core import PydanticCustomError

from scheduler.schema.fields import (
    as_cpus_milli,
    as_share_milli,
    as_size_bytes,
    as_size_or_zero_bytes,
    as_text,
    duration,
    whole,
)
from scheduler.schema.problems import nearest, shown


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (90, 90.0),
        (0.5, 0.5),
        ("90s", 90.0),
        ("15m", 900.0),
        ("2h30m", 9000.0),
        ("1d12h", 129600.0),
        ("1.5h", 5400.0),
        ("1h0.5s", 3600.5),
    ],
)
def test_durations(written: object, seconds: float) -> None:
    assert duration()(written) == seconds


BAD_DURATIONS = ["90", "", " ", "h", "2 h", "30m2h", "2h30", "-5s", "1w", "1e3s", 0, -1, "0s", True, None, [], "400d"]


@pytest.mark.parametrize("written", [*BAD_DURATIONS, float("nan"), float("inf"), 10**400], ids=shown)
def test_what_is_no_duration(written: object) -> None:
    with pytest.raises(PydanticCustomError, match="a duration"):
        duration()(written)


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (1, 1),
        (1073741824, 1 << 30),
        ("512MiB", 512 << 20),
        ("2GiB", 2 << 30),
        ("1.5 GiB", 3 << 29),
        ("100MB", 100_000_000),
        ("7B", 7),
        ("4kB", 4000),
    ],
)
def test_sizes(written: object, size: int) -> None:
    assert as_size_bytes(written) == size


def test_no_memory_asked_is_zero_only_where_that_means_something() -> None:
    assert as_size_or_zero_bytes(0) == 0


BAD_SIZES = ["2G", "2", "GiB", "-1MiB", "0MiB", 0, -5, 1.5, True, None, "1e3MB", "2TiBs", 10**30]


@pytest.mark.parametrize("written", BAD_SIZES)
def test_what_is_no_size(written: object) -> None:
    with pytest.raises(PydanticCustomError, match="a size"):
        as_size_bytes(written)


@pytest.mark.parametrize(
    ("check", "written", "milli"),
    [
        (as_cpus_milli, 1, 1000),
        (as_cpus_milli, 0.5, 500),
        (as_cpus_milli, 2.001, 2001),
        (as_share_milli, 0.25, 250),
        (as_share_milli, 0.001, 1),
        (as_share_milli, 0.999, 999),
        (as_share_milli, 0.57, 570),  # 0.57 * 1000 is 569.99... in floating point
    ],
)
def test_thousandths(check: Callable[[object], int], written: object, milli: int) -> None:
    assert check(written) == milli


@pytest.mark.parametrize(
    ("check", "written"),
    [(as_share_milli, value) for value in (0, 1, 1.0, 0.0005, 0.2501, -0.5, "0.5", True, float("nan"))]
    + [(as_cpus_milli, value) for value in (0, -1, 0.0001, 5000, "2", True, None, float("inf"))],
)
def test_what_is_no_share_or_cpu_count(check: Callable[[object], int], written: object) -> None:
    with pytest.raises(PydanticCustomError, match=r"steps of 0\.001"):
        check(written)


@pytest.mark.parametrize("written", [0, 11, -1, 1.0, "3", True, None])
def test_whole_numbers_are_not_converted(written: object) -> None:
    with pytest.raises(PydanticCustomError, match="a whole number from 1 to 10"):
        whole(1, 10)(written)


@pytest.mark.parametrize("written", [7, 1.5, True, None, "", "  ", "a\0b", "\ud800", [], "x" * 5000])
def test_text_is_text(written: object) -> None:
    with pytest.raises(PydanticCustomError, match="text"):
        as_text(written)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "nothing (null)"),
        (True, "true"),
        (4, "4"),
        (1 << 600, "a number of 601 bits"),
        (0.25, "0.25"),
        ("x", "'x'"),
        ("a\nb", r"'a\nb'"),
        ("x" * 100, repr("x" * 57 + "...")),
        ([1, 2], "a list of 2"),
        ({}, "a mapping with no fields"),
        ({"a": 1, "b\n": 2, 3: 3, "d": 4}, "a mapping (a, b?, 3, ...)"),
    ],
)
def test_values_are_shown_short_on_one_line(value: object, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("low-altitud", ("low-altitude",)), ("EMERGENCY", ("emergency",)), ("xyz", ())],
)
def test_nearest_names(wanted: str, found: tuple[str, ...]) -> None:
    assert nearest(wanted, ["emergency", "low-altitude", "normal"]) == found


def test_a_number_too_long_for_python_to_print_can_be_shown() -> None:
    assert shown(10**6000) == "a number of 19932 bits"
