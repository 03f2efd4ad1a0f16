"""What a table gives up first on a narrow terminal."""

from __future__ import annotations

import pytest

from scheduler.cli.layout import Column, lay_out, width_of

COLUMNS = (
    Column("ID"),
    Column("NAME", cuts=True, least=8),
    Column("TENANT", shed=2),
    Column("CLASS", shed=1),
    Column("ON", folds=True, least=8),
    Column("REASON", folds=True, below=True),
)
ROW = ("17", "a-rather-long-name", "film-studio", "normal", "node-0:0-7 (simulated)", "r" * 30 + " " + "s" * 30)
#       2     18                    11             6         22                        61


@pytest.mark.parametrize(
    ("width", "titles", "below", "left_out"),
    [
        (130, "ID NAME TENANT CLASS ON REASON", "", ""),  # 2+18+11+6+22+61 and five gaps
        (100, "ID NAME TENANT CLASS ON REASON", "", ""),  # narrowed: 2+8+11+6+11+40 and gaps is 88
        (87, "ID NAME TENANT CLASS ON", "REASON", ""),
        (46, "ID NAME TENANT CLASS ON", "REASON", ""),  # 2+8+11+6+11 and four gaps
        (45, "ID NAME CLASS ON", "REASON", "TENANT"),
        (32, "ID NAME ON", "REASON", "TENANT CLASS"),
        (10, "ID NAME ON", "REASON", "TENANT CLASS"),  # no narrower than this, whatever the terminal
    ],
)
def test_what_is_given_up(width: int, titles: str, below: str, left_out: str) -> None:
    layout = lay_out(COLUMNS, [ROW], width)
    assert " ".join(COLUMNS[i].title for i in layout.widths) == titles
    assert " ".join(COLUMNS[i].title for i in layout.below) == below
    assert " ".join(COLUMNS[i].title for i in layout.left_out) == left_out
    used = sum(layout.widths.values()) + 2 * (len(layout.widths) - 1)
    assert used <= max(width, 25)


def test_room_that_is_left_goes_to_the_texts_on_the_right() -> None:
    layout = lay_out(COLUMNS, [ROW], 110)
    assert layout.widths == {0: 2, 1: 8, 2: 11, 3: 6, 4: 12, 5: 61}


def test_short_reasons_stay_in_their_row_where_long_ones_would_not() -> None:
    short = (*ROW[:5], "preempting job 14")
    assert lay_out(COLUMNS, [short], 70).below == ()
    assert lay_out(COLUMNS, [short, ROW], 70).below == (5,)


def test_an_empty_table_has_its_titles() -> None:
    assert lay_out(COLUMNS, [], 80).widths == {0: 2, 1: 4, 2: 6, 3: 5, 4: 2, 5: 6}


@pytest.mark.parametrize(("text", "width"), [("abc", 3), ("磁材", 4), ("é", 1), ("e\u0301", 1), ("", 0), ("ｱ", 1)])
def test_width(text: str, width: int) -> None:
    assert width_of(text) == width
