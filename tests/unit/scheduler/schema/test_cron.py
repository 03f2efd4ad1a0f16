"""When a recurring job comes next, in zones whose clocks are set twice a year and in others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from scheduler.schema.cron import as_cron, as_zone, local_zone, next_after

NEW_YORK, SHANGHAI, LORD_HOWE = "America/New_York", "Asia/Shanghai", "Australia/Lord_Howe"


def at(text: str, zone: str = "UTC", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def times(cron: str, zone: str, after: str, count: int, fold: int = 0) -> list[str]:
    """Local times with their offset from UTC in hours."""
    found, after_s = [], at(after, zone, fold)
    for _ in range(count):
        next_s = next_after(cron, zone, after_s)
        assert next_s is not None
        moment = datetime.fromtimestamp(next_s, ZoneInfo(zone))
        offset = moment.utcoffset()
        assert offset is not None
        found.append(f"{moment:%m-%d %H:%M} {offset / timedelta(hours=1):+g}")
        after_s = next_s
    return found


def test_every_night_at_two_where_no_clock_is_set() -> None:
    assert times("0 2 * * *", SHANGHAI, "2026-11-28 02:00:00", 2) == ["11-29 02:00 +8", "11-30 02:00 +8"]
    assert next_after("0 2 * * *", SHANGHAI, at("2026-11-28 01:59:59", SHANGHAI)) == at("2026-11-27 18:00")


def test_a_time_that_the_clocks_skip_counts_at_the_first_moment_after_the_gap() -> None:
    """In New York 02:00 to 03:00 is missing on 8 March 2026."""
    expected = ["03-07 02:30 -5", "03-08 03:00 -4", "03-09 02:30 -4"]
    assert times("30 2 * * *", NEW_YORK, "2026-03-06 12:00", 3) == expected
    assert times("0,30 2 * * *", NEW_YORK, "2026-03-08 01:00", 2) == ["03-08 03:00 -4", "03-09 02:00 -4"]


def test_a_time_that_comes_twice_counts_the_first_time_alone() -> None:
    """In New York 01:00 to 02:00 comes twice on 1 November 2026."""
    expected = ["10-31 01:30 -4", "11-01 01:30 -4", "11-02 01:30 -5"]
    assert times("30 1 * * *", NEW_YORK, "2026-10-30 12:00", 3) == expected
    # Also for who asks within the second turn of that hour: not a time that is over.
    assert times("30 1 * * *", NEW_YORK, "2026-11-01 01:10", 1, fold=1) == ["11-02 01:30 -5"]


def test_every_hour_goes_by_elapsed_time() -> None:
    assert times("0 * * * *", NEW_YORK, "2026-11-01 00:30", 3) == ["11-01 01:00 -4", "11-01 01:00 -5", "11-01 02:00 -5"]
    assert times("0 * * * *", NEW_YORK, "2026-03-08 00:30", 2) == ["03-08 01:00 -5", "03-08 03:00 -4"]


def test_clocks_that_are_set_by_half_an_hour() -> None:
    expected = ["10-03 02:15 +10.5", "10-04 02:30 +11", "10-05 02:15 +11"]
    assert times("15 2 * * *", LORD_HOWE, "2026-10-02 12:00", 3) == expected


@pytest.mark.parametrize("zone", [NEW_YORK, SHANGHAI, LORD_HOWE, "Europe/Berlin", "UTC"])
@pytest.mark.parametrize("cron", ["0 2 * * *", "30 1 * * *", "15 2 * * 0", "*/20 * * * *", "0 */6 * * *"])
@given(after_s=st.integers(int(at("2026-01-01")), int(at("2028-01-01"))))
def test_the_next_time_is_later_and_none_lies_between(cron: str, zone: str, after_s: int) -> None:
    next_s = next_after(cron, zone, after_s)
    assert next_s is not None
    assert next_s > after_s
    # Whoever looks again on the way there is told the same: a service that restarts loses none and adds none.
    assert next_after(cron, zone, (after_s + next_s) // 2) == next_s or (after_s + next_s) // 2 >= next_s
    assert next_after(cron, zone, next_s - 1) == next_s


def test_a_daily_time_comes_once_on_every_day_of_the_year() -> None:
    for zone in (NEW_YORK, "Europe/Berlin", LORD_HOWE):
        for cron in ("30 1 * * *", "15 2 * * *", "30 2 * * *", "0 3 * * *"):
            days, after_s = [], at("2026-01-01", zone) - 1
            while (after_s := next_after(cron, zone, after_s) or 0.0) < at("2027-01-01", zone):
                days.append(datetime.fromtimestamp(after_s, ZoneInfo(zone)).date())
            assert len(days) == len(set(days)) == 365, (zone, cron)


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("0 2 * *", "five fields"),
        ("0 0 2 * * *", "five fields"),
        ("0 25 * * *", "bad hour"),
        ("@daily", "five fields"),
        (5, "five fields"),
        ("0 0 30 2 *", "bad day-of-month"),
        ("* * * * " + "1," * 200 + "1", "five fields"),
    ],
)
def test_what_is_no_cron_expression(written: object, says: str) -> None:
    with pytest.raises(PydanticCustomError) as caught:
        as_cron(written)
    assert says in str(caught.value)


def test_zones_are_names_that_this_machine_knows() -> None:
    assert as_zone(SHANGHAI) == SHANGHAI
    for wrong in ("Asia/Shanghia", "../../etc/passwd", "+08:00", "", 8, "A" * 200):
        with pytest.raises(PydanticCustomError, match="time zone"):
            as_zone(wrong)
    with pytest.raises(PydanticCustomError, match="did you mean Asia/Shanghai"):
        as_zone("Asia/Shanghia")


def test_the_machines_own_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", ":Europe/Berlin")
    assert local_zone() == "Europe/Berlin"
    monkeypatch.setenv("TZ", "nonsense")
    monkeypatch.setattr(Path, "resolve", lambda self: Path("/usr/share/zoneinfo/Asia/Tokyo"))
    assert local_zone() == "Asia/Tokyo"
    monkeypatch.setattr(Path, "resolve", lambda self: Path("/etc/localtime"))
    assert local_zone() == "UTC"


def test_nothing_comes_of_what_was_never_checked() -> None:
    assert next_after("no cron", "UTC", 0.0) is None
    assert next_after("0 0 31 2 *", "UTC", 0.0) is None
    assert datetime.fromtimestamp(next_after("0 0 29 2 *", "UTC", at("2027-01-01")) or 0, UTC).year == 2028
