"""What stands in one pane of the live view: which rows in which order, which columns at which width. Pure.

Nothing here costs more than a sort of all rows; the text of a cell is made when its line is drawn, and no line is drawn
that is not on the screen. The cursor stays with the row that a person moved it to, wherever that goes; while nobody has
moved it, it stays on top.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rich.cells import cell_len, set_cell_size

from scheduler.cli.render import one_line

Row = TypeVar("Row")
DASH = "-"
ELLIPSIS = "…"
STATE_STYLES = {
    "pending": "yellow",
    "starting": "cyan",
    "running": "green",
    "preempting": "magenta",
    "ready": "green",
    "schedulable": "green",
    "serving": "green",
    "down": "bold red",
    "failed": "bold red",
    "cordoned": "bold yellow",
}
OTHERWISE = "yellow"


@dataclass(frozen=True, slots=True)
class Field(Generic[Row]):
    """A column. `cell` is its text ("": a dash), `key` what it is sorted by (None: not known, always last), `falling`
    whether the greatest comes first. `width`: as wide as this; `most`: as wide as its widest text, from `width` up to
    this. `rest`: it takes what is left, and is not there below `width`. `shed`: the highest goes first where there is
    no room. `style` may depend on the text."""

    title: str
    cell: Callable[[Row], str]
    key: Callable[[Row], Any]
    width: int
    most: int = 0
    right: bool = False
    falling: bool = False
    rest: bool = False
    shed: int = 0
    style: Callable[[Row, str], str] | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A column on the screen: which field, how wide."""

    at: int
    width: int


@dataclass(frozen=True, slots=True)
class Order:
    """By which column rows are sorted and which words they must have."""

    sort: int
    reverse: bool
    wanted: str


@dataclass(frozen=True, slots=True)
class Arranged(Generic[Row]):
    """Rows in their order, ready to be shown: what costs most, and may be made in another thread (`Pane.arrange`)."""

    items: Sequence[Row]
    rows: Sequence[Row]
    order: Order
    widest: dict[int, int]


def state_style(_row: object, text: str) -> str:
    return STATE_STYLES.get(text, OTHERWISE)


