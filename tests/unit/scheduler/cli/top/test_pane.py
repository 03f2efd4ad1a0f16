"""What stands in a pane: order, filter, cursor, columns; and the lines above it. Without a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from scheduler.cli.device_listing import SiteTotals, Totals
from scheduler.cli.top.header import Condition, header_lines
from scheduler.cli.top.pane import Field, Pane, fitted

Item = tuple[str, float | None]


def pane() -> Pane[Item]:
    return Pane(
        "things",
        "Things",
        [
            Field("NAME", lambda item: item[0], lambda item: item[0], 4, most=12),
            Field("LOAD", _load, lambda item: item[1], 5, right=True, falling=True, shed=1),
            Field("NOTE", lambda item: "磁" * len(item[0]), lambda item: None, 6, rest=True, shed=2),
        ],
        identity=lambda item: item[0],
        text=lambda item: item[0].lower(),
    )


def _load(item: Item) -> str:
    return "" if item[1] is None else f"{item[1]:g}"


def shown(of: Pane[Item]) -> str:
    return "".join(row[0] for row in of.rows)


def filled(items: Sequence[Item]) -> Pane[Item]:
    made = pane()
    made.take(made.arrange(items), 0.0)
    return made


ABC: list[Item] = [("b", 2.0), ("a", None), ("c", 7.0)]


def test_what_is_not_known_comes_last_whichever_way_round() -> None:
    things = filled(ABC)
    assert shown(things) == "abc"
    things.sort_by(1)
    assert shown(things) == "cba"
    things.sort_by(1)
    assert shown(things) == "bca"
    things.turn_round()
    assert shown(things) == "cba"


@pytest.mark.parametrize(
    ("wanted", "found"), [("", "ABAC"), ("a", "ABAC"), ("b", "AB"), ("A c", "AC"), ("!b", "AC"), ("a !b !c", "")]
)
def test_a_filter_wants_every_word(wanted: str, found: str) -> None:
    things = filled([("AB", 1.0), ("AC", 2.0)])
    things.filter(wanted)
    assert shown(things) == found


def test_the_cursor_stays_with_the_row_that_it_was_moved_to() -> None:
    things = filled(ABC)
    things.move_to(1)
    assert things.chosen == ("b", 2.0)
    things.take(things.arrange([("a0", 1.0), *ABC]), 1.0)
    assert (things.chosen, things.cursor, things.top) == (("b", 2.0), 2, 1)
    things.take(things.arrange([("a", None)]), 2.0)
    assert things.chosen == ("a", None)
    things.take(things.arrange([]), 3.0)
    assert things.chosen is None


def test_a_cursor_that_nobody_moved_stays_on_top() -> None:
    things = filled(ABC)
    things.take(things.arrange([("0", 1.0), *ABC]), 1.0)
    assert things.chosen == ("0", 1.0)
    things.move_to(3)
    things.to_top()
    things.take(things.arrange(ABC), 2.0)
    assert things.cursor == 0


def test_rows_that_were_put_in_order_before_the_order_changed_are_put_in_order_anew() -> None:
    things = filled(ABC)
    arranged = things.arrange(ABC)
    things.sort_by(1)
    things.filter("!a")
    things.take(arranged, 1.0)
    assert shown(things) == "cb"


def test_the_search_goes_round() -> None:
    things = filled([("x1", 1.0), ("y", 1.0), ("x2", 1.0)])
    assert things.find("x", after=1)
    assert things.chosen == ("x2", 1.0)
    assert things.find("X", after=things.cursor + 1)
    assert things.chosen == ("x1", 1.0)
    assert not things.find("z", after=0)
    assert not things.find(" ", after=0)


@given(
    st.lists(st.tuples(st.text("ab12", min_size=1, max_size=3), st.none() | st.floats(0, 9)), max_size=30),
    st.lists(st.sampled_from(["down", "up", "end", "top", "sort", "turn", "filter", "take", "page"]), max_size=20),
    st.integers(1, 6),
)
def test_the_cursor_is_always_on_a_row_and_on_the_screen(items: list[Item], steps: list[str], height: int) -> None:
    things = filled(list(dict(items).items()))
    for step in steps:
        match step:
            case "down":
                things.move_to(things.cursor + 1)
            case "up":
                things.move_to(things.cursor - 1)
            case "page":
                things.top += height
                things.move_to(things.cursor + height)
            case "end":
                things.move_to(len(things.rows) - 1)
            case "top":
                things.to_top()
            case "sort":
                things.sort_by(1)
            case "turn":
                things.turn_round()
            case "filter":
                things.filter("" if things.wanted else "a")
            case "take":
                things.take(things.arrange(things.items[::2]), 1.0)
        things.show_within(height)
        if things.rows:
            assert 0 <= things.cursor < len(things.rows)
            assert things.top <= things.cursor < things.top + height
            assert things.top + height <= max(height, len(things.rows))
        else:
            assert things.chosen is None
            assert things.top == 0


# ---- columns -----------------------------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=["C", "M", "Z"])) | st.text("a磁b", max_size=8), st.integers(0, 12))
def test_a_cell_is_exactly_as_wide_as_its_column(text: str, width: int) -> None:
    assert cell_len(fitted(text, width)) == width
    assert cell_len(fitted(text, width, right=True)) == width


@pytest.mark.parametrize(("width", "titles"), [(40, ["NAME", "LOAD", "NOTE"]), (12, ["NAME", "LOAD"]), (5, ["NAME"])])
def test_narrow_screens_shed_columns(width: int, titles: list[str]) -> None:
    things = filled([("a name", 1.0), ("磁材", 2.0)])
    places, gap = things.places(width)
    assert [things.fields[place.at].title for place in places] == titles
    for row in things.rows:
        line = "".join(text for text, _style in things.line(row, places, gap))
        assert cell_len(line) == sum(place.width for place in places) + gap * (len(places) - 1)
        assert cell_len(line) == (width if "NOTE" in titles else cell_len(line))


def test_a_name_cannot_steer_the_terminal() -> None:
    things = filled([("a\x1b[2J\nb", 1.0)])
    line = "".join(text for text, _style in things.line(things.rows[0], *things.places(60)))
    assert not {"\x1b", "\n"} & set(line)


def test_the_column_that_is_sorted_by_shows_which_way() -> None:
    things = filled(ABC)
    things.sort_by(1)
    head = things.head(*things.places(40))
    assert [text.strip() for text, style in head if "reverse" in style] == ["LOAD▼"]


# ---- the lines above ---------------------------------------------------------------------------------------------

REAL = Totals(
    devices=10_000, nodes=1_250, unhealthy=3, used_milli=7_500_000, watts=3.1e6, watts_of=9_990, utilisation=61
)
SIMULATED = Totals(devices=16, nodes=2, used_milli=500, watts=7e3, watts_of=16)
FRESH = Condition(every_s=2.0, age_s=1.0, lost="", paused=False)


def lines(width: int, condition: Condition = FRESH, simulated: Totals = SIMULATED) -> list[str]:
    told = header_lines(
        width, SiteTotals(REAL, simulated), {"running": 12, "pending": 0}, {"ready": 9, "down": 1}, condition
    )
    return [line.plain.rstrip() for line in told]


def test_real_and_simulated_devices_are_summed_apart() -> None:
    _, real, simulated, jobs = lines(160)
    assert real == (
        "real       1,250 nodes, 10,000 devices  [|||||||||||||||     ] 7,500 used (75%)  util 61%  power 3.1 MW"
        " (of 9,990)  3 not schedulable"
    )
    assert (
        simulated == "simulated  2 nodes, 16 devices  [|                   ] 0.5 used (3%)  power 7 kW  util not told"
    )
    assert jobs == "jobs       12 running    nodes: 1 down"
    assert [line.split()[0] for line in lines(160, simulated=Totals())] == ["suanli", "real", "jobs"]


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_no_line_above_is_wider_than_the_screen(width: int) -> None:
    assert all(cell_len(line) <= width for line in lines(width))


def test_power_has_room_on_a_narrow_screen() -> None:
    assert lines(80)[1] == "real       10,000 devices  7,500 used (75%)  util 61%  3.1 MW (of 9,990)  3 ill"


@pytest.mark.parametrize(
    ("width", "said"),
    [
        (
            160,
            f"real       1 node, 2 devices  [{' ' * 20}] 0 used (0%)  util and power not told  1 not schedulable",
        ),
        (80, "real       1 node, 2 devices  0 used (0%)  util and power not told  1 ill"),
        (65, "real       2 devices  0 used (0%)  util and power not told  1 ill"),
    ],
)
def test_what_nothing_tells_is_named_and_no_dash_on_its_own(width: int, said: str) -> None:
    silent = Totals(devices=2, nodes=1, unhealthy=1)
    told = header_lines(width, SiteTotals(silent, Totals()), {}, {}, FRESH)
    assert told[1].plain.rstrip() == said


def test_a_site_without_a_device_has_nothing_to_tell() -> None:
    told = header_lines(80, SiteTotals(Totals(), Totals()), {}, {}, FRESH)
    assert told[1].plain.rstrip() == "real       0 nodes, 0 devices  [                    ] 0 used (0%)"


def test_nodes_and_a_shorter_bar_stay_where_there_is_room_for_them() -> None:
    assert lines(120)[1].startswith("real       1,250 nodes, 10,000 devices  [||||||||  ] 7,500 used (75%)  util 61%")


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (FRESH, "every 2 s"),
        (Condition(2.0, 7.0, "", False), "the service takes its time: 7s old"),
        (Condition(2.0, 75.0, "no service\nanswers", False), "NO ANSWER, what is shown is 1m old: no service answers"),
        (Condition(2.0, None, "no service answers", False), "NO ANSWER, nothing is known yet"),
        (Condition(2.0, 75.0, "", True), "STANDS STILL (p goes on), 1m old"),
    ],
)
def test_it_says_whether_what_is_shown_is_news(condition: Condition, said: str) -> None:
    assert said in lines(120, condition)[0]
