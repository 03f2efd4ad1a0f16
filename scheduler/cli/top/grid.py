"""The table of the live view: draws the lines of a pane that are on the screen, and no others."""

from __future__ import annotations

from typing import Any, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from scheduler.cli.top.pane import Pane, Place, fitted

WHEEL_ROWS = 3
# Reverse video is there without colours, too.
CHOSEN = Style(reverse=True)
NOTHING = Style()


class Grid(Widget, can_focus=True):
    """Shows `pane`. `drawn` counts the rows whose text was made, for whoever asks what it costs. Its keys are the app's
    actions; they stand here, since Tab would otherwise be the screen's."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(keys, f"app.{action}", show=False)
        for keys, action in (
            ("q,f10", "leave"),
            ("ctrl+z", "suspend_process"),
            ("tab,t", "pane(1)"),
            ("shift+tab", "pane(-1)"),
            ("1", "go('nodes')"),
            ("2", "go('devices')"),
            ("3", "go('queue')"),
            ("4", "go('services')"),
            ("up", "move(-1)"),
            ("down", "move(1)"),
            ("pageup", "page(-1)"),
            ("pagedown", "page(1)"),
            ("home", "end(False)"),
            ("end", "end(True)"),
            ("slash,f3", "search"),
            ("n", "search_on"),
            ("backslash,f4", "filter"),
            ("greater_than_sign,f6", "sort"),
            ("I", "turn_round"),
            ("enter", "details"),
            ("k,f9", "cancel"),
            ("d", "drain"),
            ("space,p", "pause"),
            ("r,f5", "now"),
            ("h,question_mark,f1", "help"),
        )
    ]

    class Opened(Message):
        """Enter, or a second click, on the chosen row."""

    def __init__(self, pane: Pane[Any]) -> None:
        super().__init__()
        self.pane = pane
        self.drawn = 0
        self._places: list[Place] = []
        self._gap = 1
        self._laid_out: Size | None = None

    def show(self, pane: Pane[Any] | None = None) -> None:
        """Draw anew: another pane, or what has changed in this one."""
        if pane is not None:
            self.pane = pane
        self._lay_out()
        self.refresh()

    def _lay_out(self) -> None:
        self._laid_out = self.size
        self.pane.show_within(self.page)
        self._places, self._gap = self.pane.places(self.size.width)

    @property
    def page(self) -> int:
        """Rows that fit under the titles."""
        return max(1, self.size.height - 1)

    # -- drawing ---------------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        if self.size != self._laid_out:
            self._lay_out()
        width = self.size.width
        if y == 0:
            return _strip(self.pane.head(self._places, self._gap), width, NOTHING)
        at = self.pane.top + y - 1
        if at < len(self.pane.rows):
            self.drawn += 1
            pieces = self.pane.line(self.pane.rows[at], self._places, self._gap)
            return _strip(pieces, width, CHOSEN if at == self.pane.cursor else NOTHING)
        if y == 1 and not self.pane.rows:
            return _strip([(fitted(self._why_empty(), width), "dim")], width, NOTHING)
        return Strip.blank(width)

    def _why_empty(self) -> str:
        if self.pane.problem:
            return self.pane.problem
        if self.pane.at_s is None:
            return "asking ..."
        return f"nothing here matches {self.pane.wanted!r}" if self.pane.wanted else self.pane.none

    # -- moving ----------------------------------------------------------------------------------------------------

    def move(self, rows: int) -> None:
        self.pane.move_to(self.pane.cursor + rows)
        self.show()

    def turn_page(self, pages: int) -> None:
        self.pane.top += pages * self.page
        self.move(pages * self.page)

    def to_end(self, *, last: bool) -> None:
        if last:
            self.pane.move_to(len(self.pane.rows) - 1)
        else:
            self.pane.to_top()
        self.show()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.move(WHEEL_ROWS)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.move(-WHEEL_ROWS)

    def on_click(self, event: events.Click) -> None:
        at = self.pane.top + event.y - 1
        if event.y == 0:
            self._sort_at(event.x)
        elif at < len(self.pane.rows):
            again = at == self.pane.cursor
            self.pane.move_to(at)
            self.show()
            if again:
                self.post_message(self.Opened())

    def _sort_at(self, x: int) -> None:
        start = 0
        for place in self._places:
            if start <= x < start + place.width:
                self.pane.sort_by(place.at)
                self.show()
                return
            start += place.width + self._gap


def _strip(pieces: list[tuple[str, str]], width: int, under: Style) -> Strip:
    """A line of exactly `width` cells."""
    if under is CHOSEN:  # one bar of one colour
        pieces = [("".join(text for text, _style in pieces), "")]
    segments = [Segment(text, Style.parse(style) + under if style else under) for text, style in pieces]
    strip = Strip(segments)
    return strip.adjust_cell_length(width, under)
