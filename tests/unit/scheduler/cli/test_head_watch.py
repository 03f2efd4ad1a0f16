"""When does a machine join anew after a cut?"""

from __future__ import annotations

import pytest

from scheduler.cli.head_watch import GIVEN_UP_AFTER_S, HeadWatch


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([(0, True), (9, True)], []),
        ([(0, True), (2, False), (2 + GIVEN_UP_AFTER_S - 1, True), (40, True)], []),
        ([(0, True), (2, False), (10, False), (2 + GIVEN_UP_AFTER_S, True), (40, True)], [2 + GIVEN_UP_AFTER_S]),
        ([(0, False), (10, True), (12, False), (20, True)], []),  # twice for a short time is not once for long
        ([(0, False), (50, True), (52, False), (99, True)], [50, 99]),
    ],
)
def test_it_says_once_that_the_head_is_back(answers: list[tuple[float, bool]], expected: list[float]) -> None:
    left = dict(answers)
    now_s = 0.0
    watch = HeadWatch(lambda: left[now_s])
    said = []
    for now_s, _ in answers:
        if watch.came_back(now_s):
            said.append(now_s)
    assert said == expected
