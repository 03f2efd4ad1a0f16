"""How wide each column of a table becomes on a terminal of a given width. Pure.

In order: everything beside each other at full width; long texts that have a place of their own go below their row; the
most expendable columns are left out; columns that may be broken or cut are narrowed.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

GAP = 2
INLINE_AT_LEAST = 40  # a `below` column stays in its row when it gets its full width or this


@dataclass(frozen=True, slots=True)
class Column:
    """`folds`: its cells may be broken between words over several lines; `cuts`: they may be cut short with an
    ellipsis; either down to `least` characters. `below`: where there is no room its text goes on lines of its own under
    the row. `shed`: columns with the highest number are left out first; 0 stays always. `styled`: coloured by its word.
    """

    title: str
    right: bool = False
    folds: bool = False
    cuts: bool = False
    least: int = 16
    below: bool = False
    shed: int = 0
    styled: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """Indices of the columns in the row with their widths, of those below it, and of those left out."""

    widths: dict[int, int]
    below: tuple[int, ...]
    left_out: tuple[int, ...]


def width_of(text: str) -> int:
    """Cells on a terminal: wide East Asian characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def lay_out(columns: Sequence[Column], rows: Sequence[Sequence[str]], terminal_width: int) -> Layout:
    full = [max([width_of(c.title), *(width_of(row[i]) for row in rows)]) for i, c in enumerate(columns)]
    least = [_least(columns[i], [row[i] for row in rows], full[i]) for i in range(len(columns))]
    in_row = list(range(len(columns)))
    below: list[int] = []
    inline = [min(full[i], max(least[i], INLINE_AT_LEAST)) if columns[i].below else least[i] for i in in_row]
    if _total(inline, in_row) > terminal_width:
        below = [i for i in in_row if columns[i].below]
        in_row = [i for i in in_row if not columns[i].below]
    else:
        least = inline
    left_out: list[int] = []
    while _total(least, in_row) > terminal_width:
        expendable = [i for i in in_row if columns[i].shed]
        if not expendable:
            break
        out = max(expendable, key=lambda i: columns[i].shed)
        in_row.remove(out)
        left_out.append(out)
    return Layout(_widened(in_row, least, full, terminal_width), tuple(below), tuple(sorted(left_out)))


def _least(column: Column, cells: Sequence[str], full: int) -> int:
    if column.cuts:
        return min(full, max(column.least, width_of(column.title)))
    if column.folds:
        # Never narrower than the longest word that a person would want to copy, within reason.
        longest_word = max((width_of(word) for cell in cells for word in cell.split()), default=0)
        return min(full, max(column.least, width_of(column.title), min(longest_word, 2 * column.least)))
    return full


def _total(widths: Sequence[int], kept: Sequence[int]) -> int:
    return sum(widths[i] for i in kept) + GAP * max(0, len(kept) - 1)


def _widened(in_row: Sequence[int], least: Sequence[int], full: Sequence[int], terminal_width: int) -> dict[int, int]:
    """Hand out what is left over, from the last column that wants more to the first: texts stand on the right."""
    widths = {i: least[i] for i in in_row}
    spare = terminal_width - _total(least, in_row)
    for i in reversed(in_row):
        more = max(0, min(spare, full[i] - widths[i]))
        widths[i] += more
        spare -= more
    return widths
