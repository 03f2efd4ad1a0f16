"""Paper: an A4 sheet with lines that break well in Chinese and English, tables that go on over pages with their heads
repeated, and footers with the page's number. Knows nothing of capacity.

Lengths are millimetres, letters points. A line may break after a space and beside any Chinese character, but no line
begins with closing or ends with opening punctuation; what has no place to break (an identifier) breaks where it must.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from fpdf import FPDF
from fpdf.enums import XPos, YPos

from benchmarks.capacity.fonts import Face, Faces

Colour = tuple[int, int, int]
INK: Colour = (23, 33, 46)
SOFT: Colour = (85, 98, 115)
LINE: Colour = (216, 222, 230)
WHITE: Colour = (255, 255, 255)
MARK: Colour = (236, 228, 246)
MARGIN = 16.0
LEADING = 1.42
POINT = 25.4 / 72
# An identifier longer than this is broken rather than given all the room.
LONGEST_PIECE = 30.0
# What is no wider than this stands on one line where there is any room for it: times, names of nodes, models.
SHORT_CELL = 27.0
_NOT_FIRST = set("，。；：、！？）》」』】〉”’·%,.;:!?)]}–")
_NOT_LAST = set("（《「『【〈“‘([{")


class Sheet(FPDF):
    """One document in one font family. `foot`: at the left of every page's foot. `mark`: across every page, behind what
    is written there."""

    def __init__(self, faces: Faces, *, title: str, foot: str, made_at_s: float, language: str, mark: str = "") -> None:
        super().__init__(format="A4")
        self._widths: dict[tuple[str, str], float] = {}
        self._foot = foot
        self._mark = mark
        self.set_margins(MARGIN, MARGIN, MARGIN)
        self.c_margin = 0
        self.set_auto_page_break(False)
        self._face("", faces.regular)
        self._face("B", faces.bold)
        self.set_title(title)
        self.set_creator("Suanli")
        self.set_producer("Suanli")
        self.set_lang("zh-CN" if language == "zh" else "en")
        self.set_creation_date(datetime.fromtimestamp(made_at_s, UTC))
        self.bottom = self.h - MARGIN - 6
        self.add_page()

    def _face(self, style: str, face: Face) -> None:
        self.add_font("body", style, face.path, collection_font_number=face.number)

    def header(self) -> None:
        """Called by the library as each page begins."""
        if not self._mark:
            return
        with self.upright():
            self.letters(34, MARK, bold=True)
            for row in range(5):
                for column in range(2):
                    x, y = MARGIN + 8 + 92 * column, 40 + 56 * row
                    with self.rotation(24, x, y):
                        self.set_xy(x, y)
                        self.cell(80, 14, self._mark)

    def footer(self) -> None:
        """Called by the library as each page ends."""
        self.letters(7.5, SOFT)
        self.set_xy(MARGIN, self.h - MARGIN)
        self.cell(self.epw / 2, 5, self._foot)
        self.set_xy(MARGIN + self.epw / 2, self.h - MARGIN)
        self.cell(self.epw / 2, 5, f"{self.page_no()} / {{nb}}", align="R")

    # ---- letters ---------------------------------------------------------------------------------------------------

    def letters(self, size: float, colour: Colour = INK, *, bold: bool = False) -> None:
        self.set_font("body", "B" if bold else "", size)
        self.set_text_color(*colour)

    def width_of(self, text: str) -> float:
        """Of the present letters. Each letter is measured once."""
        style = self.font_style
        total = 0.0
        for letter in text:
            known = self._widths.get((style, letter))
            if known is None:
                known = self.get_string_width(letter) / self.font_size_pt
                self._widths[(style, letter)] = known
            total += known
        return total * self.font_size_pt

    def broken(self, text: str, width: float) -> list[str]:
        """Lines no wider than `width`."""
        lines: list[str] = []
        line = ""
        for piece in _pieces(text):
            if line and self.width_of((line + piece).rstrip()) > width:
                lines.append(line.rstrip())
                line = ""
                piece = piece.lstrip()
            while self.width_of(piece.rstrip()) > width and len(piece) > 1:
                most = next(n for n in range(len(piece), 0, -1) if n == 1 or self.width_of(piece[:n]) <= width)
                lines.append(piece[:most])
                piece = piece[most:]
            line += piece
        if line.strip() or not lines:
            lines.append(line.rstrip())
        return lines

    # ---- flow ------------------------------------------------------------------------------------------------------

    def need(self, height: float) -> None:
        """Start a new page where less than this is left."""
        if self.get_y() + height > self.bottom:
            self.add_page()

    def gap(self, height: float) -> None:
        self.set_y(min(self.bottom, self.get_y() + height))

    def say(
        self,
        text: str,
        size: float = 9.5,
        colour: Colour = INK,
        *,
        bold: bool = False,
        x: float | None = None,
        width: float | None = None,
        align: str = "L",
    ) -> None:
        """A paragraph at the present height; goes on over pages."""
        self.letters(size, colour, bold=bold)
        left, room = MARGIN if x is None else x, self.epw if width is None else width
        height = size * POINT * LEADING
        for line in self.broken(text, room):
            self.need(height)
            self.letters(size, colour, bold=bold)
            self.set_x(left)
            self.cell(room, height, line, align=align, new_x=XPos.LEFT, new_y=YPos.NEXT)

    def tall(self, text: str, size: float, width: float, *, bold: bool = False) -> float:
        """How high `say` would be."""
        self.letters(size, bold=bold)
        return len(self.broken(text, width)) * size * POINT * LEADING

    def heading(self, text: str, size: float, *, before: float, keep: float) -> None:
        """With `keep` millimetres of what follows on the same page."""
        height = self.tall(text, size, self.epw, bold=True)
        self.need(before + height + keep)
        if self.get_y() > MARGIN + 1:
            self.gap(before)
        self.say(text, size, bold=True)

    def rule(self, colour: Colour = LINE, width: float = 0.2) -> None:
        self.set_draw_color(*colour)
        self.set_line_width(width)
        self.line(MARGIN, self.get_y(), MARGIN + self.epw, self.get_y())

    def ruled_table(
        self,
        head: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        right: Sequence[bool],
        size: float = 7.6,
        colour: Colour = INK,
        soft: Colour = SOFT,
    ) -> None:
        """Rows under a head that every page repeats."""
        widths = self._column_widths(head, rows, size)
        self._row(head, widths, right, size, soft, bold=True)
        for row in rows:
            height = self._row_height(row, widths, size, bold=False)
            if self.get_y() + height > self.bottom:
                self.add_page()
                self._row(head, widths, right, size, soft, bold=True)
            self._row(row, widths, right, size, colour, bold=False)

    def _column_widths(self, head: Sequence[str], rows: Sequence[Sequence[str]], size: float) -> list[float]:
        """What stands in each column where there is room for that; else its longest piece that must not be broken, and
        the rest in proportion to what is still wanted."""
        wanted, needed = [], []
        for index, title in enumerate(head):
            self.letters(size, bold=True)
            widths = [self.width_of(title)]
            pieces = [self.width_of(piece.rstrip()) for piece in _pieces(title)]
            self.letters(size)
            for row in rows:
                widths.append(self.width_of(row[index]))
                pieces += [self.width_of(piece.rstrip()) for piece in _pieces(row[index])]
            wanted.append(max(widths) + 3.2)
            needed.append(min(max(pieces, default=0.0), LONGEST_PIECE) + 3.2)
        room = self.epw + 3  # what stands between columns stands not after the last
        spare = room - sum(wanted)
        if spare >= 0:
            return [width + spare / len(wanted) for width in wanted]
        whole = [most if most <= SHORT_CELL else least for least, most in zip(needed, wanted, strict=True)]
        if sum(whole) <= room:
            needed = whole
        left = room - sum(needed)
        if left < 0:
            return [width * room / sum(needed) for width in needed]
        more = sum(wanted) - sum(needed)
        return [least + left * (most - least) / more for least, most in zip(needed, wanted, strict=True)]

    def _row_height(self, row: Sequence[str], widths: Sequence[float], size: float, *, bold: bool) -> float:
        self.letters(size, bold=bold)
        lines = max(len(self.broken(text, width - 3)) for text, width in zip(row, widths, strict=True))
        return lines * size * POINT * 1.3 + 1.8

    def _row(
        self,
        row: Sequence[str],
        widths: Sequence[float],
        right: Sequence[bool],
        size: float,
        colour: Colour,
        *,
        bold: bool,
    ) -> None:
        height = self._row_height(row, widths, size, bold=bold)
        self.need(height)
        top, x = self.get_y(), MARGIN
        self.letters(size, colour, bold=bold)
        each = size * POINT * 1.3
        for text, width, to_right in zip(row, widths, right, strict=True):
            for number, line in enumerate(self.broken(text, width - 3)):
                self.set_xy(x, top + 0.9 + number * each)
                self.cell(width - 3, each, line, align="R" if to_right else "L")
            x += width
        self.set_xy(MARGIN, top + height)
        self.rule(SOFT if bold else LINE, 0.25 if bold else 0.15)

    @contextmanager
    def upright(self) -> Iterator[None]:
        """Drawing inside leaves the place where the text goes on as it was."""
        x, y = self.get_x(), self.get_y()
        yield
        self.set_xy(x, y)


def _pieces(text: str) -> Iterator[str]:
    """What must stay together, in order."""
    piece = ""
    for letter in " ".join(text.split()):
        if piece and _may_break(piece[-1], letter):
            yield piece
            piece = ""
        piece += letter
    if piece:
        yield piece


def _may_break(before: str, after: str) -> bool:
    if after == " " or after in _NOT_FIRST or before in _NOT_LAST:
        return False
    return before == " " or _is_wide(before) or _is_wide(after)


def _is_wide(letter: str) -> bool:
    return "\u2e80" <= letter <= "\u9fff" or "\uac00" <= letter <= "\ud7af" or "\uf900" <= letter <= "\uffef"
