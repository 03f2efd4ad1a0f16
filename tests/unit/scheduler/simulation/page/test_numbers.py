"""Figures as people say them, and marks of axes where people look for them."""

import pytest

from scheduler.simulation.page import scales
from scheduler.simulation.page.numbers import Numbers, short
from scheduler.simulation.page.svg import fit
from scheduler.simulation.page.words import Words

MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86400.0


@pytest.mark.parametrize(
    ("seconds", "english", "chinese"),
    [
        (None, "–", "–"),
        (0, "0 s", "0 秒"),
        (0.25, "0.25 s", "0.25 秒"),
        (9.96, "10 s", "10 秒"),
        (59.6, "1 min", "1 分"),
        (307, "5 min 07 s", "5 分 07 秒"),
        (599.6, "10 min", "10 分"),
        (3 * HOUR_S + 5 * MINUTE_S, "3 h 05 min", "3 小时 05 分"),
        (3599, "1 h", "1 小时"),
        (DAY_S - 1, "1 d", "1 天"),
        (1.2 * DAY_S, "1.2 d", "1.2 天"),
        (1500 * DAY_S, "1,500 d", "1,500 天"),
        (-90, "−1 min 30 s", "−1 分 30 秒"),
    ],
)
def test_durations(seconds, english, chinese):
    assert [Numbers(Words(lang)).duration(seconds).replace("\u00a0", " ") for lang in ("en", "zh")] == [
        english,
        chinese,
    ]


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (None, "–"),
        (0, "0 %"),
        (0.0001, "<0.1 %"),
        (0.934, "93.4 %"),
        (0.9997, "99.97 %"),
        (0.999999, "99.99 %"),
        (1, "100 %"),
        (1.5, "150.0 %"),
    ],
)
def test_shares_say_all_and_nothing_only_where_it_is_so(share, said):
    assert Numbers(Words("en")).percent(share).replace("\u00a0", " ") == said


@pytest.mark.parametrize(
    ("value", "said"), [(0, "0"), (0.5, "0.5"), (2500, "2,500"), (12500, "12.5k"), (3e6, "3M"), (2e9, "2G")]
)
def test_marks_of_an_axis_are_short(value, said):
    assert short(value) == said


@pytest.mark.parametrize(
    ("top", "whole", "marks"),
    [
        (0, False, (0, 1)),
        (1, False, (0, 0.2, 0.4, 0.6, 0.8, 1)),
        (3, True, (0, 1, 2, 3)),
        (2, True, (0, 1, 2)),
        (780, True, (0, 200, 400, 600, 800)),
        (5e-324, False, (0, 1)),
    ],
)
def test_marks_of_numbers_are_round_and_reach_the_top(top, whole, marks):
    assert scales.linear_marks(top, whole=whole) == pytest.approx(marks)


@pytest.mark.parametrize(
    ("end_s", "step_s", "count"),
    [(420, 120, 4), (6 * HOUR_S, HOUR_S, 7), (7 * DAY_S, 2 * DAY_S, 4), (1e12, 2e6 * DAY_S, 6)],
)
def test_marks_of_time_are_whole_minutes_hours_and_days(end_s, step_s, count):
    marks, step = scales.time_marks(end_s)
    assert (step, len(marks)) == (step_s, count)
    assert marks[-1] <= end_s


@pytest.mark.parametrize(
    ("lowest_s", "highest_s", "first_s", "last_s"),
    [
        (0, 0, 1, 10),
        (0.1, 5, 1, 10),
        (70, 80, 60, 600),
        (1, 9 * DAY_S, 1, 30 * DAY_S),
        (4000, 4000, HOUR_S, 6 * HOUR_S),
    ],
)
def test_the_logarithmic_axis_holds_all_values_and_never_starts_under_a_second(lowest_s, highest_s, first_s, last_s):
    marks = scales.log_marks(lowest_s, highest_s)
    assert (marks[0], marks[-1]) == (first_s, last_s)
    assert scales.log_place(0, marks) == 0
    assert scales.log_place(1e300, marks) == 1


def test_words_of_an_axis_keep_their_distance_and_the_first_asked_win():
    assert scales.with_room((0, 30, 60, 90, 100), 50, first=(4,)) == (0, 4)


@pytest.mark.parametrize(("text", "said"), [("short", "short"), ("a longer one", "a long…"), ("磁性材料工厂", "磁性…")])
def test_long_names_are_cut_by_their_width(text, said):
    assert fit(text, 7) == said