class Pane(Generic[Row]):
    """`identity` names a row for good; `text` is what searching and filtering look at, in lower case."""

    def __init__(
        self,
        name: str,
        title: str,
        fields: Sequence[Field[Row]],
        *,
        identity: Callable[[Row], Hashable],
        text: Callable[[Row], str],
        sort: int = 0,
        none: str = "none",
    ) -> None:
        self.name = name
        self.title = title
        self.none = none
        """What is said where there is no row at all."""
        self.fields = tuple(fields)
        self.problem = ""
        """Why there is nothing to show, or nothing new."""
        self.at_s: float | None = None
        """When its rows were told, by the clock that does not jump."""
        self.items: Sequence[Row] = ()
        self.rows: Sequence[Row] = ()
        self.more = ""
        """What is said beside the count of rows."""
        self.sort = sort
        self.reverse = self.fields[sort].falling
        self.wanted = ""
        self.cursor = 0
        self.top = 0
        self._identity = identity
        self._text = text
        self._held: Hashable | None = None
        self._widest: dict[int, int] = {}
        self._kept_texts: tuple[Sequence[Row], list[str]] = ((), [])

    # -- rows ------------------------------------------------------------------------------------------------------

    @property
    def order(self) -> Order:
        return Order(self.sort, self.reverse, self.wanted)

    def arrange(self, items: Sequence[Row]) -> Arranged[Row]:
        """Changes nothing. `items` in the order in which equals stand."""
        order = self.order
        widest = {
            at: min(field.most, max(map(_width, {field.cell(item) for item in items}), default=0))
            for at, field in enumerate(self.fields)
            if field.most
        }
        return Arranged(items, self._ordered(items, order), order, widest)

    def take(self, arranged: Arranged[Row], at_s: float) -> None:
        """New rows; what was arranged by another order than there is now is arranged anew."""
        self.items = arranged.items
        self.at_s = at_s
        self.problem = ""
        self._widest = arranged.widest
        if arranged.order == self.order:
            self.rows = arranged.rows
            self._follow()
        else:
            self._arrange()

    def sort_by(self, at: int) -> None:
        """Chosen once more, a column is turned round."""
        self.reverse = not self.reverse if at == self.sort else self.fields[at].falling
        self.sort = at
        self._arrange()

    def turn_round(self) -> None:
        self.reverse = not self.reverse
        self._arrange()

    def filter(self, wanted: str) -> None:
        """Only rows that have every word of `wanted` in them; a word with `!` before it must not be there."""
        self.wanted = wanted
        self._arrange()

    def _arrange(self) -> None:
        self.rows = self._ordered(self.items, self.order)
        self._follow()

    def _ordered(self, items: Sequence[Row], order: Order) -> Sequence[Row]:
        words = order.wanted.lower().split()
        rows: Sequence[Row] = items
        if words:
            rows = [item for item, text in zip(items, self._texts(items), strict=True) if matches(text, words)]
        key = self.fields[order.sort].key
        known: list[tuple[Any, Row]] = []
        unknown: list[Row] = []
        for row in rows:
            value = key(row)
            if value is None:
                unknown.append(row)
            else:
                known.append((value, row))
        known.sort(key=_first, reverse=order.reverse)
        return [row for _value, row in known] + unknown

    def _texts(self, items: Sequence[Row]) -> list[str]:
        """Kept for as long as the rows are the same, as whoever types a filter asks for them with each letter."""
        of, texts = self._kept_texts
        if of is not items:
            texts = [self._text(item) for item in items]
            self._kept_texts = items, texts
        return texts

    # -- the cursor ------------------------------------------------------------------------------------------------

    @property
    def chosen(self) -> Row | None:
        return self.rows[self.cursor] if self.rows else None

    def move_to(self, index: int) -> None:
        self.cursor = max(0, min(index, len(self.rows) - 1))
        self._held = self._identity(self.rows[self.cursor]) if self.rows else None

    def to_top(self) -> None:
        """Where the cursor stays on top, whatever comes to stand there."""
        self.cursor = self.top = 0
        self._held = None

    def _follow(self) -> None:
        before = self.cursor
        if self._held is not None:
            held, identity = self._held, self._identity
            found = next((at for at, row in enumerate(self.rows) if identity(row) == held), None)
            if found is not None:
                self.cursor = found
        self.cursor = max(0, min(self.cursor, len(self.rows) - 1))
        self.top += self.cursor - before  # its line on the screen stays where it is

    def show_within(self, height: int) -> None:
        """Scroll so that the cursor is on a screen of so many rows."""
        self.top = max(0, min(self.top, self.cursor, len(self.rows) - height))
        self.top = max(self.top, self.cursor - height + 1)

    def find(self, text: str, *, after: int) -> bool:
        """Put the cursor on the next row with all words of `text` from `after` on, and round; is there one?"""
        words = text.lower().split()
        if not words:
            return False
        for step in range(len(self.rows)):
            at = (after + step) % len(self.rows)
            if matches(self._text(self.rows[at]), words):
                self.move_to(at)
                return True
        return False

    # -- columns ---------------------------------------------------------------------------------------------------

    def places(self, width: int) -> tuple[list[Place], int]:
        """The columns that fit into `width` cells, and how far apart they stand (2, or 1 where that saves a column)."""
        for gap in (2, 1):
            places = self._fit(width, gap, shed=False)
            if places is not None:
                return places, gap
        found = self._fit(width, 1, shed=True)
        assert found is not None
        return found, 1

    def _fit(self, width: int, gap: int, *, shed: bool) -> list[Place] | None:
        wide = [max(_width(field.title), self._widest.get(at, 0), field.width) for at, field in enumerate(self.fields)]
        shown = list(range(len(self.fields)))
        while sum(wide[at] for at in shown) + gap * (len(shown) - 1) > width:
            expendable = [at for at in shown if self.fields[at].shed]
            if not shed:
                return None
            if not expendable:
                break
            shown.remove(max(expendable, key=lambda at: self.fields[at].shed))
        left = width - sum(wide[at] for at in shown) - gap * (len(shown) - 1)
        return [Place(at, wide[at] + (left if self.fields[at].rest and left > 0 else 0)) for at in shown]

    def line(self, row: Row, places: Sequence[Place], gap: int) -> list[tuple[str, str]]:
        """The pieces of a line with their styles, each column at its width."""
        pieces: list[tuple[str, str]] = []
        for number, place in enumerate(places):
            field = self.fields[place.at]
            text = one_line(field.cell(row)) or DASH
            style = field.style(row, text) if field.style is not None else ""
            pieces.append((fitted(text, place.width, right=field.right), style))
            if number + 1 < len(places):
                pieces.append((" " * gap, ""))
        return pieces

    def head(self, places: Sequence[Place], gap: int) -> list[tuple[str, str]]:
        """The titles, the one that is sorted by with its direction."""
        pieces: list[tuple[str, str]] = []
        for number, place in enumerate(places):
            field = self.fields[place.at]
            text, style = field.title, "bold"
            if place.at == self.sort:
                arrow = "▼" if self.reverse else "▲"
                text, style = (text if _width(text) >= place.width else text + arrow), "bold reverse"
            pieces.append((fitted(text, place.width, right=field.right), style))
            if number + 1 < len(places):
                pieces.append((" " * gap, "bold"))
        return pieces


def matches(text: str, words: Sequence[str]) -> bool:
    """Are all of `words` in it, and none that has a `!` before it?"""
    return all((word[1:] not in text) if word[0] == "!" and word[1:] else word in text for word in words)


def _first(pair: tuple[Any, object]) -> Any:
    return pair[0]


def _width(text: str) -> int:
    return len(text) if text.isascii() else cell_len(text)


def fitted(text: str, width: int, *, right: bool = False) -> str:
    """`text` in exactly `width` cells: filled up, or cut with an ellipsis. A wide character is never halved."""
    if text.isascii():
        if len(text) > width:
            return text[: width - 1] + ELLIPSIS if width > 0 else ""
        return text.rjust(width) if right else text.ljust(width)
    cells = cell_len(text)
    if cells > width:
        return set_cell_size(text, width - 1) + ELLIPSIS if width > 0 else ""
    space = " " * (width - cells)
    return space + text if right else text + space
